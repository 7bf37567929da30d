//! `[upstreams.NAME]`: the servers behind the gateway, and how it connects to them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use http::HeaderValue;
use url::{Host, Url};

use super::syntax::{check_name, nonzero_duration};
use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::units::{self, TimeSpan};
use crate::config::{Problems, Upstream};
use crate::upstream::balance::Balance;
use crate::upstream::{HostHeader, Protocol, ServerAddress, UpstreamSettings};

pub(super) fn compile(
    upstreams: &BTreeMap<String, Upstream>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, UpstreamSettings> {
    let mut compiled = BTreeMap::new();
    for (name, upstream) in upstreams {
        let key_path = child("upstreams", name);
        check_name(&key_path, name, problems);
        let settings = compile_upstream(name, &key_path, upstream, problems);
        compiled.insert(Arc::clone(&settings.name), settings);
    }
    compiled
}

fn compile_upstream(name: &str, key_path: &str, upstream: &Upstream, problems: &mut Problems) -> UpstreamSettings {
    let servers = compile_servers(&child(key_path, "servers"), &upstream.servers, problems);
    super::routes::check_body_idle(key_path, upstream.body_idle_timeout, problems);
    let TunnelShares { max_tunnels, max_tunnels_per_client } = compile_tunnels(key_path, upstream, problems);
    let mut duration = |name: &str, span: TimeSpan| nonzero_duration(&child(key_path, name), span, problems);
    UpstreamSettings {
        name: name.into(),
        servers,
        balance: match upstream.balance {
            units::Balance::LeastRequest => Balance::LeastRequest,
            units::Balance::RoundRobin => Balance::RoundRobin,
        },
        connect_timeout: duration("connect_timeout", upstream.connect_timeout),
        response_timeout: duration("response_timeout", upstream.response_timeout),
        keep_alive: duration("keep_alive", upstream.keep_alive),
        max_connections: upstream.max_connections.get() as usize,
        max_pending: upstream.max_pending as usize,
        max_tunnels,
        max_tunnels_per_client,
        max_tunnel_lifetime: duration("max_tunnel_lifetime", upstream.max_tunnel_lifetime),
        protocol: match upstream.protocol {
            units::UpstreamProtocol::Http1 => Protocol::Http1,
            units::UpstreamProtocol::Http2 => Protocol::Http2,
        },
        host: match upstream.host {
            units::HostHeader::Preserve => HostHeader::Preserve,
            units::HostHeader::Upstream => HostHeader::Upstream,
        },
        forward_token: upstream.forward_token,
    }
}

struct TunnelShares {
    max_tunnels: usize,
    max_tunnels_per_client: usize,
}

/// The limits on tunnels. By default, tunnels leave half of the connections to one server to
/// ordinary requests, even if all tunnels go to that server.
fn compile_tunnels(key_path: &str, upstream: &Upstream, problems: &mut Problems) -> TunnelShares {
    let max = upstream.max_tunnels.map_or(upstream.max_connections.get().div_ceil(2), NonZeroU32::get);
    let share = upstream.max_tunnels_per_client.map_or(max.div_ceil(4), NonZeroU32::get);
    if share > max {
        problems.add_with_hint(
            child(key_path, "max_tunnels_per_client"),
            format!("{share} is more than `max_tunnels`, which is {max}"),
            "write a smaller number, or raise `max_tunnels`",
        );
    }
    TunnelShares { max_tunnels: max as usize, max_tunnels_per_client: share as usize }
}

fn compile_servers(key_path: &str, texts: &[String], problems: &mut Problems) -> Vec<ServerAddress> {
    if texts.is_empty() {
        problems.add_with_hint(key_path, "missing", "list at least one server, such as [\"http://127.0.0.1:9000\"]");
    }
    let mut servers: Vec<ServerAddress> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let key_path = element(key_path, index);
        match parse_server(text) {
            Ok(server) if servers.contains(&server) => {
                problems.add(key_path, format!("{} is listed twice", quoted(text)));
            }
            Ok(server) => servers.push(server),
            Err((what, hint)) => problems.add_with_hint(key_path, what, hint),
        }
    }
    servers
}

/// Parses the address of a server.
///
/// # Errors
///
/// What is wrong, and a hint.
fn parse_server(text: &str) -> Result<ServerAddress, (String, &'static str)> {
    let hint = "write scheme, host and port, such as \"http://127.0.0.1:9000\"";
    let url = Url::parse(text).map_err(|error| (format!("{} is not a URL: {error}", quoted(text)), hint))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(("the URL contains a user name or a password".to_owned(), hint));
    }
    match url.scheme() {
        "http" => {}
        "https" => {
            return Err((
                format!("{} is an https URL; TLS to upstreams is not supported", quoted(text)),
                "write an http:// URL, and use a network that you trust or a TLS tunnel to the server",
            ));
        }
        _ => return Err((format!("{} is not an http URL", quoted(text)), hint)),
    }
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
