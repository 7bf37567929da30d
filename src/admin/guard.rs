//! Guard of the admin listener: keeps web pages from reading it through a user's browser.
//!
//! A page can reach the listener in two ways. With DNS rebinding it points its own host name at
//! 127.0.0.1 after it has loaded. `Host` then contains that name, so a loopback listener serves
//! only names that no attacker can control. Or the page sends a cross-origin request, which
//! `Origin` (RFC 6454 §7) reveals.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, Uri};

/// Why a request is forbidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forbidden {
    /// `Host` is a name that an attacker may control.
    Host,
    /// A page of another origin sent the request.
    Origin,
}

/// Checks `Host` and `Origin`.
///
/// # Errors
///
/// [`Forbidden`] names the first of the two that is not acceptable.
pub(super) fn check(headers: &HeaderMap, uri: &Uri, on_loopback: bool) -> Result<(), Forbidden> {
    let host = single(headers, &HOST);
    if on_loopback {
        // A target in absolute form contains the host too and takes precedence (RFC 9112 §3.2.2).
        let target_is_local = uri.authority().is_none_or(|authority| is_local_name(authority.as_str()));
        let host_is_local = matches!(host, Field::Once(host) if is_local_name(host));
        if !(target_is_local && host_is_local) {
            return Err(Forbidden::Host);
        }
    }
    match (single(headers, &ORIGIN), host) {
        (Field::Absent, _) => Ok(()),
        (Field::Once(origin), Field::Once(host)) if is_same_origin(origin, host) => Ok(()),
        (Field::Once(_) | Field::Ambiguous, _) => Err(Forbidden::Origin),
    }
}

enum Field<'h> {
    Absent,
    Once(&'h str),
    /// Present more than once, or not visible ASCII.
    Ambiguous,
}

fn single<'h>(headers: &'h HeaderMap, name: &http::HeaderName) -> Field<'h> {
    let mut values = headers.get_all(name).iter();
    match (values.next().map(http::HeaderValue::to_str), values.next()) {
        (None, _) => Field::Absent,
        (Some(Ok(value)), None) => Field::Once(value),
        (Some(_), _) => Field::Ambiguous,
    }
}

/// Whether `host`, with or without a port, is an IP address or `localhost`, which is not resolved
/// by DNS (RFC 6761 §6.3).
fn is_local_name(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let name = authority.host();
    match name.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(inside) => inside.parse::<Ipv6Addr>().is_ok(),
        None => name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok(),
    }
}

/// Whether `origin` is this listener, which serves plain HTTP only, as addressed by `host`.
fn is_same_origin(origin: &str, host: &str) -> bool {
    origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_request(headers: &[(&str, &str)], target: &str, on_loopback: bool) -> Result<(), Forbidden> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        check(&map, &target.parse().unwrap(), on_loopback)
    }

    #[test]
    fn on_loopback_only_addresses_and_localhost_are_served() {
        for (host, expect) in [
            ("127.0.0.1:9090", Ok(())),
            ("127.0.0.1", Ok(())),
            ("10.1.2.3:9090", Ok(())),
            ("[::1]:9090", Ok(())),
            ("[::1]", Ok(())),
            ("localhost:9090", Ok(())),
            ("LOCALHOST", Ok(())),
            ("evil.test", Err(Forbidden::Host)),
            ("evil.test:9090", Err(Forbidden::Host)),
            ("localhost.evil.test", Err(Forbidden::Host)),
            ("127.0.0.1.evil.test", Err(Forbidden::Host)),
            ("127.0.0.1@evil.test", Err(Forbidden::Host)),
            ("evil.test@127.0.0.1", Err(Forbidden::Host)),
            ("[evil.test]", Err(Forbidden::Host)),
            ("127.1", Err(Forbidden::Host)),
            ("", Err(Forbidden::Host)),
        ] {
            assert_eq!(check_request(&[("host", host)], "/metrics", true), expect, "{host}");
        }
    }

    #[test]
    fn on_loopback_host_must_be_present_once_and_local_in_the_target_too() {
        let local = ("host", "localhost");
        for (name, headers, target, expect) in [
            ("absent", &[][..], "/", Err(Forbidden::Host)),
            ("twice", &[local, local], "/", Err(Forbidden::Host)),
            ("absolute form, local", &[local], "http://127.0.0.1/", Ok(())),
            ("absolute form, a name", &[local], "http://evil.test/", Err(Forbidden::Host)),
        ] {
            assert_eq!(check_request(headers, target, true), expect, "{name}");
        }
    }

    #[test]
    fn on_other_addresses_any_host_is_served() {
        assert_eq!(check_request(&[("host", "gateway.internal:9090")], "/", false), Ok(()));
        assert_eq!(check_request(&[], "/", false), Ok(()));
    }

    #[test]
    fn cross_origin_requests_are_forbidden_on_every_listener() {
        let host = ("host", "localhost:9090");
        for (name, headers, expect) in [
            ("same", &[host, ("origin", "http://localhost:9090")][..], Ok(())),
            ("same, other case", &[host, ("origin", "http://LOCALHOST:9090")], Ok(())),
            ("other host", &[host, ("origin", "http://evil.test")], Err(Forbidden::Origin)),
            ("other port", &[host, ("origin", "http://localhost:8080")], Err(Forbidden::Origin)),
            ("other scheme", &[host, ("origin", "https://localhost:9090")], Err(Forbidden::Origin)),
            ("null", &[host, ("origin", "null")], Err(Forbidden::Origin)),
            ("empty", &[host, ("origin", "")], Err(Forbidden::Origin)),
            (
                "two",
                &[host, ("origin", "http://localhost:9090"), ("origin", "http://evil.test")],
                Err(Forbidden::Origin),
            ),
        ] {
            for on_loopback in [true, false] {
                assert_eq!(check_request(headers, "/", on_loopback), expect, "{name}");
            }
        }
        assert_eq!(
            check_request(&[("origin", "http://localhost")], "/", false),
            Err(Forbidden::Origin),
            "no host to compare with"
        );
    }
}
