//! What the tests of this module start from: upstreams on loopback, servers that are only sockets,
//! and requests that clients have not completed.

pub(super) mod client_body;
pub(super) mod raw_server;

use super::*;
use crate::telemetry::metrics::Metrics;

/// An upstream with servers on these ports of loopback.
pub(crate) fn upstream(balance: Balance, ports: &[u16]) -> Upstream {
    weighted_upstream(balance, &ports.iter().map(|port| (*port, 1)).collect::<Vec<_>>())
}

/// An upstream with servers on these ports of loopback, each with its weight.
pub(crate) fn weighted_upstream(balance: Balance, servers: &[(u16, u32)]) -> Upstream {
    from_settings(settings(balance, servers))
}

/// An upstream with a server on this port of loopback, and with these settings.
pub(super) fn upstream_with(port: u16, change: impl FnOnce(&mut UpstreamSettings)) -> Upstream {
    let mut settings = settings(Balance::RoundRobin, &[(port, 1)]);
    change(&mut settings);
    from_settings(settings)
}

fn from_settings(settings: UpstreamSettings) -> Upstream {
    let metrics = Metrics::new(Clock::system()).upstream("orders");
    Upstream::new(settings, None, metrics, Clock::system())
}

fn settings(balance: Balance, servers: &[(u16, u32)]) -> UpstreamSettings {
    let server = |&(port, weight): &(u16, u32)| WeightedAddress { address: ServerAddress::loopback(port), weight };
    UpstreamSettings {
        name: "orders".into(),
        servers: servers.iter().map(server).collect(),
        balance,
        connect_timeout: Duration::from_secs(2),
        response_timeout: Duration::from_secs(30),
        keep_alive: Duration::from_secs(4),
        max_connections: 1024,
        max_pending: 1024,
        max_tunnels: 512,
        max_tunnels_per_client: 128,
        max_tunnel_lifetime: Duration::from_secs(24 * 3600),
        retry: RetrySettings::defaults(),
        protocol: Protocol::Http1,
        tls: None,
        host: HostHeader::Preserve,
        forward_token: false,
        forward_client_cert: ForwardClientCert::None,
        health: HealthSettings::default(),
    }
}
