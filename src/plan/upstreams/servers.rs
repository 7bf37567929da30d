//! `servers` of an upstream: URLs and Unix sockets.

use std::path::PathBuf;

use http::HeaderValue;
use rustls_pki_types::ServerName;
use url::{Host, Url};

use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::{Problems, ServerEntry};
use crate::upstream::{DialTarget, ServerAddress, WeightedAddress};

/// Longest path of a Unix socket, in bytes: the operating system's limit, without its final zero.
const MAX_SOCKET_PATH_BYTES: usize = 107;

/// With a larger proportion, the smallest server would get hardly any request.
const MAX_WEIGHT: u32 = 100;

const URL_HINT: &str = "write scheme, host and port, such as \"http://127.0.0.1:9000\"";

/// What is wrong with a server, and a hint.
type ServerProblem = (String, &'static str);

/// `server_name`: the name that all certificates must be for, instead of the hosts in the URLs.
pub(super) fn compile(
    key_path: &str,
    entries: &[ServerEntry],
    server_name: Option<&ServerName<'static>>,
    problems: &mut Problems,
) -> Vec<WeightedAddress> {
    if entries.is_empty() {
        problems.add_with_hint(key_path, "missing", "list at least one server, such as [\"http://127.0.0.1:9000\"]");
    }
    let mut servers: Vec<WeightedAddress> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let key_path = element(key_path, index);
        if entry.weight() > MAX_WEIGHT {
            problems.add_with_hint(
                child(&key_path, "weight"),
                format!("{} is more than the limit of {MAX_WEIGHT}", entry.weight()),
                "weights are compared with each other: write smaller numbers in the same proportion",
            );
        }
        let Some(url) = entry.url() else {
            problems.add_with_hint(child(&key_path, "url"), "missing", URL_HINT);
            continue;
        };
        match parse(url, server_name) {
            Ok(address) if servers.iter().any(|server| server.address == address) => {
                problems.add_with_hint(
                    key_path,
                    format!("{} is listed twice", quoted(url)),
                    "for a larger share, write `{ url = \"…\", weight = 2 }`",
                );
            }
            Ok(address) => servers.push(WeightedAddress { address, weight: entry.weight() }),
            Err((what, hint)) => problems.add_with_hint(key_path, what, hint),
        }
    }
    let has_tls = |server: &WeightedAddress| server.address.has_tls();
    if servers.iter().any(has_tls) && !servers.iter().all(has_tls) {
        problems.add_with_hint(
            key_path,
            "some servers have https URLs and others have not, so that chance would decide what is encrypted",
            "write `https://` for all of them, or make two upstreams of them",
        );
    }
    servers
}

/// Parses the address of a server.
fn parse(text: &str, server_name: Option<&ServerName<'static>>) -> Result<ServerAddress, ServerProblem> {
    match text.strip_prefix("unix:") {
        Some(path) => parse_socket(text, path),
        None => parse_url(text, server_name),
    }
}

/// Parses the path of a Unix socket. It is a label in metrics, so it consists of printable ASCII.
fn parse_socket(text: &str, path: &str) -> Result<ServerAddress, ServerProblem> {
    let hint = "write `unix:` and an absolute path, such as \"unix:/run/orders.sock\"";
    let is_printable = path.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\'));
    if !path.starts_with('/') || path.starts_with("//") || path.ends_with('/') {
        return Err((format!("{} has no absolute path of a socket", quoted(text)), hint));
    }
    if !is_printable {
        return Err((format!("{} has a character that is not printable ASCII, or `\"` or `\\`", quoted(text)), hint));
    }
    if path.len() > MAX_SOCKET_PATH_BYTES {
        let what =
            format!("{} is longer than the {MAX_SOCKET_PATH_BYTES} bytes that a socket's path can have", quoted(text));
        return Err((what, "move the socket to a shorter path"));
    }
    Ok(ServerAddress {
        target: DialTarget::Unix(PathBuf::from(path)),
        authority: HeaderValue::from_static("localhost"),
    })
}

fn parse_url(text: &str, server_name: Option<&ServerName<'static>>) -> Result<ServerAddress, ServerProblem> {
    let hint = URL_HINT;
    let url = Url::parse(text).map_err(|error| (format!("{} is not a URL: {error}", quoted(text)), hint))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("the URL contains a user name or a password".to_owned(), hint));
    }
    let has_tls = match url.scheme() {
        "http" => false,
        "https" => true,
        _ => return Err((format!("{} is not an http or https URL", quoted(text)), hint)),
    };
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err((
            format!("{} has a path, a query or a fragment", quoted(text)),
            "write scheme, host and port only; `add_prefix` in a route puts a path in front",
        ));
    }
    let host = match url.host() {
        Some(Host::Domain(domain)) => domain.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err((format!("{} has no host", quoted(text)), hint)),
    };
    let port = url.port_or_known_default().filter(|port| *port != 0);
    let port = port.ok_or_else(|| (format!("{} has port 0", quoted(text)), hint))?;
    let shown = url.host_str().unwrap_or_default();
    let authority = url.port().map_or_else(|| shown.to_owned(), |port| format!("{shown}:{port}"));
    let authority =
        HeaderValue::try_from(authority).map_err(|_| (format!("{} has no usable host", quoted(text)), hint))?;
    let tls_name = match (has_tls, server_name) {
        (false, _) => None,
        (true, Some(name)) => Some(name.clone()),
        (true, None) => Some(ServerName::try_from(host.clone()).map_err(|_| {
            let hint = "write a name that certificates can be for, or set `tls.server_name`";
            (format!("{} has a host that no certificate can be for", quoted(text)), hint)
        })?),
    };
    Ok(ServerAddress { target: DialTarget::Tcp { host, port, tls_name }, authority })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_scheme_a_host_and_a_port() {
        for (text, expected) in [
            ("http://127.0.0.1:9000", Some(("127.0.0.1", 9000, "127.0.0.1:9000", None))),
            ("http://orders", Some(("orders", 80, "orders", None))),
            ("http://orders:80/", Some(("orders", 80, "orders", None))),
            ("http://[::1]:9000", Some(("::1", 9000, "[::1]:9000", None))),
            ("https://orders", Some(("orders", 443, "orders", Some("orders")))),
            ("https://orders:443", Some(("orders", 443, "orders", Some("orders")))),
            ("https://[::1]:9000", Some(("::1", 9000, "[::1]:9000", Some("::1")))),
            ("https://-orders", None),
            ("ftp://orders", None),
            ("http://orders/api", None),
            ("http://orders/?x", None),
            ("http://user:secret@orders", None),
            ("orders:9000", None),
            ("http://orders:0", None),
            ("", None),
        ] {
            let parsed = parse(text, None).ok();
            let expected = expected.map(|(host, port, authority, name)| {
                let tls_name = name.map(|name| ServerName::try_from(name).unwrap());
                let target = DialTarget::Tcp { host: host.to_owned(), port, tls_name };
                ServerAddress { target, authority: HeaderValue::from_static(authority) }
            });
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn a_unix_socket_has_an_absolute_path() {
        let longest = format!("unix:/{}", "a".repeat(MAX_SOCKET_PATH_BYTES - 1));
        for (text, is_valid) in [
            ("unix:/run/orders.sock", true),
            (&*longest, true),
            (&*format!("{longest}a"), false),
            ("unix:orders.sock", false),
            ("unix:///run/orders.sock", false),
            ("unix:/run/", false),
            ("unix:", false),
            ("unix:/run/\u{e9}.sock", false),
            ("unix:/run/\"x.sock", false),
            ("unix:/run/x\u{0}.sock", false),
        ] {
            let expected = is_valid.then(|| PathBuf::from(&text[5..])).map(DialTarget::Unix);
            assert_eq!(parse(text, None).ok().map(|server| server.target), expected, "{text}");
        }
        assert_eq!(parse("unix:/run/orders.sock", None).unwrap().label(), "unix:/run/orders.sock");
    }
}
