//! `[upstreams.NAME]`: the servers behind the gateway, and how it connects to them.

mod balance;
mod health;
mod retry;
mod servers;
mod tls;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::server_tls::{CLIENT_AUTH_HINT, asks_for_client_certificates};
use super::syntax::{check_name, nonzero_duration};
use crate::config::key_path::child;
use crate::config::units::{self, TimeSpan};
use crate::config::{Problems, Server, Upstream};
use crate::upstream::{ForwardClientCert, HostHeader, Protocol, UpstreamSettings};

pub(super) fn compile(
    upstreams: &BTreeMap<String, Upstream>,
    server: &Server,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, UpstreamSettings> {
    let mut compiled = BTreeMap::new();
    for (name, upstream) in upstreams {
        let key_path = child("upstreams", name);
        check_name(&key_path, name, problems);
        if upstream.forward_client_cert != units::ForwardClientCert::None && !asks_for_client_certificates(server) {
            problems.add_with_hint(
                child(&key_path, "forward_client_cert"),
                "has no effect, because clients are not asked for a certificate",
                CLIENT_AUTH_HINT,
            );
        }
        let settings = compile_upstream(name, &key_path, upstream, problems);
        compiled.insert(Arc::clone(&settings.name), settings);
    }
    compiled
}

fn compile_upstream(name: &str, key_path: &str, upstream: &Upstream, problems: &mut Problems) -> UpstreamSettings {
    let tls_path = child(key_path, "tls");
    let server_name = upstream.tls.as_ref().and_then(|tls| tls::server_name(&tls_path, tls, problems));
    let servers = servers::compile(&child(key_path, "servers"), &upstream.servers, server_name.as_ref(), problems);
    let has_tls = servers.iter().any(|server| server.address.has_tls());
    let tls = upstream.tls.as_ref().map(|tls| tls::compile(&tls_path, tls, problems));
    if tls.is_some() && !has_tls {
        problems.add_with_hint(
            tls_path,
            "no server of this upstream is connected to with TLS",
            "write `https://` URLs in `servers`, or remove `tls`",
        );
    }
    super::routes::check_body_idle(key_path, upstream.body_idle_timeout, problems);
    let balance = balance::parse(&child(key_path, "balance"), &upstream.balance, problems);
    let retry = retry::compile(key_path, upstream, problems);
    let TunnelShares { max_tunnels, max_tunnels_per_client } = compile_tunnels(key_path, upstream, problems);
    let mut duration = |name: &str, span: TimeSpan| nonzero_duration(&child(key_path, name), span, problems);
    UpstreamSettings {
        name: name.into(),
        servers,
        balance,
        connect_timeout: duration("connect_timeout", upstream.connect_timeout),
        response_timeout: duration("response_timeout", upstream.response_timeout),
        keep_alive: duration("keep_alive", upstream.keep_alive),
        max_connections: upstream.max_connections.get() as usize,
        max_pending: upstream.max_pending as usize,
        max_tunnels,
        max_tunnels_per_client,
        max_tunnel_lifetime: duration("max_tunnel_lifetime", upstream.max_tunnel_lifetime),
        retry,
        protocol: match upstream.protocol {
            units::UpstreamProtocol::Auto if has_tls => Protocol::Negotiated,
            units::UpstreamProtocol::Auto | units::UpstreamProtocol::Http1 => Protocol::Http1,
            units::UpstreamProtocol::Http2 => Protocol::Http2,
        },
        tls: has_tls.then(|| tls.unwrap_or_default()),
        host: match upstream.host {
            units::HostHeader::Preserve => HostHeader::Preserve,
            units::HostHeader::Upstream => HostHeader::Upstream,
        },
        forward_token: upstream.forward_token,
        forward_client_cert: match upstream.forward_client_cert {
            units::ForwardClientCert::None => ForwardClientCert::None,
            units::ForwardClientCert::Certificate => ForwardClientCert::Certificate,
            units::ForwardClientCert::Chain => ForwardClientCert::Chain,
        },
        health: health::compile(key_path, upstream, problems),
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
