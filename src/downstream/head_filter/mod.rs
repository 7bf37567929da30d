//! Request heads before hyper reads them: what hyper and its URI type do not let the gateway see.
//!
//! - A request with `Content-Length` and `Transfer-Encoding` is how requests are smuggled (RFC 9112
//!   §6.1). hyper drops the length and says nothing, so such a head is held back here.
//! - `http::Uri` takes no raw `"`, `<` or `>`, which clients other than browsers send. They are
//!   replaced by their escapes, which mean the same (RFC 3986 §2.1) and are what a browser would
//!   have sent.
//!
//! To find the heads, the filter follows the framing of the bodies between them. hyper remains the
//! judge of it: where it would refuse a request, or where it is not clear that both agree, the
//! filter lets everything pass.

mod chunks;

use std::io::BufRead as _;
use std::mem;

use chunks::{AfterChunk, ChunkPosition};

/// How much of a line is kept that arrives in several reads, in bytes. Enough for a field that
/// states a framing.
const MAX_PARTIAL_LINE_BYTES: usize = 128;

/// Looks for request heads in the bytes of an HTTP/1.1 connection, which it is given in order.
#[derive(Debug, Default)]
pub(super) struct HeadFilter {
    position: Position,
    /// What the fields of the current head have stated.
    framing: Framing,
    /// The beginning of a field line whose end has not arrived.
    partial_line: Vec<u8>,
    found_two_framings: bool,
}

/// What to do with bytes that were looked at.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filtered {
    /// How many of the bytes to pass on as they are.
    pub(super) unchanged: usize,
    /// What to pass on in place of the others.
    pub(super) rest: Vec<u8>,
}

/// Where the next byte belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    RequestLine(LinePart),
    Field,
    /// The body, of which so many bytes are left.
    Body(u64),
    Chunks(ChunkPosition),
    /// Unknown until the connection ends: a tunnel, or a framing that hyper refuses.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LinePart {
    /// Empty lines before the request line, which carry no meaning (RFC 9112 §2.2), or its first
    /// byte.
    Start,
    Method,
    Path,
    Query,
    Version,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Framing {
    length: Option<Length>,
    coding: Option<Coding>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Bytes(u64),
    Unclear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Chunked,
    Unclear,
}

const START: Position = Position::RequestLine(LinePart::Start);

impl Default for Position {
    fn default() -> Self {
        START
    }
}

impl HeadFilter {
    /// Whether a head states two framings. It was not passed on, and nothing after it will be.
    pub(super) fn found_two_framings(&self) -> bool {
        self.found_two_framings
    }

    /// Looks at `bytes`, which follow those of the last call. `is_tunnel` says that the gateway has
    /// switched protocols. Until then hyper reads everything as HTTP, also after an offer to
    /// switch: a client must wait for the 101 (RFC 9110 §7.8).
    pub(super) fn filter(&mut self, bytes: &[u8], is_tunnel: bool) -> Filtered {
        if is_tunnel {
            self.position = Position::Unknown;
        }
        let mut output = Output { bytes, at: 0, diverged: None };
        while output.at < bytes.len() && !self.found_two_framings {
            match self.position {
                Position::RequestLine(part) => self.request_line(part, &mut output),
                Position::Field => self.field_line(&mut output),
                Position::Body(left) => {
                    let count = output.remaining().len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    output.pass(count);
                    let left = left - count as u64;
                    self.position = if left == 0 { START } else { Position::Body(left) };
                }
                Position::Chunks(position) => {
                    let (next, count) = position.advance(output.remaining());
                    output.pass(count);
                    self.position = match next {
                        AfterChunk::Body(next) => Position::Chunks(next),
                        AfterChunk::End => START,
                        AfterChunk::Malformed => Position::Unknown,
                    };
                }
                Position::Unknown => output.pass(output.remaining().len()),
            }
        }
        output.finish()
    }

    /// Passes on a part of the request line.
    fn request_line(&mut self, part: LinePart, output: &mut Output<'_>) {
        let bytes = output.remaining();
        let count = bytes.iter().position(|&byte| part.after(byte) != AfterByte::Same).unwrap_or(bytes.len());
        output.pass(count);
        let Some(&byte) = bytes.get(count) else { return };
        match part.after(byte) {
            AfterByte::Same => output.pass(1),
            AfterByte::Escaped => output.escape(byte),
            AfterByte::Next(position) => {
                output.pass(1);
                self.position = position;
            }
        }
    }

    /// Passes on a field line, or the part of it that has arrived.
    fn field_line(&mut self, output: &mut Output<'_>) {
        let bytes = output.remaining();
        let mut after = bytes;
        // The fastest search for a byte in the standard library; a slice does not fail.
        let length = after.skip_until(b'\n').unwrap_or(bytes.len());
        let (line, is_complete) = (&bytes[..length], bytes[..length].ends_with(b"\n"));
        if is_complete && self.partial_line.is_empty() {
            self.field(line);
        } else {
            let room = MAX_PARTIAL_LINE_BYTES - self.partial_line.len();
            self.partial_line.extend_from_slice(&line[..length.min(room)]);
            if is_complete {
                let line = mem::take(&mut self.partial_line);
                self.field(&line);
            }
        }
        if !self.found_two_framings {
            output.pass(length);
        }
    }

    /// Notes what a line of the head says: its line end is missing if it was too long to keep.
    fn field(&mut self, line: &[u8]) {
        let (line, is_whole) = match line.strip_suffix(b"\n") {
            Some(line) => (line.strip_suffix(b"\r").unwrap_or(line), true),
            None => (line, false),
        };
        match line.first().map(u8::to_ascii_lowercase) {
            None => self.end_of_head(),
            Some(b'c') => {
                if let Some(value) = field_value(line, b"content-length") {
                    let length = parse_length(value).filter(|_| is_whole).map_or(Length::Unclear, Length::Bytes);
                    self.framing.length = Some(match self.framing.length {
                        Some(other) if other != length => Length::Unclear,
                        Some(_) | None => length,
                    });
                }
            }
            Some(b't') => {
                if let Some(value) = field_value(line, b"transfer-encoding") {
                    let is_chunked =
                        is_whole && value.eq_ignore_ascii_case(b"chunked") && self.framing.coding.is_none();
                    self.framing.coding = Some(if is_chunked { Coding::Chunked } else { Coding::Unclear });
                }
            }
            Some(_) => {}
        }
        self.found_two_framings = self.framing.length.is_some() && self.framing.coding.is_some();
    }

    fn end_of_head(&mut self) {
        let Framing { length, coding } = mem::take(&mut self.framing);
        self.position = match (coding, length) {
            (Some(Coding::Chunked), _) => Position::Chunks(ChunkPosition::FIRST),
            (Some(Coding::Unclear), _) | (None, Some(Length::Unclear)) => Position::Unknown,
            (None, Some(Length::Bytes(length @ 1..))) => Position::Body(length),
            (None, Some(Length::Bytes(0)) | None) => START,
        };
    }
}

/// The value of the line if it is the field `name`.
fn field_value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

fn parse_length(value: &[u8]) -> Option<u64> {
    // `parse` alone would accept a sign.
    if value.iter().all(u8::is_ascii_digit) { str::from_utf8(value).ok()?.parse().ok() } else { None }
}

/// What a byte of the request line means for the part that it follows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterByte {
    /// It belongs to that part.
    Same,
    /// It does, and its escape is passed on.
    Escaped,
    /// It ends the part.
    Next(Position),
}

impl LinePart {
    fn after(self, byte: u8) -> AfterByte {
        let next = |part| AfterByte::Next(Position::RequestLine(part));
        match self {
            Self::Start => match byte {
                b'\r' | b'\n' => AfterByte::Same,
                _ => next(Self::Method),
            },
            Self::Method => match byte {
                b' ' => next(Self::Path),
                b'\n' => AfterByte::Next(Position::Field),
                _ => AfterByte::Same,
            },
            Self::Path => match byte {
                b' ' => next(Self::Version),
                b'?' => next(Self::Query),
                b'<' | b'>' | b'`' => AfterByte::Escaped,
                b'\n' => AfterByte::Next(Position::Field),
                _ => AfterByte::Same,
            },
            Self::Query => match byte {
                b' ' => next(Self::Version),
                b'"' | b'<' | b'>' => AfterByte::Escaped,
                b'\n' => AfterByte::Next(Position::Field),
                _ => AfterByte::Same,
            },
            Self::Version => match byte {
                b'\n' => AfterByte::Next(Position::Field),
                _ => AfterByte::Same,
            },
        }
    }
}

/// The bytes that were looked at so far, and those to pass on.
struct Output<'a> {
    bytes: &'a [u8],
    at: usize,
    /// From where on the output differs from `bytes`, and what it is.
    diverged: Option<(usize, Vec<u8>)>,
}

impl<'a> Output<'a> {
    fn remaining(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    fn pass(&mut self, count: usize) {
        if let Some((_, output)) = &mut self.diverged {
            output.extend_from_slice(&self.bytes[self.at..self.at + count]);
        }
        self.at += count;
    }

    fn escape(&mut self, byte: u8) {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let (_, output) = self.diverged.get_or_insert_with(|| (self.at, Vec::new()));
        output.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        self.at += 1;
    }

    fn finish(self) -> Filtered {
        match self.diverged {
            Some((unchanged, rest)) => Filtered { unchanged, rest },
            None => Filtered { unchanged: self.at, rest: Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests;
