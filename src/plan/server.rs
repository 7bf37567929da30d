//! `[server]`, `[admin]` and `[log]`.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::time::Duration;

use ipnet::IpNet;

use super::LogPlan;
use crate::config::problem::quoted;
use crate::config::units::{self, LogFormat, LogLevel, TimeSpan};
use crate::config::{Admin, AuthFailures, Log, Problems, Server};
use crate::gateway::ServerSettings;
use crate::gateway::client_address::TrustedProxies;
use crate::gateway::runtime::{ClientTimeouts, SubjectLogging};
use crate::rate_limit::Quota;
use crate::telemetry::LineFormat;
use crate::telemetry::logging::Level;
use crate::upstream::body::MaxBody;

/// What `[server]` means.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerPlan {
    /// Where requests are taken; at least one.
    pub listen: Vec<SocketAddr>,
    /// How many threads take them.
    pub workers: Workers,
    /// Connections that may be open.
    pub max_connections: usize,
    /// How long to go on after readiness was taken back.
    pub drain_delay: Duration,
    /// How long open connections may take to finish.
    pub drain_timeout: Duration,
    /// What every request is held against.
    pub settings: ServerSettings,
}

/// How many worker threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workers {
    /// As many as there are cores for this process.
    Auto,
    /// So many.
    Count(NonZeroUsize),
}

impl Workers {
    /// The number, for this machine.
    #[must_use]
    pub fn count(self) -> usize {
        match self {
            Self::Auto => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            Self::Count(count) => count.get(),
        }
    }
}

/// The head must hold at least one usual request; below this nothing would get through.
const MIN_HEADER_BYTES: u64 = 1024;
/// hyper keeps a head in one buffer.
const MAX_HEADER_BYTES: u64 = 1024 * 1024;

pub(super) fn compile(server: &Server, log: &Log, problems: &mut Problems) -> Option<ServerPlan> {
    let before = problems.len();
    let listen = listen(server, problems);
    let trusted_proxies = TrustedProxies::new(networks(&server.trusted_proxies, problems));
    let mut time = |name: &str, span: TimeSpan| {
        let duration = span.duration();
        if duration.is_zero() && !name.starts_with("drain") {
            problems.add(format!("server.{name}"), "a limit of zero would refuse every request");
        }
        duration
    };
    let header_timeout = time("header_timeout", server.header_timeout);
    let idle_timeout = time("idle_timeout", server.idle_timeout);
    let body_idle_timeout = time("body_idle_timeout", server.body_idle_timeout);
    let drain_delay = time("drain_delay", server.drain_delay);
    let drain_timeout = time("drain_timeout", server.drain_timeout);
    let max_header = server.max_header_size.bytes();
    if !(MIN_HEADER_BYTES..=MAX_HEADER_BYTES).contains(&max_header) {
        problems.add("server.max_header_size", format!("{max_header} bytes is not between \"1 KiB\" and \"1 MiB\""));
    }
    let max_token = server.max_token_size.bytes();
    if max_token == 0 || (max_token > max_header && max_header >= MIN_HEADER_BYTES) {
        problems.add_with_hint(
            "server.max_token_size",
            format!("{max_token} bytes is not between 1 and `max_header_size` ({max_header})"),
            "a token longer than the whole head could never arrive",
        );
    }
    (problems.len() == before).then(|| ServerPlan {
        listen,
        workers: match server.workers {
            units::Workers::Auto => Workers::Auto,
            units::Workers::Count(count) => Workers::Count(count.try_into().unwrap_or(NonZeroUsize::MIN)),
        },
        max_connections: server.max_connections.get() as usize,
        drain_delay,
        drain_timeout,
        settings: ServerSettings {
            trusted_proxies,
            max_header_size: usize::try_from(max_header).unwrap_or(usize::MAX),
            max_token_size: usize::try_from(max_token).unwrap_or(usize::MAX),
            timeouts: ClientTimeouts { header: header_timeout, idle: idle_timeout, body_idle: body_idle_timeout },
            subject_in_log: if log.subject { SubjectLogging::Clear } else { SubjectLogging::Hashed },
        },
    })
}

fn listen(server: &Server, problems: &mut Problems) -> Vec<SocketAddr> {
    let written = server.listen.as_slice();
    let mut addresses = Vec::new();
    let several = written.len() > 1;
    for (index, text) in written.iter().enumerate() {
        let path = if several { format!("server.listen[{index}]") } else { "server.listen".to_owned() };
        match address(text) {
            Ok(address) if addresses.contains(&address) && address.port() != 0 => {
                problems.add(path, format!("{} is there twice", quoted(text)));
            }
            Ok(address) => addresses.push(address),
            Err(what) => {
                problems.add_with_hint(path, what, "such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \"[::]:8080\"");
            }
        }
    }
    if written.is_empty() {
        problems.add("server.listen", "at least one address is needed");
    }
    addresses
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{} is not an IP address and a port", quoted(text)))
}

pub(super) fn admin(admin: &Admin, problems: &mut Problems) -> Option<SocketAddr> {
    match admin.listen.as_str() {
        "off" => None,
        text => match address(text) {
            Ok(address) => Some(address),
            Err(what) => {
                problems.add_with_hint("admin.listen", what, "such as \"127.0.0.1:9090\"; \"off\" turns it off");
                None
            }
        },
    }
}

fn networks(written: &[String], problems: &mut Problems) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let single = || text.parse::<IpAddr>().map(IpNet::from);
        match text.parse::<IpNet>().or_else(|_| single()) {
            Ok(network) => networks.push(network),
            Err(_) => problems.add_with_hint(
                format!("server.trusted_proxies[{index}]"),
                format!("{} is not an IP address or a CIDR block", quoted(text)),
                "such as \"10.0.0.0/8\" or \"::1\"",
            ),
        }
    }
    networks
}

/// The realm, fit for a quoted string (RFC 9110 §5.6.4).
pub(super) fn realm(server: &Server, problems: &mut Problems) -> String {
    let realm = server.realm.clone();
    let fits = realm.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\');
    if fits {
        return realm;
    }
    problems.add("server.realm", format!("{} has a character that a quoted string cannot hold", quoted(&realm)));
    Server::default().realm
}

pub(super) fn failure_guard(server: &Server, problems: &mut Problems) -> Option<Quota> {
    let limit = match server.auth_failures {
        AuthFailures::Off => return None,
        AuthFailures::Limited(limit) => limit,
    };
    let Some(rate) = limit.rate else {
        problems.add("server.auth_failures", "`rate` is missing");
        return None;
    };
    Some(Quota { count: rate.count, period: rate.period, burst: u64::from(limit.burst.get()) })
}

pub(super) fn max_body_size(server: &Server) -> MaxBody {
    MaxBody::Bytes(server.max_body_size.bytes())
}

pub(super) fn log(log: &Log) -> LogPlan {
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
