//! Plan: the configuration, checked and compiled. It has no I/O and no clock, and can be compared.
//!
//! [`Plan::compile`] turns what the operator wrote into a plan, or reports all problems at once.
//! [`adopt`] builds a runtime from a plan. Code that serves requests never reads the configuration.

pub(crate) mod adopt;

mod acme;
mod cors;
mod identity;
mod issuers;
mod limits;
mod listen;
#[cfg(test)]
mod problem_texts;
mod routes;
mod server;
mod server_tls;
mod syntax;
#[cfg(test)]
mod tests;
pub(crate) mod tls_files;
mod upstreams;
mod warnings;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Config, KeyLines, LoadOutcome, Problems};
use crate::gateway::matching::RouteTable;
use crate::gateway::policy::{Challenges, IdentityHeaders, LimitSettings, RouteSettings};
use crate::primitives::listen_address::{ListenAddress, ListenerService};
use crate::rate_limit::Quota;
use crate::telemetry::{LineFormat, logging::Level};
use crate::token::IssuerSettings;
use crate::upstream::UpstreamSettings;

pub(crate) use server::ServerPlan;
pub(crate) use warnings::{Warning, certificate_warnings};

/// A valid configuration, compiled.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `[server]`.
    pub server: ServerPlan,
    /// The address of the admin listener; `None` if it is off.
    pub admin: Option<SocketAddr>,
    /// `[log]`.
    pub log: LogPlan,
    /// `[issuers]`, by name.
    pub issuers: BTreeMap<Arc<str>, IssuerSettings>,
    /// `[upstreams]`, by name.
    pub upstreams: BTreeMap<Arc<str>, UpstreamSettings>,
    /// `[limits]`, by name.
    pub limits: BTreeMap<Arc<str>, LimitSettings>,
    /// `server.auth_failures`; `None` if it is off.
    pub failure_guard: Option<Quota>,
    /// `[identity]`.
    pub identity: IdentityHeaders,
    /// `[[routes]]`, in the order of the file.
    pub routes: Vec<RouteSettings>,
    /// The patterns of the routes; a match is an index of `routes`.
    pub table: Arc<RouteTable>,
    /// Challenges for requests that match no route.
    pub challenges: Challenges,
    /// The line of each key, for `explain`.
    pub key_lines: KeyLines,
    /// Names of the environment variables that the file uses.
    pub environment: Vec<String>,
    /// An empty report, for what is found wrong with the files that the configuration names.
    pub no_problems: Problems,
}

/// `[log]`, compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// Format of events and of the access log.
    pub format: LineFormat,
    /// Lowest level of events that are logged.
    pub level: Level,
    /// Whether the access log is written.
    pub access: bool,
}

impl Plan {
    /// Checks and compiles a loaded configuration.
    ///
    /// # Errors
    ///
    /// All problems, those of the loader included, in the order of the file.
    pub fn compile(loaded: LoadOutcome) -> Result<Self, Problems> {
        let LoadOutcome { config, key_lines, mut problems, environment, .. } = loaded;
        let plan = Self::compile_config(&config, &key_lines, environment, &mut problems);
        problems.locate(&key_lines);
        match plan {
            Some(plan) if problems.is_empty() => Ok(Self { no_problems: problems, ..plan }),
            Some(_) | None => Err(problems),
        }
    }

    /// Compiles every table, also after a problem, so that one run reports all of them. Returns
    /// `None` only if there is a problem.
    fn compile_config(
        config: &Config,
        key_lines: &KeyLines,
        environment: Vec<String>,
        problems: &mut Problems,
    ) -> Option<Self> {
        let server = server::compile(&config.server, &config.log, problems);
        let admin = server::compile_admin(&config.admin, problems);
        let failure_guard = server::compile_failure_guard(&config.server, problems);
        let issuers = issuers::compile(&config.issuers, problems);
        let upstreams = upstreams::compile(&config.upstreams, &config.server, problems);
        let limits = limits::compile(&config.limits, problems);
        let identity = identity::compile(&config.identity, &config.server, problems);
        let realm = server::compile_realm(&config.server, problems);
        let definitions = routes::Definitions {
            issuers: &config.issuers,
            upstreams: &config.upstreams,
            cors: &config.cors,
            limits: &config.limits,
            compiled_limits: &limits,
            identity: &identity,
            realm: &realm,
            asks_for_client_certificates: server_tls::asks_for_client_certificates(&config.server),
            max_body_size: server::max_body_size(&config.server),
            body_idle_timeout: config.server.body_idle_timeout,
            min_body_rate: config.server.min_body_rate,
        };
        let (routes, table) = routes::compile(&config.routes, &definitions, problems);
        cors::check_unused(&config.cors, &config.routes, problems);
        Some(Self {
            server: server?,
            admin,
            log: server::compile_log(&config.log),
            issuers,
            upstreams,
            limits,
            failure_guard,
            identity,
            routes,
            table: Arc::new(table?),
            challenges: Challenges::without_route(&realm),
            key_lines: key_lines.clone(),
            environment,
            no_problems: Problems::new(problems.file()),
        })
    }

    /// The first key that differs in `next` and takes effect only after a restart.
    #[must_use]
    pub fn needs_restart(&self, next: &Self) -> Option<&'static str> {
        let addresses = |plan: &Self, service| -> Vec<ListenAddress> {
            let all = plan.server.listeners.iter();
            all.filter(|listener| listener.service == service).map(|listener| listener.address.clone()).collect()
        };
        let changed = |service| addresses(self, service) != addresses(next, service);
        if self.server.tls.is_some() != next.server.tls.is_some() {
            Some("server.tls")
        } else if changed(ListenerService::HttpsRedirect) {
            Some("server.redirect_listen")
        } else if changed(ListenerService::Tls) {
            Some("server.listen")
        } else if changed(ListenerService::Plain) {
            Some(if self.server.tls.is_some() { "server.plain_listen" } else { "server.listen" })
        } else if self.server.unix_mode != next.server.unix_mode {
            Some("server.unix_mode")
        } else if self.server.takeover_socket != next.server.takeover_socket {
            Some("server.takeover_socket")
        } else if self.server.workers != next.server.workers {
            Some("server.workers")
        } else if self.admin != next.admin {
            Some("admin.listen")
        } else {
            None
        }
    }
}
