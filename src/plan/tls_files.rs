//! The files of TLS: reads the certificates, keys and authorities that a plan names, towards
//! clients and towards upstreams.
//!
//! Settings that the previous runtime has as well stay in use, with what was read then: their files
//! are followed, and a bad one must not stop a reload of everything else.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Plan;
use crate::config::Problems;
use crate::config::key_path::child;
use crate::gateway::Runtime;
use crate::primitives::clock::Clock;
use crate::tls::client::{ClientTls, ClientTlsError};
use crate::tls::files;
use crate::tls::server::{LoadedCertificate, ServerTls, SettingError};
use crate::upstream::{Upstream, UpstreamSettings};

/// TLS, with what is in the files now.
#[derive(Debug)]
pub(crate) struct TlsFiles {
    /// Towards clients; `None` without TLS.
    pub(crate) server: Option<Arc<ServerTls>>,
    /// Towards the servers of each upstream that has TLS, by its name.
    pub(crate) clients: BTreeMap<Arc<str>, Arc<ClientTls>>,
}

impl TlsFiles {
    /// The certificates: those that clients get, and those that the gateway presents to upstreams.
    #[must_use]
    pub(crate) fn certificates(&self) -> Vec<LoadedCertificate> {
        let of_clients = self.clients.values().filter_map(|tls| tls.certificate());
        self.server.iter().flat_map(|tls| tls.certificates()).chain(of_clients).collect()
    }

    /// Reads the files of `plan`, except those that `previous` follows. Blocks for as long as the
    /// file system does.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with any of the files.
    pub(crate) fn load(plan: &Plan, clock: &Clock, previous: Option<&Runtime>) -> Result<Self, Problems> {
        let mut problems = plan.no_problems.clone();
        let server = load_server(plan, clock, previous.and_then(Runtime::tls), &mut problems);
        if previous.is_none() {
            check_acme_authorities(plan, &mut problems);
        }
        let mut clients = BTreeMap::new();
        for upstream in plan.upstreams.values() {
            let existing = previous.into_iter().flat_map(Runtime::upstreams);
            if let Some(tls) = load_client(upstream, clock, existing, &mut problems) {
                clients.insert(Arc::clone(&upstream.name), tls);
            }
        }
        if problems.is_empty() {
            return Ok(Self { server, clients });
        }
        problems.locate(&plan.key_lines);
        Err(problems)
    }
}

fn load_server(
    plan: &Plan,
    clock: &Clock,
    previous: Option<&Arc<ServerTls>>,
    problems: &mut Problems,
) -> Option<Arc<ServerTls>> {
    let settings = plan.server.tls.as_ref()?;
    if let Some(previous) = previous
        && previous.settings() == settings
    {
        return Some(Arc::clone(previous));
    }
    match ServerTls::load(settings.clone(), clock.clone(), previous.map(Arc::as_ref)) {
        Ok(tls) => Some(tls),
        Err(errors) => {
            for SettingError { key, error } in errors {
                report(problems, format!("server.tls.{key}"), error.to_string(), error.fault.hint());
            }
            None
        }
    }
}

/// Checks the file with the authorities of the ACME server. Each order reads it again.
fn check_acme_authorities(plan: &Plan, problems: &mut Problems) {
    let Some(path) = plan.server.acme.as_ref().and_then(|acme| acme.ca_file.as_ref()) else { return };
    let read = files::read(&files::authorities_reader(path)).and_then(|text| files::authorities(path, &text));
    if let Err(error) = read {
        report(problems, "server.tls.acme.ca_file".to_owned(), error.to_string(), error.fault.hint());
    }
}

fn load_client<'a>(
    upstream: &UpstreamSettings,
    clock: &Clock,
    existing: impl Iterator<Item = &'a Arc<Upstream>>,
    problems: &mut Problems,
) -> Option<Arc<ClientTls>> {
    let settings = upstream.tls.as_ref()?;
    let mut existing = existing.filter(|other| *other.name() == upstream.name).filter_map(|other| other.tls());
    if let Some(unchanged) = existing.find(|tls| tls.settings() == settings) {
        return Some(Arc::clone(unchanged));
    }
    match ClientTls::load(settings.clone(), clock.clone()) {
        Ok(tls) => Some(tls),
        Err(errors) => {
            let key_path = child(&child("upstreams", &upstream.name), "tls");
            for error in errors {
                let hint = match &error {
                    ClientTlsError::File { error, .. } => error.fault.hint(),
                    ClientTlsError::System { .. } => {
                        Some("install the system's `ca-certificates`, or name a file with the authorities to trust")
                    }
                };
                report(problems, child(&key_path, error.key()), error.to_string(), hint);
            }
            None
        }
    }
}

fn report(problems: &mut Problems, key_path: String, what: String, hint: Option<&'static str>) {
    match hint {
        Some(hint) => problems.add_with_hint(key_path, what, hint),
        None => problems.add(key_path, what),
    }
}
