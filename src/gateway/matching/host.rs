//! Host header: one valid `host[:port]` (RFC 9112 §3.2, RFC 3986 §3.2.2), in the form in which
//! routes compare it.
//!
//! Part of the normalize stage, which also checks that there is exactly one. The HTTP library
//! accepts any text as a host. So commas, user information, escapes and control bytes are refused
//! here, before the value is compared, logged or written into `Forwarded`.

use std::net::Ipv6Addr;

use thiserror::Error;

/// A host as the client sent it, with the name to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    written: Box<str>,
    /// Where the name ends in `written`: before the trailing dot and the port.
    name_end: usize,
    /// The name to compare, if it differs from the one in `written`.
    folded: Option<Box<str>>,
    port: Option<u16>,
}

/// Why a host is refused, by [`Host::parse`] or by the normalize stage. No variant contains text of
/// the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HostRefusal {
    /// The `Host` header and the request target name different hosts.
    #[error("the `Host` header differs from the host in the request target")]
    Contradiction,
    /// There is nothing before the port.
    #[error("the host is empty")]
    Empty,
    /// The address in brackets is not an IPv6 address, or something other than a port follows it.
    #[error("the host is not an IPv6 address in brackets")]
    InvalidAddress,
    /// A label is empty, is longer than 63 bytes, or has a byte other than letters, digits, `-` and
    /// `_`.
    #[error("each label of a host name is 1 to 63 letters, digits, `-` or `_`")]
    InvalidName,
    /// The text after `:` is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    InvalidPort,
    /// The field has bytes other than visible ASCII.
    #[error("the host has characters other than visible ASCII")]
    Malformed,
    /// The request has no host.
    #[error("the host is missing")]
    Missing,
    /// The request has more than one `Host` header.
    #[error("there is more than one `Host` header")]
    Several,
    /// The host is longer than [`MAX_HOST_BYTES`].
    #[error("the host is longer than the limit of {MAX_HOST_BYTES} bytes")]
    TooLong,
}

/// The longest `Host` value that is accepted, in bytes: the limit of a DNS name (RFC 1035 §2.3.4).
pub(crate) const MAX_HOST_BYTES: usize = 255;

impl HostRefusal {
    /// The `reason` in the log, from a fixed list.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Contradiction => "host_contradiction",
            Self::Empty => "host_empty",
            Self::InvalidAddress => "host_invalid_address",
            Self::InvalidName => "host_invalid_name",
            Self::InvalidPort => "host_invalid_port",
            Self::Malformed => "host_malformed",
            Self::Missing => "host_missing",
            Self::Several => "host_several",
            Self::TooLong => "host_too_long",
        }
    }
}

impl Host {
    /// Reads `host[:port]`.
    ///
    /// # Errors
    ///
    /// A [`HostRefusal`] for everything that is not a name, an IPv4 address or a bracketed IPv6
    /// address, with or without a port. An empty port (`example.com:`) is refused as well: clients
    /// do not send one, and backends interpret it differently.
    pub fn parse(text: &str) -> Result<Self, HostRefusal> {
        if text.len() > MAX_HOST_BYTES {
            return Err(HostRefusal::TooLong);
        }
        let (name, port) = if text.starts_with('[') {
            text.split_at(text.find(']').ok_or(HostRefusal::InvalidAddress)? + 1)
        } else {
            text.split_at(text.bytes().position(|byte| byte == b':').unwrap_or(text.len()))
        };
        let (name_end, folded) = if name.starts_with('[') { fold_address(name)? } else { fold_name(name)? };
        Ok(Self { written: text.into(), name_end, folded, port: parse_port(port)? })
    }

    /// The name to compare: lower case, without port and trailing dot. An IPv6 address is in
    /// brackets and in its shortest form.
    #[must_use]
    pub fn name(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.written[..self.name_end])
    }

    /// The port, if the client sent one.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }
}

/// Where the name ends, and the name to compare if it differs from the text.
type Folded = (usize, Option<Box<str>>);

fn fold_address(bracketed: &str) -> Result<Folded, HostRefusal> {
    let address: Ipv6Addr = bracketed[1..bracketed.len() - 1].parse().map_err(|_| HostRefusal::InvalidAddress)?;
    let shortest = format!("[{address}]");
    Ok((bracketed.len(), (shortest != bracketed).then(|| shortest.into())))
}

fn fold_name(name: &str) -> Result<Folded, HostRefusal> {
    if name.is_empty() {
        return Err(HostRefusal::Empty);
    }
    // A trailing dot is the root of DNS: `example.com.` is the same host, and the same rules apply.
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.as_bytes().split(|byte| *byte == b'.').all(is_label) {
        return Err(HostRefusal::InvalidName);
    }
    let has_upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok((name.len(), has_upper.then(|| name.to_ascii_lowercase().into())))
}

fn is_label(label: &[u8]) -> bool {
    (1..=63).contains(&label.len())
        && label.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Parses `""` or `:8080`.
fn parse_port(text: &str) -> Result<Option<u16>, HostRefusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix(':').ok_or(HostRefusal::InvalidAddress)?;
    // `u16::from_str` accepts `+80`.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostRefusal::InvalidPort);
    }
    digits.parse().ok().filter(|port| *port != 0).map(Some).ok_or(HostRefusal::InvalidPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_normalized_for_comparison_and_forwarded_unchanged() {
        for (name, text, expect, port) in [
            ("a name", "api.example.com", "api.example.com", None),
            ("with a port", "api.example.com:8443", "api.example.com", Some(8443)),
            ("upper case", "API.Example.COM", "api.example.com", None),
            ("trailing dot", "api.example.com.", "api.example.com", None),
            ("trailing dot and port", "Api.example.com.:80", "api.example.com", Some(80)),
            ("one label", "localhost", "localhost", None),
            ("an underscore, as in container names", "my_service:9000", "my_service", Some(9000)),
            ("IPv4", "127.0.0.1:8080", "127.0.0.1", Some(8080)),
            ("IPv6", "[::1]", "[::1]", None),
            ("IPv6, long form", "[2001:DB8:0:0::1]:443", "[2001:db8::1]", Some(443)),
        ] {
            let host = Host::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((host.name(), host.port()), (expect, port), "{name}");
        }
    }

    #[test]
    fn each_refusal_has_a_reason_of_its_own() {
        use HostRefusal::*;
        let all =
            [Contradiction, Empty, InvalidAddress, InvalidName, InvalidPort, Malformed, Missing, Several, TooLong];
        let reasons: std::collections::BTreeSet<_> = all.map(HostRefusal::reason).into();
        assert!(reasons.len() == all.len() && reasons.iter().all(|reason| reason.starts_with("host_")), "{reasons:?}");
    }

    #[test]
    fn the_length_of_a_host_is_limited() {
        let host_of = |bytes: usize| {
            let label = format!("{}.", "a".repeat(62));
            let text = format!("{}{}", label.repeat(4), "b".repeat(bytes - 252));
            (text.len(), Host::parse(&text).map(|host| host.name().len()))
        };
        assert_eq!(host_of(MAX_HOST_BYTES), (MAX_HOST_BYTES, Ok(MAX_HOST_BYTES)));
        assert_eq!(host_of(MAX_HOST_BYTES + 1), (MAX_HOST_BYTES + 1, Err(HostRefusal::TooLong)));
    }

    /// TG-1.
    #[test]
    fn everything_but_one_host_with_an_optional_port_is_refused() {
        let long = format!("{}.example", "a".repeat(250));
        let long_label = format!("{}.example", "a".repeat(64));
        for (name, text, expect) in [
            ("empty", "", HostRefusal::Empty),
            ("only a port", ":80", HostRefusal::Empty),
            ("only a dot", ".", HostRefusal::InvalidName),
            ("two dots at the end", "g..", HostRefusal::InvalidName),
            ("an empty label", "a..b", HostRefusal::InvalidName),
            ("a dot in front", ".g", HostRefusal::InvalidName),
            ("a list", "g,evil", HostRefusal::InvalidName),
            ("user information", "user@g", HostRefusal::InvalidName),
            ("user information with a colon", "user:1@g", HostRefusal::InvalidPort),
            ("a space", "g evil", HostRefusal::InvalidName),
            ("a space in front", " g", HostRefusal::InvalidName),
            ("a control byte", "g\0", HostRefusal::InvalidName),
            ("an escape", "g%2eevil", HostRefusal::InvalidName),
            ("a path", "g/evil", HostRefusal::InvalidName),
            ("a parameter", "g;for=1.2.3.4", HostRefusal::InvalidName),
            ("not ASCII", "gé", HostRefusal::InvalidName),
            ("a wildcard", "*.g", HostRefusal::InvalidName),
            ("an empty port", "g:", HostRefusal::InvalidPort),
            ("a signed port", "g:+80", HostRefusal::InvalidPort),
            ("port zero", "g:0", HostRefusal::InvalidPort),
            ("a port too large", "g:65536", HostRefusal::InvalidPort),
            ("two ports", "g:80:81", HostRefusal::InvalidPort),
            ("IPv6 without brackets", "::1", HostRefusal::Empty),
            ("IPv6 without the closing bracket", "[::1", HostRefusal::InvalidAddress),
            ("IPv6 with a zone", "[fe80::1%eth0]", HostRefusal::InvalidAddress),
            ("IPv6 followed by text", "[::1]evil", HostRefusal::InvalidAddress),
            ("IPv4 in brackets", "[127.0.0.1]", HostRefusal::InvalidAddress),
            ("an IPvFuture address", "[v1.x]", HostRefusal::InvalidAddress),
            ("a long label", long_label.as_str(), HostRefusal::InvalidName),
            ("too long", long.as_str(), HostRefusal::TooLong),
        ] {
            assert_eq!(Host::parse(text), Err(expect), "{name}");
        }
    }
}
