//! Log lines: one record becomes one line, whatever its values hold.
//!
//! Shared by the event log and the access log. In JSON a value is a JSON string; in text (logfmt) a value that is not plainly
//! harmless is written as a JSON string too. Beyond what JSON demands, whatever moves a terminal's cursor or turns the
//! reading direction is escaped: logs are read with `less` and `grep`, and their text comes from strangers.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

/// How a log line is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LineFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// `key=value` pairs (logfmt).
    Text,
}

/// Longest value in bytes, before escaping. Long enough for any path worth reading, short enough that a line stays a line.
const MAX_VALUE_BYTES: usize = 2 * 1024;

/// One line while it is being built, in a buffer that is used again for the next.
///
/// Keys are constants of this program and are written as they are.
#[derive(Debug)]
pub(super) struct Line<'b> {
    buffer: &'b mut Vec<u8>,
    format: LineFormat,
    first: bool,
}

impl<'b> Line<'b> {
    /// Begins a line at the end of `buffer`.
    pub(super) fn begin(buffer: &'b mut Vec<u8>, format: LineFormat) -> Self {
        match format {
            LineFormat::Json => buffer.push(b'{'),
            LineFormat::Text => {}
        }
        Self { buffer, format, first: true }
    }

    /// Adds fields to a line that was begun otherwise.
    pub(super) fn go_on(buffer: &'b mut Vec<u8>, format: LineFormat) -> Self {
        Self { buffer, format, first: false }
    }

    /// Adds a text, cut at [`MAX_VALUE_BYTES`].
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let (value, shortened) = cut(value);
        match self.format {
            LineFormat::Text if !shortened && is_bare(value) => self.buffer.extend_from_slice(value.as_bytes()),
            LineFormat::Json | LineFormat::Text => {
                write_quoted(self.buffer, value);
                if shortened {
                    // The mark goes inside the closing quote.
                    self.buffer.pop();
                    self.buffer.extend_from_slice("…\"".as_bytes());
                }
            }
        }
    }

    /// Adds a number or a boolean: anything that both formats write without quotes.
    pub(super) fn plain(&mut self, key: &str, value: impl Display) {
        self.key(key);
        write_displayed(self.buffer, &value);
    }

    /// Adds what shows itself in letters that need no escape: a time, an address.
    pub(super) fn harmless(&mut self, key: &str, value: impl Display) {
        match self.format {
            LineFormat::Json => self.plain(key, format_args!("\"{value}\"")),
            LineFormat::Text => self.plain(key, value),
        }
    }

    /// Adds a length of time in milliseconds, with three decimals.
    pub(super) fn millis(&mut self, key: &str, value: Duration) {
        let micros = value.as_micros();
        self.plain(key, format_args!("{}.{:03}", micros / 1_000, micros % 1_000));
    }

    /// Ends the line.
    pub(super) fn end(self) {
        match self.format {
            LineFormat::Json => self.buffer.extend_from_slice(b"}\n"),
            LineFormat::Text => self.buffer.push(b'\n'),
        }
    }

    fn key(&mut self, key: &str) {
        match self.format {
            LineFormat::Json => {
                if !self.first {
                    self.buffer.push(b',');
                }
                self.buffer.push(b'"');
                self.buffer.extend_from_slice(key.as_bytes());
                self.buffer.extend_from_slice(b"\":");
            }
            LineFormat::Text => {
                if !self.first {
                    self.buffer.push(b' ');
                }
                self.buffer.extend_from_slice(key.as_bytes());
                self.buffer.push(b'=');
            }
        }
        self.first = false;
    }
}

/// Writes `text` without quotes, cut and on one line: for the message of an event, which is read as a sentence.
pub(super) fn write_sentence(buffer: &mut Vec<u8>, text: &str) {
    let (text, shortened) = cut(text);
    for character in text.chars() {
        if character.is_control() || misleads(character) {
            write_displayed(buffer, &character.escape_default());
        } else {
            buffer.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    if shortened {
        buffer.extend_from_slice("…".as_bytes());
    }
}

/// Writes `value` as it shows itself. The caller vouches for its text.
pub(super) fn write_displayed(buffer: &mut Vec<u8>, value: &impl Display) {
    write!(buffer, "{value}").expect("memory takes every write");
}

/// The longest prefix of whole characters within the limit, and whether something is missing.
fn cut(value: &str) -> (&str, bool) {
    if value.len() <= MAX_VALUE_BYTES {
        return (value, false);
    }
    let end = (0..=MAX_VALUE_BYTES).rev().find(|&end| value.is_char_boundary(end)).unwrap_or(0);
    (&value[..end], true)
}

/// Whether logfmt readers take `value` for one value without quotes.
fn is_bare(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

fn write_quoted(buffer: &mut Vec<u8>, value: &str) {
    // Nearly every value: nothing in it to escape.
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        buffer.push(b'"');
        buffer.extend_from_slice(value.as_bytes());
        buffer.push(b'"');
        return;
    }
    let mut serializer = serde_json::Serializer::with_formatter(buffer, Visible);
    value.serialize(&mut serializer).expect("memory takes every write");
}

/// JSON without insignificant space, in which also those characters are escaped that JSON lets stand but that a reader would
/// not see as what they are.
struct Visible;

impl Formatter for Visible {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut written = 0;
        for (at, character) in fragment.char_indices().filter(|(_, character)| misleads(*character)) {
            writer.write_all(&fragment.as_bytes()[written..at])?;
            write!(writer, "\\u{:04x}", u32::from(character))?;
            written = at + character.len_utf8();
        }
        writer.write_all(&fragment.as_bytes()[written..])
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }
}

/// DEL and the C1 controls (U+009B begins a terminal command as ESC `[` does), line separators, and the marks that turn the
/// reading direction. All of them fit four hexadecimal digits.
fn misleads(character: char) -> bool {
    matches!(
        character,
        '\u{7f}'..='\u{9f}'
            | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
            | '\u{feff}'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: LineFormat, value: &str) -> String {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, format);
        line.text("k", value);
        line.end();
        String::from_utf8(buffer).unwrap()
    }

    #[test]
    fn values_are_escaped_in_both_formats() {
        for (name, value, json, text) in [
            ("plain", "/orders/7", r#"{"k":"/orders/7"}"#, "k=/orders/7"),
            ("empty", "", r#"{"k":""}"#, r#"k="""#),
            ("space", "a b", r#"{"k":"a b"}"#, r#"k="a b""#),
            ("a second pair", "a b=c", r#"{"k":"a b=c"}"#, r#"k="a b=c""#),
            ("quote", r#"a"b"#, r#"{"k":"a\"b"}"#, r#"k="a\"b""#),
            ("backslash", r"a\nb", r#"{"k":"a\\nb"}"#, r#"k="a\\nb""#),
            ("newline", "a\nb\r\nc", r#"{"k":"a\nb\r\nc"}"#, r#"k="a\nb\r\nc""#),
            ("ansi", "\u{1b}[31mred", r#"{"k":"\u001b[31mred"}"#, r#"k="\u001b[31mred""#),
            ("c1 ansi", "a\u{9b}31m", r#"{"k":"a\u009b31m"}"#, r#"k="a\u009b31m""#),
            ("delete", "a\u{7f}b", r#"{"k":"a\u007fb"}"#, r#"k="a\u007fb""#),
            ("line separator", "a\u{2028}b", r#"{"k":"a\u2028b"}"#, r#"k="a\u2028b""#),
            ("right to left", "a\u{202e}b", r#"{"k":"a\u202eb"}"#, r#"k="a\u202eb""#),
            ("letters beyond ascii", "größe", r#"{"k":"größe"}"#, r#"k="größe""#),
        ] {
            assert_eq!(written(LineFormat::Json, value), format!("{json}\n"), "{name}");
            assert_eq!(written(LineFormat::Text, value), format!("{text}\n"), "{name}");
        }
    }

    #[test]
    fn what_was_escaped_reads_back_as_what_it_was() {
        let value = "\u{0}\u{7f}\u{9b}\u{2029}\"\\\u{1f600}";
        let read: serde_json::Value = serde_json::from_str(&written(LineFormat::Json, value)).unwrap();
        assert_eq!(read["k"], value);
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        let value = "ä".repeat(MAX_VALUE_BYTES);
        let read: serde_json::Value = serde_json::from_str(&written(LineFormat::Json, &value)).unwrap();
        let shown = read["k"].as_str().unwrap();
        assert_eq!(shown.chars().count(), MAX_VALUE_BYTES / 2 + 1);
        assert!(shown.ends_with("ä…"));
        let exact = "a".repeat(MAX_VALUE_BYTES);
        assert_eq!(written(LineFormat::Text, &exact), format!("k={exact}\n"));
    }

    #[test]
    fn durations_have_three_decimals() {
        let mut buffer = Vec::new();
        let mut line = Line::begin(&mut buffer, LineFormat::Text);
        line.millis("a", Duration::from_micros(7));
        line.millis("b", Duration::from_micros(12_345));
        line.end();
        assert_eq!(buffer, b"a=0.007 b=12.345\n");
    }

    #[test]
    fn a_sentence_stays_on_one_line() {
        let mut buffer = Vec::new();
        write_sentence(&mut buffer, "it's \"so\"\nand\u{1b}[0m so\u{9b}");
        assert_eq!(String::from_utf8(buffer).unwrap(), r#"it's "so"\nand\u{1b}[0m so\u{9b}"#);
    }
}
