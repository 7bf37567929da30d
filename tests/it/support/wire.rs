//! HTTP/1.1 messages as bytes (RFC 9112): just enough to find where a message ends. For the raw
//! client and the raw upstream.

/// The head of a message, and its length in bytes.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) first_line: String,
    /// In the order and spelling received.
    pub(super) headers: Vec<(String, String)>,
    pub(super) length: usize,
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    Length(usize),
    UntilClose,
}

/// A body without its framing, and its length in bytes with the framing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Body {
    pub(super) content: Vec<u8>,
    pub(super) length: usize,
}

impl Head {
    /// `None` until the blank line has arrived.
    ///
    /// # Panics
    ///
    /// If a field line has no colon: neither the gateway nor a fixture may send one.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
        let text = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = text.split("\r\n").map(str::to_owned);
        let first_line = lines.next().unwrap_or_default();
        let headers = lines
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("not a field line: {line:?}"));
                (name.to_owned(), value.trim().to_owned())
            })
            .collect();
        Some(Self { first_line, headers, length: end + 4 })
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    /// How the body after this head ends (RFC 9112 §6.3); `otherwise` if the head does not say.
    ///
    /// # Panics
    ///
    /// If the head is ambiguous: neither the gateway nor a fixture may send such a message.
    pub(super) fn framing(&self, otherwise: Framing) -> Framing {
        let lengths = self.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("content-length")).count();
        match (self.header("transfer-encoding"), self.header("content-length")) {
            (Some(coding), None) => {
                assert!(coding.eq_ignore_ascii_case("chunked"), "unexpected coding: {self:?}");
                Framing::Chunked
            }
            (None, Some(length)) => {
                assert_eq!(lengths, 1, "several lengths: {self:?}");
                Framing::Length(length.parse().unwrap_or_else(|_| panic!("not a length: {self:?}")))
            }
            (None, None) => otherwise,
            (Some(_), Some(_)) => panic!("two framings: {self:?}"),
        }
    }
}

impl Body {
    /// `None` while bytes are missing. `closed` says that no more will arrive.
    pub(super) fn parse(framing: Framing, bytes: &[u8], closed: bool) -> Option<Self> {
        match framing {
            Framing::Chunked => Self::parse_chunked(bytes),
            Framing::Length(length) => bytes.get(..length).map(|content| Self { content: content.to_vec(), length }),
            Framing::UntilClose => closed.then(|| Self { content: bytes.to_vec(), length: bytes.len() }),
        }
    }

    /// RFC 9112 §7.1. Skips trailers.
    fn parse_chunked(bytes: &[u8]) -> Option<Self> {
        let (mut content, mut at) = (Vec::new(), 0);
        loop {
            let line = line(bytes, at)?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
            at += line.len() + 2;
            if size == 0 {
                break;
            }
            content.extend_from_slice(bytes.get(at..at + size)?);
            assert_eq!(bytes.get(at + size..at + size + 2)?, b"\r\n", "a chunk ends with CRLF");
            at += size + 2;
        }
        loop {
            let trailer = line(bytes, at)?;
            at += trailer.len() + 2;
            if trailer.is_empty() {
                return Some(Self { content, length: at });
            }
        }
    }
}

/// The first field of that name, in any case.
pub(super) fn find<'a>(headers: &'a [(String, String)], name: &str) -> Option<&'a str> {
    headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The line that starts at `from`, without its end; `None` until its end has arrived.
fn line(bytes: &[u8], from: usize) -> Option<&str> {
    let rest = bytes.get(from..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    Some(std::str::from_utf8(&rest[..end]).expect("chunk sizes and trailers are ASCII"))
}
