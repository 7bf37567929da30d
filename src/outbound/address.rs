//! Address scope: from how far away the host of a URL can be reached, judged by its text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use url::{Host, Url};

/// From how far away the host of a URL can be reached.
///
/// A DNS name counts as [`Public`](Self::Public) even if it resolves to an internal address; the
/// server then still needs a certificate for that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressScope {
    /// The local network segment. Cloud providers serve instance metadata there.
    LinkLocal,
    /// This machine: 127.0.0.0/8, `::1`, `localhost` and the names below it.
    Loopback,
    /// A private network (RFC 1918, RFC 4193, RFC 6598).
    Private,
    /// The Internet.
    Public,
    /// Not the address of one machine: unspecified, multicast, broadcast, or no host at all.
    Special,
}

/// Whether data from `url` cannot be forged on the network: `https`, or `http` to this machine.
#[must_use]
pub(crate) fn is_secure_url(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => AddressScope::of(url) == AddressScope::Loopback,
        _ => false,
    }
}

/// Whether `name` is `localhost` or a name below it (RFC 6761 §6.3). `name` is in lower case, as
/// [`Url`] has it, and may end with a dot.
pub(super) fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name == "localhost" || name.ends_with(".localhost")
}

impl AddressScope {
    /// The scope of the host in `url`. An IPv4-mapped IPv6 address counts as the IPv4 address.
    #[must_use]
    pub(crate) fn of(url: &Url) -> Self {
        match url.host() {
            Some(Host::Domain(name)) if is_localhost(name) => Self::Loopback,
            Some(Host::Domain(_)) => Self::Public,
            Some(Host::Ipv4(address)) => Self::of_v4(address),
            Some(Host::Ipv6(address)) => match IpAddr::V6(address).to_canonical() {
                IpAddr::V4(address) => Self::of_v4(address),
                IpAddr::V6(address) => Self::of_v6(address),
            },
            None => Self::Special,
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [first, second, ..] = address.octets();
        // RFC 6598: 100.64.0.0/10 lies behind a provider's address translation.
        let is_shared = first == 100 && second & 0xc0 == 64;
        if address.is_loopback() {
            Self::Loopback
        } else if address.is_link_local() {
            Self::LinkLocal
        } else if address.is_private() || is_shared {
            Self::Private
        } else if first == 0 || address.is_multicast() || address.is_broadcast() {
            Self::Special
        } else {
            Self::Public
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_loopback() {
            Self::Loopback
        } else if address.is_unicast_link_local() {
            Self::LinkLocal
        } else if address.is_unique_local() {
            Self::Private
        } else if address.is_unspecified() || address.is_multicast() {
            Self::Special
        } else {
            Self::Public
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_secure_on_loopback_only() {
        for (url, expected) in [
            ("https://idp.test", true),
            ("https://10.0.0.1", true),
            ("http://127.0.0.1:81", true),
            ("http://127.1.2.3", true),
            ("http://2130706433", true),
            ("http://[::1]", true),
            ("http://[::ffff:127.0.0.1]:1", true),
            ("http://localhost", true),
            ("http://LOCALHOST.", true),
            ("http://auth.localhost:1234", true),
            ("http://auth.localhost.", true),
            ("http://notlocalhost", false),
            ("http://localhost.test", false),
            ("http://idp.test", false),
            ("http://10.0.0.1", false),
            ("http://0.0.0.0", false),
            ("http://[::ffff:10.0.0.1]", false),
            ("http://[::]", false),
            ("ftp://127.0.0.1", false),
            ("file:///etc/passwd", false),
            ("data:text/plain,x", false),
        ] {
            assert_eq!(is_secure_url(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
