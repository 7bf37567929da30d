//! Framing of responses: how an HTTP/1.1 server states the length of a body (RFC 9112 §6).
//!
//! The gateway writes its own framing for its client, so what the server states must have one
//! meaning. hyper has its own reading of each combination below; a client or another proxy may have
//! a different one.

use http::{HeaderMap, HeaderValue, Response, Version, header};

use super::ResponseFault;

/// Checks how the length of `response` is stated, and merges equal `Content-Length` values.
///
/// # Errors
///
/// [`ResponseFault::AmbiguousLength`] for lengths that differ or are no numbers, for a length
/// beside `Transfer-Encoding`, and for a transfer coding other than `chunked` alone: the body would
/// otherwise be cut off, or reach the client in a coding that nothing declares.
pub(crate) fn check<B>(response: &mut Response<B>) -> Result<(), ResponseFault> {
    if response.version() == Version::HTTP_2 {
        // There is no transfer coding, and the library compares the length with the body (RFC 9113
        // §8.1.1).
        return Ok(());
    }
    let headers = response.headers_mut();
    let coding = single_coding(headers)?;
    let lengths = headers.get_all(header::CONTENT_LENGTH);
    let mut values = lengths.iter().peekable();
    if values.peek().is_none() {
        return Ok(());
    }
    if coding.is_some() {
        return Err(ResponseFault::AmbiguousLength);
    }
    let mut length: Option<&[u8]> = None;
    for element in values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')) {
        let element = element.trim_ascii();
        let is_number = !element.is_empty() && element.iter().all(u8::is_ascii_digit);
        if !is_number || length.is_some_and(|length| length != element) {
            return Err(ResponseFault::AmbiguousLength);
        }
        length = Some(element);
    }
    let merged = length.filter(|length| lengths.iter().ne([*length])).map(HeaderValue::from_bytes);
    if let Some(Ok(merged)) = merged {
        headers.insert(header::CONTENT_LENGTH, merged);
    }
    Ok(())
}

/// The transfer coding: `chunked` or none.
fn single_coding(headers: &HeaderMap) -> Result<Option<()>, ResponseFault> {
    let mut values = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked") => Ok(Some(())),
        (Some(_), _) => Err(ResponseFault::AmbiguousLength),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_stated_once_or_not_at_all() {
        for (name, headers, expected) in [
            ("no length", &[][..], Ok(None)),
            ("a length", &[("content-length", "5")], Ok(Some("5"))),
            ("equal lengths in one line", &[("content-length", "2, 2")], Ok(Some("2"))),
            ("equal lengths in two lines", &[("content-length", "2"), ("content-length", "2")], Ok(Some("2"))),
            ("lengths that differ", &[("content-length", "2, 3")], Err(())),
            ("two lines that differ", &[("content-length", "2"), ("content-length", "3")], Err(())),
            ("the same number in two spellings", &[("content-length", "2, 02")], Err(())),
            ("a sign", &[("content-length", "+2")], Err(())),
            ("an empty element", &[("content-length", "2,")], Err(())),
            ("an empty value", &[("content-length", "")], Err(())),
            ("chunked", &[("transfer-encoding", "Chunked")], Ok(None)),
            ("a coding before chunked", &[("transfer-encoding", "gzip, chunked")], Err(())),
            (
                "a coding in a line of its own",
                &[("transfer-encoding", "gzip"), ("transfer-encoding", "chunked")],
                Err(()),
            ),
            ("chunked twice", &[("transfer-encoding", "chunked, chunked")], Err(())),
            ("identity", &[("transfer-encoding", "identity")], Err(())),
            ("both", &[("content-length", "5"), ("transfer-encoding", "chunked")], Err(())),
        ] {
            let mut response = Response::new(());
            for (name, value) in headers {
                response.headers_mut().append(*name, HeaderValue::from_static(value));
            }
            let checked = check(&mut response);
            let lengths = response.headers().get_all(header::CONTENT_LENGTH).iter();
            let lengths: Vec<_> = lengths.map(|length| length.to_str().expect("digits")).collect();
            match expected {
                Ok(length) => assert_eq!((checked, lengths), (Ok(()), Vec::from_iter(length)), "{name}"),
                Err(()) => assert_eq!(checked, Err(ResponseFault::AmbiguousLength), "{name}"),
            }
        }
    }
}
