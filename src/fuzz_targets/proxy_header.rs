//! The PROXY header: a parser of bytes that arrive in any pieces.

use std::net::IpAddr;

use crate::downstream::proxy_protocol::header::{MAX_V1_BYTES, MAX_V2_BYTES, Parsed, Source, is_recognizable, parse};

/// What a header says, and where it ends, does not depend on how its bytes arrive. It is never
/// longer than the limit, and is recognized where none is allowed.
pub fn proxy_header(input: &[u8]) {
    let whole = parse(input);
    for length in 0..input.len() {
        let part = parse(&input[..length]);
        match whole {
            Ok(Parsed::Complete { length: end, .. }) if length >= end => assert_eq!(part, whole, "{length} bytes"),
            Ok(Parsed::Complete { .. } | Parsed::Incomplete) => {
                assert_eq!(part, Ok(Parsed::Incomplete), "{length} bytes");
            }
            Err(_) => assert!(!matches!(part, Ok(Parsed::Complete { .. })), "{length} bytes"),
        }
    }
    match whole {
        Ok(Parsed::Complete { length, source }) => {
            assert!(length <= input.len(), "{length} bytes of {}", input.len());
            assert!(is_recognizable(input), "a stranger could send it");
            if input.starts_with(b"PROXY ") {
                assert!(length <= MAX_V1_BYTES, "{length}");
                assert_is_in_line(source, &input[..length]);
            }
        }
        Ok(Parsed::Incomplete) => assert!(input.len() < MAX_V2_BYTES, "an endless header"),
        Err(_) => {}
    }
}

/// An IPv4 address has one spelling; the one of an IPv6 address has a colon.
fn assert_is_in_line(source: Source, line: &[u8]) {
    let line = std::str::from_utf8(line).expect("a line of ASCII");
    match source {
        Source::Client(IpAddr::V4(ip)) => assert!(line.starts_with(&format!("PROXY TCP4 {ip} ")), "{ip}"),
        Source::Client(IpAddr::V6(ip)) => assert!(line.starts_with("PROXY TCP6 ") && line.contains(':'), "{ip}"),
        Source::Unknown => assert!(line.starts_with("PROXY UNKNOWN")),
    }
}
