//! Where a chunked body ends (RFC 9112 §7.1). Accepts what hyper's decoder accepts.

/// Where the next byte of a chunked body belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChunkPosition {
    /// The size so far.
    Size(u64),
    /// After the size: white space and extensions.
    Extension(u64),
    SizeEnd(u64),
    Data(u64),
    DataCr,
    DataEnd,
    Trailer,
    InTrailer,
    TrailerEnd,
    LastEnd,
}

/// What follows in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterChunk {
    /// More of the body.
    Body(ChunkPosition),
    /// Nothing: it has ended.
    End,
    /// Nothing that makes sense: hyper refuses it.
    Malformed,
}

impl ChunkPosition {
    /// Of a body's first byte.
    pub(super) const FIRST: Self = Self::Size(0);

    /// Where the byte after those of `bytes` that belong together belongs, and how many these are:
    /// at least one. `bytes` must not be empty.
    pub(super) fn advance(self, bytes: &[u8]) -> (AfterChunk, usize) {
        if let Self::Data(left) = self {
            let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            let left = left - count as u64;
            return (AfterChunk::Body(if left == 0 { Self::DataCr } else { Self::Data(left) }), count);
        }
        let byte = bytes[0];
        // `None` where hyper refuses the body.
        let next = match self {
            Self::Size(size) => match byte {
                b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F' => {
                    let digit = char::from(byte).to_digit(16).map_or(0, u64::from);
                    size.checked_mul(16).map(|size| Self::Size(size + digit))
                }
                b' ' | b'\t' | b';' => Some(Self::Extension(size)),
                b'\r' => Some(Self::SizeEnd(size)),
                _ => None,
            },
            Self::Extension(size) => match byte {
                b'\r' => Some(Self::SizeEnd(size)),
                b'\n' => None,
                _ => Some(self),
            },
            Self::SizeEnd(0) | Self::TrailerEnd => (byte == b'\n').then_some(Self::Trailer),
            Self::SizeEnd(size) => (byte == b'\n').then_some(Self::Data(size)),
            Self::Data(_) => Some(self),
            Self::DataCr => (byte == b'\r').then_some(Self::DataEnd),
            Self::DataEnd => (byte == b'\n').then_some(Self::Size(0)),
            Self::Trailer => Some(if byte == b'\r' { Self::LastEnd } else { Self::InTrailer }),
            Self::InTrailer => Some(if byte == b'\r' { Self::TrailerEnd } else { Self::InTrailer }),
            Self::LastEnd if byte == b'\n' => return (AfterChunk::End, 1),
            Self::LastEnd => None,
        };
        (next.map_or(AfterChunk::Malformed, AfterChunk::Body), 1)
    }
}
