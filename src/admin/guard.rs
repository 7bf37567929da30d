//! Who may ask at the side door: keeps browsers from carrying a stranger's page to it.
//!
//! Two ways lead a browser here. A page may point its own name at 127.0.0.1 once it is loaded (DNS rebinding): then `Host`
//! holds that name, so on a loopback listener only names that nobody can point elsewhere are served. Or it may simply send a
//! request across origins: then `Origin` (RFC 6454 §7) says so.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// Addressed to a name that could be anybody's.
    Host,
    /// Sent by a page of another origin.
    Origin,
}

/// Checks where a request was addressed to and which page sent it.
///
/// # Errors
///
/// [`Refused`], with which of the two is not in order.
pub(super) fn check(headers: &HeaderMap, uri: &Uri, on_loopback: bool) -> Result<(), Refused> {
    let host = only(headers, &HOST);
    if on_loopback {
        // A target in absolute form names the host too, and goes before the field (RFC 9112 §3.2.2).
        let in_target = uri.authority().is_none_or(|authority| is_local_name(authority.as_str()));
        let in_field = matches!(host, Field::Once(host) if is_local_name(host));
        if !(in_target && in_field) {
            return Err(Refused::Host);
        }
    }
    match (only(headers, &ORIGIN), host) {
        (Field::Absent, _) => Ok(()),
        (Field::Once(origin), Field::Once(host)) if is_same_origin(origin, host) => Ok(()),
        (Field::Once(_) | Field::Unclear, _) => Err(Refused::Origin),
    }
}

enum Field<'h> {
    Absent,
    Once(&'h str),
    /// More than once, or not text.
    Unclear,
}

fn only<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Field<'h> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(http::HeaderValue::to_str), values.next()) {
        (None, _) => Field::Absent,
        (Some(Ok(value)), None) => Field::Once(value),
        (Some(_), _) => Field::Unclear,
    }
}

/// Whether `host` (with or without port) is an IP address or `localhost`, which no DNS server is asked for (RFC 6761 §6.3).
fn is_local_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok(),
    }
}

/// Whether a page of `origin` is one that this listener served as `host`. It speaks plain HTTP only.
fn is_same_origin(origin: &str, host: &str) -> bool {
    origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(headers: &[(&str, &str)], target: &str, on_loopback: bool) -> Result<(), Refused> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        check(&map, &target.parse().unwrap(), on_loopback)
    }

    #[test]
    fn on_loopback_only_names_that_nobody_can_point_elsewhere_are_served() {
        for (host, expect) in [
            ("127.0.0.1:9090", Ok(())),
            ("127.0.0.1", Ok(())),
            ("10.1.2.3:9090", Ok(())),
            ("[::1]:9090", Ok(())),
            ("[::1]", Ok(())),
            ("localhost:9090", Ok(())),
            ("LOCALHOST", Ok(())),
            ("evil.test", Err(Refused::Host)),
            ("evil.test:9090", Err(Refused::Host)),
            ("localhost.evil.test", Err(Refused::Host)),
            ("127.0.0.1.evil.test", Err(Refused::Host)),
            ("127.0.0.1@evil.test", Err(Refused::Host)),
            ("evil.test@127.0.0.1", Err(Refused::Host)),
            ("[evil.test]", Err(Refused::Host)),
            ("127.1", Err(Refused::Host)),
            ("", Err(Refused::Host)),
        ] {
            assert_eq!(checked(&[("host", host)], "/metrics", true), expect, "{host}");
        }
    }

    #[test]
    fn on_loopback_the_host_must_be_given_once_and_a_target_may_not_differ() {
        let local = ("host", "localhost");
        for (name, headers, target, expect) in [
            ("absent", &[][..], "/", Err(Refused::Host)),
            ("twice", &[local, local], "/", Err(Refused::Host)),
            ("absolute form, local", &[local], "http://127.0.0.1/", Ok(())),
            ("absolute form, a name", &[local], "http://evil.test/", Err(Refused::Host)),
        ] {
            assert_eq!(checked(headers, target, true), expect, "{name}");
        }
    }

    #[test]
    fn elsewhere_any_host_is_served() {
        assert_eq!(checked(&[("host", "gateway.internal:9090")], "/", false), Ok(()));
        assert_eq!(checked(&[], "/", false), Ok(()));
    }

    #[test]
    fn requests_of_pages_from_elsewhere_are_refused_on_every_listener() {
        let host = ("host", "localhost:9090");
        for (name, headers, expect) in [
            ("same", &[host, ("origin", "http://localhost:9090")][..], Ok(())),
            ("same, other case", &[host, ("origin", "http://LOCALHOST:9090")], Ok(())),
            ("other host", &[host, ("origin", "http://evil.test")], Err(Refused::Origin)),
            ("other port", &[host, ("origin", "http://localhost:8080")], Err(Refused::Origin)),
            ("other scheme", &[host, ("origin", "https://localhost:9090")], Err(Refused::Origin)),
            ("null", &[host, ("origin", "null")], Err(Refused::Origin)),
            ("empty", &[host, ("origin", "")], Err(Refused::Origin)),
            ("two", &[host, ("origin", "http://localhost:9090"), ("origin", "http://evil.test")], Err(Refused::Origin)),
        ] {
            for on_loopback in [true, false] {
                assert_eq!(checked(headers, "/", on_loopback), expect, "{name}");
            }
        }
        assert_eq!(
            checked(&[("origin", "http://localhost")], "/", false),
            Err(Refused::Origin),
            "no host to compare with"
        );
    }
}
