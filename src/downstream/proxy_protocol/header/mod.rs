//! The PROXY header, in both versions of the PROXY protocol specification (`HAProxy`,
//! `proxy-protocol.txt`): which client a connection comes from.
//!
//! The parser is strict: it accepts what the specification allows a proxy to send, and nothing that
//! two parsers could read in two ways. It copies nothing but addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first bytes of version 1.
const V1_START: &[u8] = b"PROXY ";

/// The first bytes of version 2. They can begin no request.
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line of version 1 with its line end (§2.1).
pub(crate) const MAX_V1_BYTES: usize = 107;

/// The length of version 2 without addresses and extensions (§2.2).
const V2_FIXED_BYTES: usize = 16;

/// The longest header of version 2 that is accepted: as in nginx. The addresses take at most 216
/// bytes, and the rest is extensions, such as a client certificate's subject.
pub(crate) const MAX_V2_BYTES: usize = 4096;

/// What a PROXY header says of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// It relays a client with this address.
    Client(IpAddr),
    /// It does not say where the connection comes from: the proxy's own health check (`LOCAL`), or
    /// a client whose address the proxy does not know (`UNKNOWN`, `AF_UNSPEC`, `AF_UNIX`).
    Unknown,
}

/// How much of a header there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// The header, which takes `length` bytes.
    Complete { length: usize, source: Source },
    /// All bytes belong to a header, and more of it is to come.
    Incomplete,
}

/// What is wrong with bytes in which a header is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// They do not begin like a header.
    Missing,
    /// They begin like one and break its syntax.
    Malformed,
    /// The header is longer than the limit.
    TooLong,
}

/// Parses the header that `bytes` begin with.
///
/// # Errors
///
/// [`HeaderFault`], as soon as no further byte can make the header valid.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, HeaderFault> {
    if begins_like(bytes, V1_START) {
        parse_v1(bytes)
    } else if begins_like(bytes, V2_START) {
        parse_v2(bytes)
    } else {
        Err(HeaderFault::Missing)
    }
}

/// Whether `bytes` are the beginning of a header and cannot be that of a request. Compares as many
/// bytes as there are, but needs at least five, which distinguish version 2 from empty lines before
/// a request.
pub(crate) fn is_recognizable(bytes: &[u8]) -> bool {
    const LEAST: usize = 5;
    bytes.len() >= LEAST && (begins_like(bytes, V1_START) || begins_like(bytes, V2_START))
}

fn begins_like(bytes: &[u8], start: &[u8]) -> bool {
    let compared = bytes.len().min(start.len());
    bytes[..compared] == start[..compared]
}

/// Version 1 (§2.1): one line, such as `PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`.
fn parse_v1(bytes: &[u8]) -> Result<Parsed, HeaderFault> {
    let within_limit = &bytes[..bytes.len().min(MAX_V1_BYTES)];
    let Some(end) = within_limit.iter().position(|byte| *byte == b'\n') else {
        return if bytes.len() < MAX_V1_BYTES { Ok(Parsed::Incomplete) } else { Err(HeaderFault::TooLong) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(HeaderFault::Malformed)?;
    let line = std::str::from_utf8(line).map_err(|_| HeaderFault::Malformed)?;
    let source = line.strip_prefix("PROXY ").and_then(v1_source).ok_or(HeaderFault::Malformed)?;
    Ok(Parsed::Complete { length: end + 1, source })
}

fn v1_source(text: &str) -> Option<Source> {
    // The rest of such a line has no meaning.
    if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        return Some(Source::Unknown);
    }
    let mut parts = text.split(' ');
    let mut next = || parts.next();
    let (family, source, destination) = (next()?, next()?, next()?);
    let (source_port, destination_port, end) = (next()?, next()?, next());
    let is_ip: fn(&str) -> Option<IpAddr> = match family {
        "TCP4" => |text| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return None,
    };
    let source = is_ip(source)?;
    is_ip(destination)?;
    (is_port(source_port) && is_port(destination_port) && end.is_none()).then_some(Source::Client(source))
}

/// Whether `text` is a port: decimal, without leading zeros (§2.1).
fn is_port(text: &str) -> bool {
    let is_decimal = text.bytes().all(|byte| byte.is_ascii_digit());
    is_decimal && (text == "0" || !text.starts_with('0')) && text.parse::<u16>().is_ok()
}

/// Version 2 (§2.2): binary. Extensions after the addresses are skipped.
fn parse_v2(bytes: &[u8]) -> Result<Parsed, HeaderFault> {
    let Some(([.., version_and_command, family_and_transport, high, low], rest)) =
        bytes.split_first_chunk::<V2_FIXED_BYTES>()
    else {
        return Ok(Parsed::Incomplete);
    };
    let is_local = match version_and_command {
        0x20 => true,
        0x21 => false,
        _ => return Err(HeaderFault::Malformed),
    };
    let rest_length = usize::from(u16::from_be_bytes([*high, *low]));
    let length = V2_FIXED_BYTES + rest_length;
    if length > MAX_V2_BYTES {
        return Err(HeaderFault::TooLong);
    }
    let Some(rest) = rest.get(..rest_length) else { return Ok(Parsed::Incomplete) };
    let source = if is_local { Source::Unknown } else { v2_source(*family_and_transport, rest)? };
    Ok(Parsed::Complete { length, source })
}

fn v2_source(family_and_transport: u8, addresses: &[u8]) -> Result<Source, HeaderFault> {
    /// Two addresses and two ports of IPv4 and of IPv6, and two paths of Unix sockets.
    const V4_BYTES: usize = 12;
    const V6_BYTES: usize = 36;
    const UNIX_BYTES: usize = 216;
    let malformed = HeaderFault::Malformed;
    match family_and_transport {
        // AF_UNSPEC: the receiver ignores the addresses.
        0x00 => Ok(Source::Unknown),
        // TCP over IPv4.
        0x11 => {
            let [a, b, c, d, ..] = addresses.first_chunk::<V4_BYTES>().ok_or(malformed)?;
            Ok(Source::Client(Ipv4Addr::new(*a, *b, *c, *d).into()))
        }
        // TCP over IPv6.
        0x21 => {
            let addresses = addresses.first_chunk::<V6_BYTES>().ok_or(malformed)?;
            let source = addresses.first_chunk::<16>().ok_or(malformed)?;
            Ok(Source::Client(Ipv6Addr::from(*source).into()))
        }
        // A Unix stream socket.
        0x31 if addresses.len() >= UNIX_BYTES => Ok(Source::Unknown),
        // Datagrams, which carry no HTTP/1.1 or HTTP/2, and unassigned values.
        _ => Err(malformed),
    }
}

#[cfg(test)]
mod tests;
