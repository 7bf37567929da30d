//! Log lines: writes a record as exactly one line, whatever its values contain.
//!
//! Used by the event log and the access log. In the JSON format a text value is a JSON string. In
//! the text format (logfmt) it is written bare if that is unambiguous, and otherwise as a JSON
//! string too. Characters that move a terminal's cursor or change the reading direction are escaped
//! in addition to what JSON requires, because operators read logs with `less` and `grep`, and
//! values come from clients.

use std::fmt::Display;
use std::io::{self, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter};

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LineFormat {
    /// One JSON object per line.
    #[default]
    Json,
    /// `key=value` pairs (logfmt).
    Text,
}

/// Longest value in bytes, before escaping. Any path worth reading is shorter, and the limit bounds
/// the length of a line.
const MAX_VALUE_BYTES: usize = 2 * 1024;

/// A line under construction, in a buffer that is reused for the next line.
///
/// Keys are constants of this program and are not escaped.
#[derive(Debug)]
pub(super) struct Line<'b> {
    buffer: &'b mut Vec<u8>,
    format: LineFormat,
    first: bool,
}

impl<'b> Line<'b> {
    /// Starts a line at the end of `buffer`.
    pub(super) fn begin(buffer: &'b mut Vec<u8>, format: LineFormat) -> Self {
        match format {
            LineFormat::Json => buffer.push(b'{'),
            LineFormat::Text => {}
        }
        Self { buffer, format, first: true }
    }

    /// Continues a line whose first part the caller has written to `buffer`.
    pub(super) fn continue_from(buffer: &'b mut Vec<u8>, format: LineFormat) -> Self {
        Self { buffer, format, first: false }
    }

    /// Adds a text value, escaped and truncated to [`MAX_VALUE_BYTES`].
    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let (value, is_truncated) = truncate(value);
        match self.format {
            LineFormat::Text if !is_truncated && is_bare(value) => self.buffer.extend_from_slice(value.as_bytes()),
            LineFormat::Json | LineFormat::Text => {
                write_quoted(self.buffer, value);
                if is_truncated {
                    // The ellipsis goes inside the closing quote.
                    self.buffer.pop();
                    self.buffer.extend_from_slice("…\"".as_bytes());
                }
            }
        }
    }

    /// Adds a number or a boolean, which both formats write without quotes.
    pub(super) fn literal(&mut self, key: &str, value: impl Display) {
        self.key(key);
        write_displayed(self.buffer, &value);
    }

    /// Adds a value whose text needs no escaping, such as a time or an address.
    pub(super) fn unescaped(&mut self, key: &str, value: impl Display) {
        match self.format {
            LineFormat::Json => self.literal(key, format_args!("\"{value}\"")),
            LineFormat::Text => self.literal(key, value),
        }
    }

    /// Adds a duration in milliseconds with three decimals.
    pub(super) fn millis(&mut self, key: &str, value: Duration) {
        let micros = value.as_micros();
        self.literal(key, format_args!("{}.{:03}", micros / 1_000, micros % 1_000));
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

/// Writes `text` without quotes, truncated and on one line. For the message of an event in the text
/// format.
pub(super) fn write_message(buffer: &mut Vec<u8>, text: &str) {
    let (text, is_truncated) = truncate(text);
    for character in text.chars() {
        if character.is_control() || is_deceptive(character) {
            write_displayed(buffer, &character.escape_default());
        } else {
            buffer.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    if is_truncated {
        buffer.extend_from_slice("…".as_bytes());
    }
}

/// Writes `value` without escaping. The caller ensures that its text is safe.
pub(super) fn write_displayed(buffer: &mut Vec<u8>, value: &impl Display) {
    write!(buffer, "{value}").expect("writing to memory does not fail");
}

/// The longest prefix of whole characters within [`MAX_VALUE_BYTES`], and whether it is shorter
/// than `value`.
fn truncate(value: &str) -> (&str, bool) {
    if value.len() <= MAX_VALUE_BYTES {
        return (value, false);
    }
    let end = (0..=MAX_VALUE_BYTES).rev().find(|&end| value.is_char_boundary(end)).unwrap_or(0);
    (&value[..end], true)
}

/// Whether logfmt parsers read `value` as one value without quotes.
fn is_bare(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'=' | b'\\'))
}

fn write_quoted(buffer: &mut Vec<u8>, value: &str) {
    // Fast path: nearly all values need no escaping.
    if value.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        buffer.push(b'"');
        buffer.extend_from_slice(value.as_bytes());
        buffer.push(b'"');
        return;
    }
    let mut serializer = serde_json::Serializer::with_formatter(buffer, EscapingFormatter);
    value.serialize(&mut serializer).expect("writing to memory does not fail");
}

/// Compact JSON that also escapes the characters of [`is_deceptive`], which JSON allows in strings.
struct EscapingFormatter;

impl Formatter for EscapingFormatter {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut written = 0;
        for (at, character) in fragment.char_indices().filter(|(_, character)| is_deceptive(*character)) {
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

/// Whether a terminal interprets `character` instead of showing it: DEL and the C1 controls (U+009B
/// starts a terminal command, like ESC `[`), line separators, and marks that change the reading
/// direction. All of them fit in four hexadecimal digits.
fn is_deceptive(character: char) -> bool {
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
            ("non-ascii letters", "größe", r#"{"k":"größe"}"#, r#"k="größe""#),
        ] {
            assert_eq!(written(LineFormat::Json, value), format!("{json}\n"), "{name}");
            assert_eq!(written(LineFormat::Text, value), format!("{text}\n"), "{name}");
        }
    }

    #[test]
    fn escaped_values_parse_back_to_the_original() {
        let value = "\u{0}\u{7f}\u{9b}\u{2029}\"\\\u{1f600}";
        let read: serde_json::Value = serde_json::from_str(&written(LineFormat::Json, value)).unwrap();
        assert_eq!(read["k"], value);
    }

    #[test]
    fn long_values_are_truncated_between_characters() {
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
    fn a_message_stays_on_one_line() {
        let mut buffer = Vec::new();
        write_message(&mut buffer, "it's \"so\"\nand\u{1b}[0m so\u{9b}");
        assert_eq!(String::from_utf8(buffer).unwrap(), r#"it's "so"\nand\u{1b}[0m so\u{9b}"#);
    }
}
