//! Documents of identity providers: the JSON object in a discovery document or a key set, read
//! strictly where that matters and tolerantly where it does not.
//!
//! A byte-order mark before the text is skipped, and a member whose value is null counts as absent:
//! some providers write every member that they know of. Neither changes which keys the document
//! has.

use serde_json::{Map, Value};

use super::strict_json;

/// Why a document cannot be read. Some ways of sending a document are named, because their cause
/// is easy to find once one knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentFault {
    /// A UTF-8 byte-order mark, and then no JSON object with unique members.
    #[error("; after a byte-order mark it is not a JSON object with unique members")]
    AfterByteOrderMark,
    /// The bytes are those of a gzip file (RFC 1952 §2.3.1).
    #[error("; it is compressed with gzip, which was not asked for")]
    Gzip,
    /// A member that must be there is missing, or has another type.
    #[error("")]
    Members,
    /// Not a JSON object with unique members.
    #[error("")]
    NotAnObject,
    /// Text in UTF-16 (RFC 8259 §8.1 requires UTF-8).
    #[error("; it is UTF-16 and not UTF-8")]
    Utf16,
}

/// Reads a document.
///
/// # Errors
///
/// [`DocumentFault`], but never [`DocumentFault::Members`].
pub(crate) fn read(bytes: &[u8]) -> Result<Map<String, Value>, DocumentFault> {
    let (text, fault) = match bytes {
        [0xef, 0xbb, 0xbf, text @ ..] => (text, DocumentFault::AfterByteOrderMark),
        [0x1f, 0x8b, ..] => (bytes, DocumentFault::Gzip),
        [0xfe, 0xff, ..] | [0xff, 0xfe, ..] => (bytes, DocumentFault::Utf16),
        _ => (bytes, DocumentFault::NotAnObject),
    };
    let mut members = strict_json::read_object(text).map_err(|_| fault)?;
    strict_json::remove_nulls(&mut members);
    Ok(members)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_and_nulls_do_not_matter() {
        for text in [&br#"{"a":1}"#[..], b"\xef\xbb\xbf{\"a\":1}", br#" {"a":1,"b":null} "#] {
            assert_eq!(read(text).map(Value::Object), Ok(serde_json::json!({ "a": 1 })), "{text:?}");
        }
    }

    #[test]
    fn the_fault_names_how_the_document_was_sent() {
        for (bytes, expected) in [
            (&b"<html>"[..], DocumentFault::NotAnObject),
            (b"", DocumentFault::NotAnObject),
            (b"[]", DocumentFault::NotAnObject),
            (br#"{"a":1,"a":1}"#, DocumentFault::NotAnObject),
            (br#"{"a":null,"a":1}"#, DocumentFault::NotAnObject),
            (b"\xef\xbb\xbf<html>", DocumentFault::AfterByteOrderMark),
            (b"\xef\xbb\xbf\xef\xbb\xbf{}", DocumentFault::AfterByteOrderMark),
            (b"\x1f\x8b\x08\x00", DocumentFault::Gzip),
            (b"\xff\xfe{\x00}\x00", DocumentFault::Utf16),
            (b"\xfe\xff\x00{\x00}", DocumentFault::Utf16),
        ] {
            assert_eq!(read(bytes), Err(expected), "{bytes:?}");
        }
    }
}
