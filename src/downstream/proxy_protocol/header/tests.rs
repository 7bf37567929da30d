//! The syntax of PROXY headers: examples of the specification, what breaks its rules, and arbitrary
//! bytes.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Version 2 with these bytes after the signature.
fn v2(version_and_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2_START, &[version_and_command, family], &length, rest].concat()
}

fn client(text: &str) -> Source {
    Source::Client(text.parse().unwrap())
}

/// The header alone, and followed by a request; each of its beginnings is incomplete.
fn assert_complete(name: &str, header: &[u8], source: Source) {
    let complete = Ok(Parsed::Complete { length: header.len(), source });
    assert_eq!(parse(header), complete, "{name}");
    assert_eq!(parse(&[header, b"GET / HTTP/1.1\r\n\r\n"].concat()), complete, "{name}, with a request");
    for length in 0..header.len() {
        assert_eq!(parse(&header[..length]), Ok(Parsed::Incomplete), "{name}, the first {length} bytes");
    }
}

const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 0x01, 0xbb];

#[test]
fn a_header_names_the_client() {
    let v6_address: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let v6 = [&v6_address.octets()[..], &[0; 20]].concat();
    let extensions = [&V4[..], &[0x04, 0, 3, 0, 0, 0]].concat();
    let longest_v1 = "PROXY TCP6 ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n"
        .replace("ffff:f...f:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
    let longest_unknown = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_V1_BYTES - 16));
    let longest_v2 = vec![0; MAX_V2_BYTES - 16];
    for (name, header, source) in [
        ("TCP4", b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n".to_vec(), client("192.0.2.1")),
        ("TCP6", b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n".to_vec(), client("2001:db8::1")),
        ("the longest addresses", longest_v1.into(), client("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")),
        ("UNKNOWN", b"PROXY UNKNOWN\r\n".to_vec(), Source::Unknown),
        ("UNKNOWN with anything", b"PROXY UNKNOWN TCP4 \xc3\xa9 1\r\n".to_vec(), Source::Unknown),
        ("the longest line", longest_unknown.into(), Source::Unknown),
        ("v2 over IPv4", v2(0x21, 0x11, &V4), client("192.0.2.1")),
        ("v2 over IPv6", v2(0x21, 0x21, &v6), client("2001:db8::1")),
        ("v2 with extensions", v2(0x21, 0x11, &extensions), client("192.0.2.1")),
        ("v2 over a Unix socket", v2(0x21, 0x31, &[0; 216]), Source::Unknown),
        ("v2 of an unspecified family", v2(0x21, 0x00, b""), Source::Unknown),
        ("v2 of an unspecified family, with bytes", v2(0x21, 0x00, &V4), Source::Unknown),
        ("v2, local", v2(0x20, 0x00, b""), Source::Unknown),
        ("v2, local, with addresses", v2(0x20, 0x11, &V4), Source::Unknown),
        ("the longest v2", v2(0x20, 0x00, &longest_v2), Source::Unknown),
    ] {
        assert_complete(name, &header, source);
    }
}

#[test]
fn what_the_specification_does_not_allow_is_refused() {
    use HeaderFault::{Malformed, Missing, TooLong};
    let long_v1 = format!("PROXY UNKNOWN {}", "x".repeat(MAX_V1_BYTES - "PROXY UNKNOWN ".len()));
    let late_end = format!("PROXY UNKNOWN {}\r\n", "x".repeat(MAX_V1_BYTES - 15));
    let long_v2 = v2(0x21, 0x11, &vec![0; MAX_V2_BYTES - 15]);
    let cut = |length: usize| v2(0x21, 0x11, &V4)[..length].to_vec();
    for (name, bytes, fault) in [
        ("a request", b"GET / HTTP/1.1\r\n".to_vec(), Missing),
        ("TLS", b"\x16\x03\x01".to_vec(), Missing),
        ("lower case", b"proxy TCP4".to_vec(), Missing),
        ("another method", b"PROXIES / HTTP/1.1\r\n".to_vec(), Missing),
        ("an empty line", b"\r\nPROXY".to_vec(), Missing),
        ("a signature with a fault", b"\r\n\r\n\0\r\nQUIP".to_vec(), Missing),
        ("no CR", b"PROXY UNKNOWN\n".to_vec(), Malformed),
        ("no protocol", b"PROXY \r\n".to_vec(), Malformed),
        ("another protocol", b"PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), Malformed),
        ("a longer word", b"PROXY UNKNOWNS\r\n".to_vec(), Malformed),
        ("a family that does not fit", b"PROXY TCP4 ::1 ::1 1 2\r\n".to_vec(), Malformed),
        ("a destination that does not fit", b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n".to_vec(), Malformed),
        ("a name", b"PROXY TCP4 localhost 192.0.2.1 1 2\r\n".to_vec(), Malformed),
        ("an octet with a leading zero", b"PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n".to_vec(), Malformed),
        ("no destination port", b"PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n".to_vec(), Malformed),
        ("one part more", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n".to_vec(), Malformed),
        ("two spaces", b"PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), Malformed),
        ("a space at the end", b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n".to_vec(), Malformed),
        ("a tab", b"PROXY TCP4\t192.0.2.1 192.0.2.2 1 2\r\n".to_vec(), Malformed),
        ("a port that is too large", b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n".to_vec(), Malformed),
        ("a port with a leading zero", b"PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n".to_vec(), Malformed),
        ("a port with a sign", b"PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n".to_vec(), Malformed),
        ("an empty port", b"PROXY TCP4 192.0.2.1 192.0.2.2  2\r\n".to_vec(), Malformed),
        ("not UTF-8", b"PROXY UNKNOWN \xff\r\n".to_vec(), Malformed),
        ("a line without an end", long_v1.into_bytes(), TooLong),
        ("a line that ends too late", late_end.into_bytes(), TooLong),
        ("another version", v2(0x11, 0x11, &V4), Malformed),
        ("another command", v2(0x22, 0x11, &V4), Malformed),
        ("datagrams", v2(0x21, 0x12, &V4), Malformed),
        ("another family", v2(0x21, 0x41, &V4), Malformed),
        ("another transport", v2(0x21, 0x13, &V4), Malformed),
        ("too short for IPv4", v2(0x21, 0x11, &V4[..11]), Malformed),
        ("too short for IPv6", v2(0x21, 0x21, &[0; 35]), Malformed),
        ("too short for Unix", v2(0x21, 0x31, &[0; 215]), Malformed),
        ("v2 that is too long", long_v2, TooLong),
        ("another version, cut off", [&cut(12)[..], &[0x30, 0, 0, 0]].concat(), Malformed),
    ] {
        assert_eq!(parse(&bytes), Err(fault), "{name}");
    }
}

#[test]
fn a_header_is_recognized_by_what_no_request_begins_with() {
    for (bytes, expected) in [
        (&b"PROXY TCP4 "[..], true),
        (b"PROXY", true),
        (V2_START, true),
        (&V2_START[..5], true),
        (b"\r\n\r\n", false),
        (b"\r\n\r\nGET / HTTP/1.1", false),
        (b"PROX", false),
        (b"PROXYING / HTTP/1.1", false),
        (b"", false),
    ] {
        assert_eq!(is_recognizable(bytes), expected, "{bytes:?}");
    }
}

/// Bytes that get far into the parser: the beginning of a header, then anything.
fn nearly_a_header() -> impl Strategy<Value = Vec<u8>> {
    let starts = prop::sample::select(vec![
        Vec::new(),
        b"PROXY ".to_vec(),
        b"PROXY TCP4 ".to_vec(),
        b"PROXY TCP6 ::1 ".to_vec(),
        V2_START.to_vec(),
        v2(0x21, 0x11, b"")[..14].to_vec(),
        v2(0x21, 0x21, b"")[..14].to_vec(),
    ]);
    (starts, vec(any::<u8>(), 0..300)).prop_map(|(start, rest)| [start, rest].concat())
}

proptest! {
    /// No bytes make the parser panic; it consumes no more than there is, no more than the limit,
    /// and comes to the same result however the bytes arrive.
    #[test]
    fn the_outcome_does_not_depend_on_how_the_bytes_arrive(bytes in nearly_a_header()) {
        let whole = parse(&bytes);
        if let Ok(Parsed::Complete { length, .. }) = whole {
            prop_assert!(length <= bytes.len() && length <= MAX_V2_BYTES);
        }
        let first = (0..=bytes.len()).map(|length| parse(&bytes[..length])).find(|one| *one != Ok(Parsed::Incomplete));
        prop_assert_eq!(first.unwrap_or(Ok(Parsed::Incomplete)), whole);
    }

    /// Whatever a proxy writes about two addresses is read as it was meant.
    #[test]
    fn every_pair_of_addresses_is_read_as_written(source: u32, destination: u32, ports: (u16, u16), tail in vec(any::<u8>(), 0..40)) {
        let (source, destination) = (Ipv4Addr::from_bits(source), Ipv4Addr::from_bits(destination));
        let line = format!("PROXY TCP4 {source} {destination} {} {}\r\n", ports.0, ports.1);
        let addresses = [source.octets(), destination.octets()].concat();
        let addresses = [&addresses[..], &ports.0.to_be_bytes(), &ports.1.to_be_bytes()].concat();
        for header in [line.into_bytes(), v2(0x21, 0x11, &addresses), v2(0x21, 0x11, &[&addresses[..], &tail].concat())] {
            let length = header.len();
            let expected = Ok(Parsed::Complete { length, source: Source::Client(source.into()) });
            prop_assert_eq!(parse(&[&header[..], &tail].concat()), expected);
        }
    }
}
