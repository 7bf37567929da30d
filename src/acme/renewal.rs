//! The task that obtains and renews certificates.
//!
//! It runs on the control thread. It places one order at a time, while the process holds the lock
//! on the state directory, and uses what another process has obtained in the meantime. Until there
//! is another certificate, a host keeps the one that it has.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::AcmeSettings;
use super::error::AcmeError;
use super::host::{Host, after};
use super::http::AcmeHttp;
use super::session::Session;
use super::state::{Attempt, StateDirectory, StateError, Stored};
use crate::primitives::clock::{Clock, WallTime};
use crate::telemetry::Rfc3339;
use crate::telemetry::metrics::TlsMetrics;
use crate::tls::certified_key::Identity;
use crate::tls::server::ServerTls;

/// The pause before another try while another process places orders, or the file system does not
/// respond.
const LOCK_PAUSE: Duration = Duration::from_secs(60);

/// The longest pause that a state directory can ask for. Longer ones come from a clock that was
/// wrong.
const MAX_STORED_PAUSE: Duration = Duration::from_secs(26 * 60 * 60);

/// The task, before it runs.
#[derive(Clone, Debug)]
pub(crate) struct Renewal {
    /// `[server.tls.acme]`.
    pub(crate) settings: AcmeSettings,
    /// Where certificates are used and challenges answered.
    pub(crate) tls: Arc<ServerTls>,
    /// The clock that renewals go by.
    pub(crate) clock: Clock,
    /// Counts orders.
    pub(crate) metrics: TlsMetrics,
    /// How often the task compares the clock with what is due.
    pub(crate) look_interval: Duration,
    /// Asks the task to read the state directory again, and to do what is due.
    pub(crate) request: Rc<Notify>,
    /// No account is replaced before: a server that says again and again that it does not know the
    /// account must not get one after the other.
    pub(crate) replace_not_before: Rc<Cell<WallTime>>,
}

impl Renewal {
    /// Obtains and renews certificates, until it is aborted.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub(crate) async fn run(self) {
        let state = StateDirectory::new(&self.settings.state_dir);
        let now = self.clock.now();
        let mut hosts: Vec<Host> = self.settings.managed().into_iter().map(|host| Host::new(host, now)).collect();
        self.read_state(&state, &mut hosts).await;
        loop {
            let now = self.clock.now();
            if hosts.iter().any(|host| host.is_due(now) || host.is_to_be_asked_about(now) || host.is_to_be_stored(now))
            {
                self.attend(&state, &mut hosts).await;
            }
            tokio::select! {
                () = sleep(self.look_interval) => {}
                () = self.request.notified() => {
                    self.read_state(&state, &mut hosts).await;
                    for host in &mut hosts {
                        host.ask_soon();
                    }
                }
            }
        }
    }

    /// Reads what the state directory has of each host, and uses it.
    async fn read_state(&self, state: &StateDirectory, hosts: &mut [Host]) {
        // What could not be stored is newer than what is there.
        for host in hosts.iter_mut().filter(|host| host.unstored.is_none()) {
            let read =
                async { Ok((state.certificate(&host.managed).await?, state.attempt(&host.managed.host).await?)) };
            match read.await {
                Ok((stored, attempt)) => self.apply(host, stored, attempt),
                Err(error) => {
                    let error: StateError = error;
                    tracing::warn!(host = %host.managed.host, %error, "cannot read the ACME state directory");
                    host.postpone(self.clock.now(), LOCK_PAUSE);
                }
            }
        }
    }

    fn apply(&self, host: &mut Host, stored: Stored, attempt: Option<Attempt>) {
        let settings = Attempt::settings_of(&self.settings);
        let attempt = attempt.filter(|attempt| attempt.settings == settings);
        host.failures = attempt.as_ref().map_or(0, |attempt| attempt.failures);
        let latest = after(self.clock.now(), MAX_STORED_PAUSE);
        host.not_before = attempt.as_ref().map(|attempt| attempt.next().min(latest)).unwrap_or_default();
        host.orders = attempt.map(|attempt| attempt.orders).unwrap_or_default();
        match stored {
            Stored::Certificate { identity, .. } if !host.managed.is_name_of(&identity) => {
                let (name, names) = (&host.managed.host, identity.facts.names());
                tracing::warn!(host = %name, names, "the stored certificate is not for this host; ordering another one");
                host.needs_certificate();
            }
            Stored::Certificate { identity, directory } => {
                self.use_certificate(host, identity);
                // After a change of the ACME server, the certificate of the previous one is used
                // until there is another.
                if directory != self.settings.directory.as_str() {
                    host.needs_certificate();
                }
            }
            Stored::Missing => host.needs_certificate(),
            Stored::Broken(error) => {
                tracing::warn!(host = %host.managed.host, %error, "the stored certificate cannot be used; ordering another one");
                host.needs_certificate();
            }
        }
    }

    /// Presents `identity` to new clients, and renews it in time.
    pub(super) fn use_certificate(&self, host: &mut Host, identity: Identity) {
        host.has_certificate(&identity.facts, self.settings.renew_before);
        self.tls.managed().use_for(&host.managed.host, identity);
    }

    /// Orders a certificate for each host that is due, and asks about the others if it is time.
    async fn attend(&self, state: &StateDirectory, hosts: &mut [Host]) {
        let started = self.clock.now();
        let needs_attention = |host: &&mut Host| {
            host.is_due(started) || host.is_to_be_asked_about(started) || host.is_to_be_stored(started)
        };
        let mut due: Vec<&mut Host> = hosts.iter_mut().filter(needs_attention).collect();
        let lock = match state.lock().await {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                tracing::info!("another process holds the lock on the ACME state directory; trying again in a minute");
                for host in due {
                    host.postpone(started, LOCK_PAUSE);
                }
                return;
            }
            Err(error) => return self.fail_all(due, &error.into()),
        };
        for host in due.iter_mut().filter(|host| host.is_to_be_stored(started)) {
            self.store_again(state, host).await;
        }
        // Another process may have obtained a certificate, or have failed, since the last read.
        for host in &mut due {
            self.read_state(state, std::slice::from_mut(*host)).await;
        }
        match AcmeHttp::new(&self.settings).await {
            Ok(http) => {
                let mut session = Session::new(self, state, http);
                for host in due {
                    if let Some(pause) = session.pause() {
                        host.postpone(started, pause.max(LOCK_PAUSE));
                        continue;
                    }
                    if host.is_to_be_asked_about(started) {
                        session.ask_about(host).await;
                    }
                    // The answer may be that it is to be renewed now.
                    if host.is_due(started) {
                        session.order(host).await;
                    }
                }
            }
            Err(error) => self.fail_all(due, &error),
        }
        drop(lock);
    }

    /// Stores a certificate that is in use and could not be stored before.
    async fn store_again(&self, state: &StateDirectory, host: &mut Host) {
        let Some(key_and_chain) = host.unstored.clone() else { return };
        match state.store_certificate(&host.managed, &self.settings.directory, &key_and_chain).await {
            Ok(()) => {
                host.unstored = None;
                tracing::info!(host = %host.managed.host, "the certificate is stored now");
            }
            Err(error) => {
                host.postpone(self.clock.now(), LOCK_PAUSE);
                tracing::error!(host = %host.managed.host, %error, "the certificate in use cannot be stored");
            }
        }
    }

    /// Counts and logs a failure.
    pub(super) fn report_failure(&self, host: &Host, error: &AcmeError) {
        self.metrics.count_order(false);
        let (name, failures, next) = (&host.managed.host, host.failures, Rfc3339(host.not_before));
        let soon = after(self.clock.now(), Duration::from_secs(24 * 60 * 60));
        if host.expires.is_none_or(|expires| expires < soon) {
            tracing::error!(host = %name, %error, failures, next_attempt = %next, "cannot obtain a certificate");
        } else {
            tracing::warn!(host = %name, %error, failures, next_attempt = %next, "cannot renew a certificate");
        }
    }

    /// Counts and logs a failure for all `hosts`, for none of which an attempt is possible.
    fn fail_all(&self, hosts: Vec<&mut Host>, error: &AcmeError) {
        let now = self.clock.now();
        for host in hosts {
            host.is_asked_about(now);
            if host.is_due(now) {
                host.begin_attempt(now);
                self.report_failure(host, error);
            }
        }
    }
}
