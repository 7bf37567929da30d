//! `[server]`, `[admin]` and `[log]`.

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use ipnet::IpNet;

use super::listen::{
    compile_https_origin, compile_listeners, compile_takeover_socket, compile_unix_mode, parse_tcp_address,
};
use super::syntax::nonzero_duration;
use super::{LogPlan, acme, server_tls};
use crate::acme::AcmeSettings;
use crate::config::key_path::element;
use crate::config::problem::quoted;
use crate::config::units::{self, ByteRate, LogFormat, LogLevel, TimeSpan, TrustedHeader};
use crate::config::{Admin, AuthFailures, Log, Problems, Server};
use crate::gateway::ServerSettings;
use crate::gateway::client_address::TrustedProxies;
use crate::gateway::policy::ServerHeader;
use crate::gateway::runtime::{ClientTimeouts, SubjectLogging};
use crate::primitives::listen_address::{ListenAddress, ListenerSettings, UnixMode};
use crate::primitives::min_rate::MinRate;
use crate::rate_limit::Quota;
use crate::telemetry::LineFormat;
use crate::telemetry::logging::Level;
use crate::tls::server::ServerTlsSettings;
use crate::upstream::body::MaxBody;
use crate::upstream::headers::ForwardingFamily;

/// `[server]`, compiled.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerPlan {
    /// Where to listen, and what is served there; at least one.
    pub listeners: Vec<ListenerSettings>,
    /// The permissions of Unix sockets among them.
    pub unix_mode: UnixMode,
    /// `[server.tls]`; `None` without TLS.
    pub tls: Option<ServerTlsSettings>,
    /// The Unix socket on which a new process takes over from this one.
    pub takeover_socket: Option<PathBuf>,
    /// `[server.tls.acme]`; `None` if the gateway obtains no certificates.
    pub acme: Option<AcmeSettings>,
    /// Number of worker threads.
    pub workers: Workers,
    /// Open client connections, at most.
    pub max_connections: usize,
    /// Time from the start of the drain until the gateway stops accepting connections.
    pub drain_delay: Duration,
    /// Time after `drain_delay` in which open connections may finish.
    pub drain_timeout: Duration,
    /// Settings that apply to every request.
    pub settings: ServerSettings,
}

/// Number of worker threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// One for each core that the process may use.
    Auto,
    /// This number.
    Count(NonZeroUsize),
}

impl Workers {
    /// The number of worker threads on this machine.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Auto => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            Self::Count(count) => count.get(),
        }
    }
}

/// Lower limit of `max_header_size`. With less, ordinary requests would be refused.
const MIN_HEADER_BYTES: u64 = 1024;
/// Upper limit of `max_header_size`. hyper keeps the whole head of a request in one buffer.
const MAX_HEADER_BYTES: u64 = 1024 * 1024;

pub(super) fn compile(server: &Server, log: &Log, problems: &mut Problems) -> Option<ServerPlan> {
    let problems_before = problems.len();
    let listeners = compile_listeners(server, problems);
    let https_origin = compile_https_origin(server, &listeners, problems);
    let takeover_socket = compile_takeover_socket(server, &listeners, problems);
    let unix_mode = compile_unix_mode(&server.unix_mode, problems);
    let acme = server.tls.as_ref().and_then(|tls| tls.acme.as_ref());
    let acme = acme.and_then(|acme| acme::compile(acme, !server.redirect_listen.is_empty(), problems));
    let tls = server.tls.as_ref().and_then(|tls| server_tls::compile(tls, acme.as_ref(), problems));
    let trusted_proxies = TrustedProxies::new(
        compile_networks(&server.trusted_proxies, problems),
        match server.trusted_header {
            TrustedHeader::Forwarded => ForwardingFamily::Forwarded,
            TrustedHeader::XForwarded => ForwardingFamily::XForwarded,
        },
    );
    let may_be_unix = |address: &ListenAddress| match address {
        ListenAddress::Unix(_) | ListenAddress::Systemd(_) => true,
        ListenAddress::Tcp(_) => false,
    };
    let has_unix_listener = listeners.iter().any(|listener| may_be_unix(&listener.address));
    if server.proxy_protocol && server.trusted_proxies.is_empty() && !has_unix_listener {
        problems.add_with_hint(
            "server.proxy_protocol",
            "no proxy is trusted, so that the gateway refuses every PROXY header",
            "list your proxies in `trusted_proxies`",
        );
    }
    let mut timeout = |name: &str, span: TimeSpan| nonzero_duration(&format!("server.{name}"), span, problems);
    let timeouts = ClientTimeouts {
        header: timeout("header_timeout", server.header_timeout),
        idle: timeout("idle_timeout", server.idle_timeout),
        body_idle: timeout("body_idle_timeout", server.body_idle_timeout),
        min_body_rate: min_body_rate(server.min_body_rate),
    };
    check_sizes(server, problems);
    let server_header = compile_server_header(&server.server_header, problems);
    let max_connections_per_client = compile_client_share(server, problems);
    let client_auth = tls.as_ref().and_then(|tls| tls.client_auth.as_ref()).map(|settings| settings.mode);
    (problems.len() == problems_before).then(|| ServerPlan {
        listeners,
        unix_mode,
        takeover_socket,
        tls,
        acme,
        workers: match server.workers {
            units::Workers::Auto => Workers::Auto,
            units::Workers::Count(count) => Workers::Count(count.try_into().unwrap_or(NonZeroUsize::MIN)),
        },
        max_connections: server.max_connections.get() as usize,
        drain_delay: server.drain_delay.duration(),
        drain_timeout: server.drain_timeout.duration(),
        settings: ServerSettings {
            trusted_proxies,
            proxy_protocol: server.proxy_protocol,
            max_connections_per_client,
            max_header_size: usize::try_from(server.max_header_size.bytes()).unwrap_or(usize::MAX),
            max_token_size: usize::try_from(server.max_token_size.bytes()).unwrap_or(usize::MAX),
            timeouts,
            subject_in_log: if log.subject { SubjectLogging::Clear } else { SubjectLogging::Hashed },
            client_auth,
            https_origin,
            server_header,
        },
    })
}

/// `max_connections_per_client`, or a quarter of `max_connections`, rounded up.
fn compile_client_share(server: &Server, problems: &mut Problems) -> usize {
    let max = server.max_connections.get();
    let share = server.max_connections_per_client.map_or(max.div_ceil(4), NonZeroU32::get);
    if share > max {
        problems.add_with_hint(
            "server.max_connections_per_client",
            format!("{share} is more than `max_connections`, which is {max}"),
            "write a smaller number; proxies of yours, which need many connections, belong in `trusted_proxies`",
        );
    }
    share as usize
}

fn check_sizes(server: &Server, problems: &mut Problems) {
    let (header_size, token_size) = (server.max_header_size, server.max_token_size);
    if !(MIN_HEADER_BYTES..=MAX_HEADER_BYTES).contains(&header_size.bytes()) {
        problems.add("server.max_header_size", format!("`{header_size}` is not between `1 KiB` and `1 MiB`"));
    }
    if token_size.bytes() == 0 {
        problems.add("server.max_token_size", "must be greater than zero");
    } else if token_size.bytes() > header_size.bytes() && header_size.bytes() >= MIN_HEADER_BYTES {
        problems.add_with_hint(
            "server.max_token_size",
            format!("`{token_size}` is larger than `max_header_size`, which is `{header_size}`"),
            "a token is part of the request head; lower `max_token_size`, or raise `max_header_size`",
        );
    }
}

/// The address of the admin listener; `None` if it is off, or if the address has a problem.
pub(super) fn compile_admin(admin: &Admin, problems: &mut Problems) -> Option<SocketAddr> {
    match admin.listen.as_str() {
        "off" => None,
        text => match parse_tcp_address(text) {
            Ok(address) => Some(address),
            Err(what) => {
                let hint = "write an address such as \"127.0.0.1:9090\", or \"off\" for no admin listener";
                problems.add_with_hint("admin.listen", what, hint);
                None
            }
        },
    }
}

fn compile_networks(texts: &[String], problems: &mut Problems) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        match text.parse::<IpNet>().or_else(|_| single()) {
            Ok(network) => networks.push(network),
            Err(_) => problems.add_with_hint(
                element("server.trusted_proxies", index),
                format!("{} is not an IP address or a CIDR block", quoted(text)),
                "write an address or a block, such as \"::1\" or \"10.0.0.0/8\"",
            ),
        }
    }
    networks
}

fn compile_server_header(text: &str, problems: &mut Problems) -> ServerHeader {
    let is_printable = !text.is_empty() && text.trim() == text && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    match (text, HeaderValue::from_str(text)) {
        ("upstream", _) => ServerHeader::Upstream,
        ("off", _) => ServerHeader::Off,
        (_, Ok(value)) if is_printable => ServerHeader::Value(value),
        _ => {
            problems.add_with_hint(
                "server.server_header",
                format!("{} cannot be the value of a header", quoted(text)),
                "write \"upstream\", \"off\", or a name in printable ASCII",
            );
            ServerHeader::Off
        }
    }
}

/// The realm of challenges. It becomes a quoted string (RFC 9110 §5.6.4), which cannot hold `"` and
/// `\` without escapes.
pub(super) fn compile_realm(server: &Server, problems: &mut Problems) -> String {
    let realm = server.realm.clone();
    if realm.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        return realm;
    }
    problems.add_with_hint(
        "server.realm",
        format!("{} contains a character that a realm cannot have", quoted(&realm)),
        "use printable ASCII characters other than `\"` and `\\`",
    );
    Server::default().realm
}

/// `server.auth_failures`; `None` if it is off, or if it has a problem.
pub(super) fn compile_failure_guard(server: &Server, problems: &mut Problems) -> Option<Quota> {
    let limit = match server.auth_failures {
        AuthFailures::Off => return None,
        AuthFailures::Limited(limit) => limit,
    };
    let Some(rate) = limit.rate else {
        problems.add_with_hint("server.auth_failures.rate", "missing", "write a rate such as \"600/min\"");
        return None;
    };
    Some(Quota { count: rate.count, period: rate.period, burst: u64::from(limit.burst.get()) })
}

/// `None` if it is off.
pub(super) fn min_body_rate(rate: ByteRate) -> Option<MinRate> {
    match rate {
        ByteRate::PerSecond(bytes) => Some(MinRate::bytes_per_second(bytes)),
        ByteRate::Off => None,
    }
}

pub(super) fn max_body_size(server: &Server) -> MaxBody {
    MaxBody::Bytes(server.max_body_size.bytes())
}

pub(super) fn compile_log(log: &Log) -> LogPlan {
    LogPlan {
        format: match log.format {
            LogFormat::Json => LineFormat::Json,
            LogFormat::Text => LineFormat::Text,
        },
        level: match log.level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug => Level::Debug,
        },
        access: log.access,
    }
}
