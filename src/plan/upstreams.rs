//! `[upstreams.NAME]`: the servers behind the gateway, and how it connects to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderValue;
use url::{Host, Url};

use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::units::{self, TimeSpan};
use crate::config::{Problems, Upstream};
use crate::upstream::balance::Balance;
use crate::upstream::{HostHeader, Protocol, ServerAddress, UpstreamSettings};

pub(super) fn compile(
    written: &BTreeMap<String, Upstream>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, UpstreamSettings> {
    let mut compiled = BTreeMap::new();
    for (name, upstream) in written {
        let path = child("upstreams", name);
        super::headers::check_name(&path, name, problems);
        let settings = compile_one(name, &path, upstream, problems);
        compiled.insert(Arc::clone(&settings.name), settings);
    }
    compiled
}

fn compile_one(name: &str, path: &str, written: &Upstream, problems: &mut Problems) -> UpstreamSettings {
    let servers = compile_servers(&child(path, "servers"), &written.servers, problems);
    let mut duration = |name: &str, span: TimeSpan| {
        let duration = span.duration();
        if duration.is_zero() {
            problems.add(child(path, name), "must be longer than zero");
        }
        duration
    };
    UpstreamSettings {
        name: name.into(),
        servers,
        balance: match written.balance {
            units::Balance::LeastRequest => Balance::LeastRequest,
            units::Balance::RoundRobin => Balance::RoundRobin,
        },
        connect_timeout: duration("connect_timeout", written.connect_timeout),
        response_timeout: duration("response_timeout", written.response_timeout),
        keep_alive: duration("keep_alive", written.keep_alive),
        max_connections: written.max_connections.get() as usize,
        max_pending: written.max_pending as usize,
        protocol: match written.protocol {
            units::UpstreamProtocol::Http1 => Protocol::Http1,
            units::UpstreamProtocol::Http2 => Protocol::Http2,
        },
        host: match written.host {
            units::HostHeader::Preserve => HostHeader::Preserve,
            units::HostHeader::Upstream => HostHeader::Upstream,
        },
        forward_token: written.forward_token,
    }
}

fn compile_servers(place: &str, written: &[String], problems: &mut Problems) -> Vec<ServerAddress> {
    if written.is_empty() {
        problems.add_with_hint(place, "missing", "at least one, such as [\"http://127.0.0.1:9000\"]");
    }
    let mut servers: Vec<ServerAddress> = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let place = format!("{place}[{index}]");
        match parse_server(text) {
            Ok(server) if servers.contains(&server) => problems.add(place, format!("{} is listed twice", quoted(text))),
            Ok(server) => servers.push(server),
            Err((what, hint)) => problems.add_with_hint(place, what, hint),
        }
    }
    servers
}

fn parse_server(text: &str) -> Result<ServerAddress, (String, &'static str)> {
    let hint = "a server is scheme, host and port, such as \"http://127.0.0.1:9000\"";
    let url = Url::parse(text).map_err(|error| (format!("{} is not a URL: {error}", quoted(text)), hint))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("the URL contains a user name or a password".to_owned(), hint));
    }
    match url.scheme() {
        "http" => {}
        "https" => {
            return Err((
                format!("{} is an https URL; TLS to upstreams is not supported", quoted(text)),
                "use http:// on a network you trust, or a TLS tunnel to the server",
            ));
        }
        _ => return Err((format!("{} is not an http URL", quoted(text)), hint)),
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err((
            format!("{} has a path, a query or a fragment", quoted(text)),
            "a route's `add_prefix` adds a path in front",
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
    Ok(ServerAddress { host, port, authority })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_scheme_a_host_and_a_port() {
        for (text, expected) in [
            ("http://127.0.0.1:9000", Some(("127.0.0.1", 9000, "127.0.0.1:9000"))),
            ("http://orders", Some(("orders", 80, "orders"))),
            ("http://orders:80/", Some(("orders", 80, "orders"))),
            ("http://[::1]:9000", Some(("::1", 9000, "[::1]:9000"))),
            ("https://orders", None),
            ("http://orders/api", None),
            ("http://orders/?x", None),
            ("http://user:secret@orders", None),
            ("orders:9000", None),
            ("http://orders:0", None),
            ("", None),
        ] {
            let parsed = parse_server(text).ok();
            let shown = parsed.as_ref().map(|s| (s.host.as_str(), s.port, s.authority.to_str().unwrap()));
            assert_eq!(shown, expected, "{text}");
        }
    }
}
