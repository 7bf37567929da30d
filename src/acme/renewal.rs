//! The task that obtains and renews certificates.
//!
//! It runs on the control thread. Orders are placed one after the other, while the process has the
//! lock of the state directory; what another process has obtained meanwhile is used instead. Until
//! a host has another certificate, it goes on with the one that it has.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use instant_acme::Account;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::error::AcmeError;
use super::http::AcmeHttp;
use super::state::{Attempt, StateDirectory, StateError, Stored};
use super::{AcmeSettings, account, order, schedule};
use crate::primitives::clock::{Clock, WallTime};
use crate::primitives::random;
use crate::telemetry::Rfc3339;
use crate::telemetry::metrics::TlsMetrics;
use crate::tls::certified_key::Identity;
use crate::tls::managed::ManagedHost;
use crate::tls::server::ServerTls;

/// When to try again while another process places orders, or the file system does not answer.
const LOCK_PAUSE: Duration = Duration::from_secs(60);

/// What the task works with.
#[derive(Debug)]
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
}

/// A host, and when it needs attention.
#[derive(Debug)]
struct Host {
    managed: ManagedHost,
    /// When its certificate is to be renewed.
    due: WallTime,
    /// The attempts in a row that have failed.
    failures: u32,
    /// No attempt before.
    not_before: WallTime,
    /// Drawn once, so that the time of the renewal does not move. From 0 to 1.
    jitter: f64,
    /// When the certificate in use ends; `None` without one.
    expires: Option<WallTime>,
}

/// The ACME server during one round of orders.
struct Session<'a> {
    renewal: &'a Renewal,
    http: AcmeHttp,
    state: &'a StateDirectory,
    account: AccountState,
}

enum AccountState {
    NotOpened,
    Open(Account),
    /// Why it could not be opened, for each host whose turn it is.
    Failed(String),
}

impl Renewal {
    /// Obtains and renews certificates, until it is aborted.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time.
    pub(crate) async fn run(self) {
        let state = StateDirectory::new(&self.settings.state_dir);
        let mut hosts: Vec<Host> = self.settings.managed().into_iter().map(Host::new).collect();
        self.read_state(&state, &mut hosts).await;
        loop {
            let now = self.clock.now();
            if hosts.iter().any(|host| host.is_due(now)) {
                self.order_due(&state, &mut hosts).await;
            }
            tokio::select! {
                () = sleep(self.look_interval) => {}
                () = self.request.notified() => self.read_state(&state, &mut hosts).await,
            }
        }
    }

    /// Reads what the state directory has of each host, and uses it.
    async fn read_state(&self, state: &StateDirectory, hosts: &mut [Host]) {
        for host in hosts {
            let read =
                async { Ok((state.certificate(&host.managed).await?, state.attempt(&host.managed.host).await?)) };
            match read.await {
                Ok((stored, attempt)) => self.apply(host, stored, attempt),
                Err(error) => {
                    let error: StateError = error;
                    tracing::warn!(host = %host.managed.host, %error, "cannot read the state of ACME");
                    host.not_before = after(self.clock.now(), LOCK_PAUSE);
                }
            }
        }
    }

    fn apply(&self, host: &mut Host, stored: Stored, attempt: Option<Attempt>) {
        let settings = Attempt::settings_of(&self.settings);
        let attempt = attempt.filter(|attempt| attempt.settings == settings);
        host.failures = attempt.as_ref().map_or(0, |attempt| attempt.failures);
        host.not_before = attempt.as_ref().map(Attempt::next).unwrap_or_default();
        match stored {
            Stored::Certificate { identity, .. } if !host.managed.is_name_of(&identity) => {
                let (name, names) = (&host.managed.host, identity.facts.names());
                tracing::warn!(host = %name, names, "a stored certificate is for another host");
                host.due = WallTime::default();
            }
            Stored::Certificate { identity, directory } => {
                self.use_certificate(host, identity);
                // After a change of the ACME server, the certificate of the previous one is used
                // until there is another.
                if directory != self.settings.directory.as_str() {
                    host.due = WallTime::default();
                }
            }
            Stored::Missing => host.due = WallTime::default(),
            Stored::Broken(error) => {
                tracing::warn!(host = %host.managed.host, %error, "a stored certificate cannot be used");
                host.due = WallTime::default();
            }
        }
    }

    fn use_certificate(&self, host: &mut Host, identity: Identity) {
        host.due = schedule::renewal_due(&identity.facts, self.settings.renew_before, host.jitter);
        host.expires = Some(identity.facts.not_after);
        self.tls.managed().use_for(&host.managed.host, identity);
    }

    /// Orders a certificate for each host that is due.
    async fn order_due(&self, state: &StateDirectory, hosts: &mut [Host]) {
        let started = self.clock.now();
        let mut due: Vec<&mut Host> = hosts.iter_mut().filter(|host| host.is_due(started)).collect();
        let lock = match state.lock().await {
            Ok(Some(lock)) => lock,
            Ok(None) => {
                tracing::info!("another process orders certificates");
                for host in due {
                    host.not_before = after(started, LOCK_PAUSE);
                }
                return;
            }
            Err(error) => return self.fail_all(due, &error.into()),
        };
        // Another process may have obtained a certificate, or have failed, since the last look.
        for host in &mut due {
            self.read_state(state, std::slice::from_mut(*host)).await;
        }
        due.retain(|host| host.is_due(started));
        match AcmeHttp::new(&self.settings).await {
            Ok(http) => {
                let mut session = Session { renewal: self, http, state, account: AccountState::NotOpened };
                for host in due {
                    session.order(host).await;
                }
            }
            Err(error) => self.fail_all(due, &error),
        }
        drop(lock);
    }

    /// Counts and logs a failure.
    fn report_failure(&self, host: &Host, error: &AcmeError) {
        self.metrics.count_order(false);
        let (name, failures, next) = (&host.managed.host, host.failures, Rfc3339(host.not_before));
        let soon = after(self.clock.now(), Duration::from_secs(24 * 60 * 60));
        if host.expires.is_none_or(|expires| expires < soon) {
            tracing::error!(host = %name, %error, failures, next_attempt = %next, "cannot obtain a certificate");
        } else {
            tracing::warn!(host = %name, %error, failures, next_attempt = %next, "cannot renew a certificate");
        }
    }

    /// Reports that no attempt is possible at present.
    fn fail_all(&self, hosts: Vec<&mut Host>, error: &AcmeError) {
        for host in hosts {
            host.begin_attempt(self.clock.now());
            self.report_failure(host, error);
        }
    }
}

impl Session<'_> {
    /// Orders a certificate for `host`, and uses it.
    async fn order(&mut self, host: &mut Host) {
        let renewal = self.renewal;
        match self.try_order(host).await {
            Ok(()) => {
                renewal.metrics.count_order(true);
                let (name, expires) = (&host.managed.host, Rfc3339(host.expires.unwrap_or_default()));
                tracing::info!(host = %name, %expires, "certificate obtained");
            }
            Err(error) => {
                let wish = schedule::wished_pause(self.http.retry_after());
                host.not_before = host.not_before.max(after(renewal.clock.now(), wish));
                // If this fails, what was stored before the attempt is there.
                let _ = self.store_attempt(host).await;
                renewal.report_failure(host, &error);
            }
        }
    }

    async fn try_order(&mut self, host: &mut Host) -> Result<(), AcmeError> {
        let Renewal { settings, clock, .. } = self.renewal;
        // Stored before the attempt, so that a process that ends during each of them makes no more
        // attempts than one that does not, and so that nothing is ordered that cannot be stored.
        host.begin_attempt(clock.now());
        self.store_attempt(host).await?;
        let key_and_chain = self.obtain(&host.managed.host).await?;
        let identity = host.managed.read(key_and_chain.as_bytes());
        let identity = identity.map_err(|error| AcmeError::Unusable(error.fault.to_string()))?;
        if !host.managed.is_name_of(&identity) || identity.facts.has_expired(clock.now()) {
            let what = format!("it is for {}, until {}", identity.facts.names(), Rfc3339(identity.facts.not_after));
            return Err(AcmeError::Unusable(what));
        }
        self.state.store_certificate(&host.managed, &settings.directory, &key_and_chain).await?;
        self.renewal.use_certificate(host, identity);
        host.failures = 0;
        host.not_before = WallTime::default();
        // One that stays only delays an attempt after a restart.
        let _ = self.state.store_attempt(&host.managed.host, None).await;
        Ok(())
    }

    async fn store_attempt(&self, host: &Host) -> Result<(), StateError> {
        let settings = Attempt::settings_of(&self.renewal.settings);
        let attempt = Attempt { failures: host.failures, next: host.not_before.seconds(), settings };
        self.state.store_attempt(&host.managed.host, Some(&attempt)).await
    }

    /// Key and chain of a certificate for `host`. An ACME server that does not know the account any
    /// more gets another one.
    async fn obtain(&mut self, host: &str) -> Result<String, AcmeError> {
        let Renewal { settings, tls, .. } = self.renewal;
        let outcome = order::obtain(&self.account().await?, host, settings, tls.challenges()).await;
        match outcome {
            Err(error) if error.is_about_account() => {
                tracing::warn!(directory = %settings.directory, %error, "the ACME account is replaced");
                let account = account::replace(settings, self.state, &self.http).await?;
                self.account = AccountState::Open(account.clone());
                order::obtain(&account, host, settings, tls.challenges()).await
            }
            outcome => outcome,
        }
    }

    /// The account, which is opened once. If that fails, it has failed for all hosts of the round.
    async fn account(&mut self) -> Result<Account, AcmeError> {
        let opened = match &self.account {
            AccountState::Open(account) => return Ok(account.clone()),
            AccountState::Failed(cause) => return Err(AcmeError::Protocol(cause.clone())),
            AccountState::NotOpened => account::open(&self.renewal.settings, self.state, &self.http).await,
        };
        self.account = match &opened {
            Ok(account) => AccountState::Open(account.clone()),
            Err(error) => AccountState::Failed(error.to_string()),
        };
        opened
    }
}

impl Host {
    fn new(managed: ManagedHost) -> Self {
        Self {
            managed,
            due: WallTime::default(),
            failures: 0,
            not_before: WallTime::default(),
            jitter: random::fraction(),
            expires: None,
        }
    }

    /// Counts an attempt at `now` as failed, until it succeeds, and sets the time of the next one.
    fn begin_attempt(&mut self, now: WallTime) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = after(now, schedule::pause(self.failures, random::fraction()));
    }

    fn is_due(&self, now: WallTime) -> bool {
        self.due.max(self.not_before) <= now
    }
}

fn after(now: WallTime, pause: Duration) -> WallTime {
    WallTime::from_seconds(now.seconds().saturating_add(pause.as_secs()))
}
