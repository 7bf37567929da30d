//! Host header: one valid `host[:port]` (RFC 9112 §3.2, RFC 3986 §3.2.2), in the form in which routes compare it.
//!
//! Part of intake, which also sees to it that there is exactly one. The HTTP library takes any text for a host, so commas, user
//! information, escapes and control bytes end here, before the value is compared, logged or written into `Forwarded`.

use std::net::Ipv6Addr;

use thiserror::Error;

/// A host as a client named it, with the name to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    written: Box<str>,
    /// Where the name ends in `written`: before the trailing dot and the port.
    name_end: usize,
    /// The name to compare, where `written` does not have it letter for letter.
    folded: Option<Box<str>>,
    port: Option<u16>,
}

/// Why a host is refused, by [`Host::parse`] or by intake, which looks for it. None of these holds text of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum HostRefusal {
    /// The target and the field name different hosts.
    #[error("is not the one of the target")]
    Contradiction,
    /// Nothing before the port.
    #[error("is empty")]
    Empty,
    /// A bracketed address that is no IPv6 address.
    #[error("is not an IPv6 address in brackets")]
    InvalidAddress,
    /// An empty label, one of more than 63 bytes, or a byte other than letters, digits, `-` and `_`.
    #[error("is not a host name")]
    InvalidName,
    /// Something behind `:` that is no number from 1 to 65535.
    #[error("has a port that is not a number from 1 to 65535")]
    InvalidPort,
    /// Not text.
    #[error("is not text")]
    Malformed,
    /// There is none.
    #[error("is missing")]
    Missing,
    /// There is more than one field.
    #[error("is there more than once")]
    Several,
    /// More than [`MAX_HOST_BYTES`].
    #[error("is longer than {MAX_HOST_BYTES} bytes")]
    TooLong,
}

/// Longest `Host` value, in bytes: the most that a name in DNS can have (RFC 1035 §2.3.4).
pub const MAX_HOST_BYTES: usize = 255;

impl HostRefusal {
    /// The reason as a fixed word, for the log.
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
    /// A [`HostRefusal`] for everything that is not a name, an IPv4 address or a bracketed IPv6 address, with at most a port. An
    /// empty port (`example.com:`) is refused as well: nobody sends it, and backends differ in what they make of it.
    pub fn parse(text: &str) -> Result<Self, HostRefusal> {
        if text.len() > MAX_HOST_BYTES {
            return Err(HostRefusal::TooLong);
        }
        let (name, port) = if text.starts_with('[') {
            text.split_at(text.find(']').ok_or(HostRefusal::InvalidAddress)? + 1)
        } else {
            text.split_at(text.find(':').unwrap_or(text.len()))
        };
        let (name_end, folded) = if name.starts_with('[') { fold_address(name)? } else { fold_name(name)? };
        Ok(Self { written: text.into(), name_end, folded, port: parse_port(port)? })
    }

    /// The name to compare: lower case, without port and trailing dot; an IPv6 address in brackets and in its shortest form.
    #[must_use]
    pub fn name(&self) -> &str {
        self.folded.as_deref().unwrap_or(&self.written[..self.name_end])
    }

    /// The port, if one was named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Exactly what the client sent: what an upstream gets when the host is preserved.
    #[must_use]
    pub fn as_written(&self) -> &str {
        &self.written
    }
}

/// Where the name ends, and the name to compare if it is another text.
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
    // The dot at the end is the root of DNS: the same host, and it must meet the same rules.
    let name = name.strip_suffix('.').unwrap_or(name);
    if !name.split('.').all(is_label) {
        return Err(HostRefusal::InvalidName);
    }
    let has_upper = name.bytes().any(|byte| byte.is_ascii_uppercase());
    Ok((name.len(), has_upper.then(|| name.to_ascii_lowercase().into())))
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// `""` or `:8080`.
fn parse_port(text: &str) -> Result<Option<u16>, HostRefusal> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix(':').ok_or(HostRefusal::InvalidAddress)?;
    // `u16::from_str` would take `+80`.
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostRefusal::InvalidPort);
    }
    digits.parse().ok().filter(|port| *port != 0).map(Some).ok_or(HostRefusal::InvalidPort)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_folded_for_comparison_and_kept_for_forwarding() {
        for (name, text, expect, port) in [
            ("a name", "api.example.com", "api.example.com", None),
            ("with a port", "api.example.com:8443", "api.example.com", Some(8443)),
            ("upper case", "API.Example.COM", "api.example.com", None),
            ("trailing dot", "api.example.com.", "api.example.com", None),
            ("trailing dot and port", "Api.example.com.:80", "api.example.com", Some(80)),
            ("one label", "localhost", "localhost", None),
            ("an underscore, as container names have", "my_service:9000", "my_service", Some(9000)),
            ("IPv4", "127.0.0.1:8080", "127.0.0.1", Some(8080)),
            ("IPv6", "[::1]", "[::1]", None),
            ("IPv6, long form", "[2001:DB8:0:0::1]:443", "[2001:db8::1]", Some(443)),
        ] {
            let host = Host::parse(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!((host.name(), host.port(), host.as_written()), (expect, port, text), "{name}");
        }
    }

    /// TG-1.
    #[test]
    fn anything_but_one_host_and_port_is_refused() {
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
            ("port nought", "g:0", HostRefusal::InvalidPort),
            ("a port too large", "g:65536", HostRefusal::InvalidPort),
            ("two ports", "g:80:81", HostRefusal::InvalidPort),
            ("IPv6 without brackets", "::1", HostRefusal::Empty),
            ("IPv6 without its end", "[::1", HostRefusal::InvalidAddress),
            ("IPv6 with a zone", "[fe80::1%eth0]", HostRefusal::InvalidAddress),
            ("IPv6 with text behind", "[::1]evil", HostRefusal::InvalidAddress),
            ("IPv4 in brackets", "[127.0.0.1]", HostRefusal::InvalidAddress),
            ("a future address", "[v1.x]", HostRefusal::InvalidAddress),
            ("a long label", long_label.as_str(), HostRefusal::InvalidName),
            ("too long", long.as_str(), HostRefusal::TooLong),
        ] {
            assert_eq!(Host::parse(text), Err(expect), "{name}");
        }
    }
}
