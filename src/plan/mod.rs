//! The plan: what the configuration means. Checked, compiled, comparable; no I/O, no clock.
//!
//! The second of three representations. [`Plan::compile`] takes what the operator wrote and gives either a plan or *all* that is wrong; behind
//! it nobody sees a configuration key again. [`adopt`] gives a plan its living parts.

pub(crate) mod adopt;

mod cors;
mod headers;
mod identity;
mod issuers;
mod limits;
mod routes;
mod server;
#[cfg(test)]
mod tests;
mod upstreams;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Config, KeyLines, LoadOutcome, Problems};
use crate::gateway::matching::RouteTable;
use crate::gateway::policy::{Challenges, IdentityHeaders, LimitSettings, RouteSettings};
use crate::rate_limit::Quota;
use crate::telemetry::{LineFormat, logging::Level};
use crate::token::IssuerSettings;
use crate::upstream::UpstreamSettings;

pub(crate) use server::ServerPlan;

/// What the gateway will do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[server]`.
    pub server: ServerPlan,
    /// `[admin]`; `None`: off.
    pub admin: Option<SocketAddr>,
    /// `[log]`.
    pub log: LogPlan,
    /// `[issuers]`, by name.
    pub issuers: BTreeMap<Arc<str>, IssuerSettings>,
    /// `[upstreams]`, by name.
    pub upstreams: BTreeMap<Arc<str>, UpstreamSettings>,
    /// `[limits]`, by name.
    pub limits: BTreeMap<Arc<str>, LimitSettings>,
    /// `server.auth_failures`; `None`: off.
    pub failure_guard: Option<Quota>,
    /// `[identity]`.
    pub identity: IdentityHeaders,
    /// `[[routes]]`, in the order of the file.
    pub routes: Vec<RouteSettings>,
    /// Their patterns.
    pub table: Arc<RouteTable>,
    /// Challenges of requests that found no route.
    pub challenges: Challenges,
    /// Where in the file everything stands: for `explain`, and for nothing that serves requests.
    pub key_lines: KeyLines,
    /// Names of the environment variables that the file took.
    pub environment: Vec<String>,
}

/// What `[log]` means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// JSON or text.
    pub format: LineFormat,
    /// The least important events that are shown.
    pub level: Level,
    /// Whether each request is written down.
    pub access: bool,
}

impl Plan {
    /// Finds out what a loaded configuration means.
    ///
    /// # Errors
    ///
    /// All that is wrong, what was found while reading the file included, in the order of the file.
    pub fn compile(loaded: LoadOutcome) -> Result<Self, Problems> {
        let LoadOutcome { config, key_lines, mut problems, environment, .. } = loaded;
        let compiled = Self::attempt(&config, &key_lines, environment, &mut problems);
        problems.locate(&key_lines);
        match compiled {
            Some(plan) if problems.is_empty() => Ok(plan),
            Some(_) | None => Err(problems),
        }
    }

    /// Goes on after each problem, so that all are found; `None` only if there is one.
    fn attempt(
        config: &Config,
        key_lines: &KeyLines,
        environment: Vec<String>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let server = server::compile(&config.server, &config.log, problems);
        let admin = server::admin(&config.admin, problems);
        let failure_guard = server::failure_guard(&config.server, problems);
        let issuers = issuers::compile(&config.issuers, problems);
        let upstreams = upstreams::compile(&config.upstreams, problems);
        let limits = limits::compile(&config.limits, problems);
        let identity = identity::compile(&config.identity, problems);
        let realm = server::realm(&config.server, problems);
        let known = routes::Known {
            issuers: &config.issuers,
            upstreams: &config.upstreams,
            cors: &config.cors,
            limits: &config.limits,
            compiled_limits: &limits,
            identity: &identity,
            realm: &realm,
            max_body_size: server::max_body_size(&config.server),
        };
        let (routes, table) = routes::compile(&config.routes, &known, problems);
        cors::check_unused(&config.cors, &config.routes, problems);
        Some(Self {
            server: server?,
            admin,
            log: server::log(&config.log),
            issuers,
            upstreams,
            limits,
            failure_guard,
            identity,
            routes,
            table: Arc::new(table?),
            challenges: Challenges::without_scope(&realm),
            key_lines: key_lines.clone(),
            environment,
        })
    }

    /// What `next` changes that only a restart can change.
    #[must_use]
    pub fn needs_restart(&self, next: &Self) -> Option<&'static str> {
        if self.server.listen != next.server.listen {
            Some("server.listen")
        } else if self.server.workers != next.server.workers {
            Some("server.workers")
        } else if self.admin != next.admin {
            Some("admin.listen")
        } else {
            None
        }
    }
}
