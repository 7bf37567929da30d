//! Readings of a path.

/// How a backend may read a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    AsWritten,
    Decoded,
    /// Decoded, and then parameters cut off, escaped ones too.
    DecodedThenCut,
    /// Parameters cut off, and then decoded.
    CutThenDecoded,
}

impl Reading {
    pub(super) fn of(self, segment: &str) -> &str {
        match self {
            Self::AsWritten | Self::Decoded => segment,
            Self::CutThenDecoded => segment.split(';').next().unwrap_or(segment),
            Self::DecodedThenCut => {
                let end = segment.find(';').into_iter().chain(segment.find("%3B")).min();
                &segment[..end.unwrap_or(segment.len())]
            }
        }
    }
}
