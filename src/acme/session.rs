//! One round of requests to the ACME server: orders, one after the other, and renewal information.

use std::time::Duration;

use instant_acme::Account;

use super::error::AcmeError;
use super::host::{Host, after};
use super::http::AcmeHttp;
use super::renewal::Renewal;
use super::state::{Attempt, StateDirectory, StateError};
use super::{account, order, renewal_info, schedule};
use crate::primitives::clock::WallTime;
use crate::telemetry::Rfc3339;

/// How far in the future a certificate may begin: clocks differ.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60 * 60);

/// How often the account is replaced at most.
const REPLACE_INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);

/// The ACME server during one round of orders.
pub(super) struct Session<'a> {
    renewal: &'a Renewal,
    state: &'a StateDirectory,
    http: AcmeHttp,
    account: AccountState,
    /// The ACME server has refused an order because there were too many, and wants none for so
    /// long.
    pause: Option<Duration>,
}

enum AccountState {
    NotOpened,
    Open(Account),
    /// Why it could not be opened. All later hosts of the round fail for the same reason.
    Failed(String),
}

impl<'a> Session<'a> {
    /// A session of `renewal`, whose state is in `state`. The account is opened when it is needed.
    pub(super) fn new(renewal: &'a Renewal, state: &'a StateDirectory, http: AcmeHttp) -> Self {
        Self { renewal, state, http, account: AccountState::NotOpened, pause: None }
    }

    /// How long the ACME server wants no further order of this account; `None` if it accepts them.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.pause
    }

    /// Orders a certificate for `host`, and uses it.
    pub(super) async fn order(&mut self, host: &mut Host) {
        let renewal = self.renewal;
        match self.try_order(host).await {
            Ok(()) => {
                renewal.metrics.count_order(true);
                let (name, expires) = (&host.managed.host, Rfc3339(host.expires.unwrap_or_default()));
                tracing::info!(host = %name, %expires, "certificate obtained");
            }
            Err(error) => {
                let requested = schedule::requested_pause(self.http.retry_after());
                host.not_before = host.not_before.max(after(renewal.clock.now(), requested));
                if error.is_rate_limit() && !requested.is_zero() {
                    self.pause = Some(requested);
                }
                // If this fails, what was stored before the attempt still applies.
                let _ = self.store_attempt(host).await;
                renewal.report_failure(host, &error);
            }
        }
    }

    /// Asks when the ACME server wants the certificate to be renewed.
    pub(super) async fn ask_about(&mut self, host: &mut Host) {
        host.is_asked_about(self.renewal.clock.now());
        match self.suggested_time(host).await {
            Ok(Some(time)) => {
                if host.suggest(time) {
                    let (name, time) = (&host.managed.host, Rfc3339(time));
                    tracing::info!(host = %name, %time, "the ACME server wants the certificate to be renewed early");
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(host = %host.managed.host, %error, "cannot ask when to renew a certificate");
            }
        }
    }

    async fn suggested_time(&mut self, host: &Host) -> Result<Option<WallTime>, AcmeError> {
        let Some(identity) = self.renewal.tls.managed().certificate_of(&host.managed.host) else { return Ok(None) };
        let certificate = identity.key.end_entity_cert().map_err(|error| AcmeError::Unusable(error.to_string()))?;
        renewal_info::suggested_time(&self.account().await?, certificate, host.jitter).await
    }

    async fn try_order(&mut self, host: &mut Host) -> Result<(), AcmeError> {
        let Renewal { settings, clock, .. } = self.renewal;
        // Stored before the attempt: a process that crashes during attempts makes no more of them
        // than any other, and nothing is ordered that cannot be stored.
        host.begin_attempt(clock.now());
        self.store_attempt(host).await?;
        self.state.check_space(&host.managed).await?;
        let key_and_chain = self.obtain(&host.managed.host).await?;
        let identity = host.managed.read(key_and_chain.as_bytes());
        let identity = identity.map_err(|error| AcmeError::Unusable(error.fault.to_string()))?;
        if !host.managed.is_name_of(&identity) || identity.facts.has_expired(clock.now()) {
            let what =
                format!("it is for {} and expires {}", identity.facts.names(), Rfc3339(identity.facts.not_after));
            return Err(AcmeError::Unusable(what));
        }
        if identity.facts.not_before > after(clock.now(), CLOCK_TOLERANCE) {
            let from = Rfc3339(identity.facts.not_before);
            return Err(AcmeError::Unusable(format!("it is not valid before {from}")));
        }
        if let Err(error) = self.state.store_certificate(&host.managed, &settings.directory, &key_and_chain).await {
            tracing::error!(host = %host.managed.host, %error, "the certificate is used, but cannot be stored yet");
            host.unstored = Some(key_and_chain.into());
        }
        self.renewal.use_certificate(host, identity);
        host.succeed(clock.now());
        // If this fails, the attempt that was stored before the order remains, and a restart waits
        // for its pause.
        let _ = self.store_attempt(host).await;
        Ok(())
    }

    async fn store_attempt(&self, host: &Host) -> Result<(), StateError> {
        let settings = Attempt::settings_of(&self.renewal.settings);
        let (orders, next) = (host.orders.clone(), host.not_before.seconds());
        let attempt = Attempt { failures: host.failures, orders, next, settings };
        self.state.store_attempt(&host.managed.host, &attempt).await
    }

    /// Obtains the key and the chain of a certificate for `host`. If the ACME server no longer
    /// knows the account, creates another one.
    async fn obtain(&mut self, host: &str) -> Result<String, AcmeError> {
        let Renewal { settings, tls, .. } = self.renewal;
        let outcome = order::obtain(&self.account().await?, host, settings, tls.challenges()).await;
        match outcome {
            Err(error) if error.is_about_account() => {
                let account = self.replace_account(error).await?;
                self.account = AccountState::Open(account.clone());
                order::obtain(&account, host, settings, tls.challenges()).await
            }
            outcome => outcome,
        }
    }

    /// Another account, because of `error`: the ACME server does not know the one that there is.
    async fn replace_account(&self, error: AcmeError) -> Result<Account, AcmeError> {
        let Renewal { settings, clock, replace_not_before, .. } = self.renewal;
        if clock.now() < replace_not_before.get() {
            return Err(error);
        }
        replace_not_before.set(after(clock.now(), REPLACE_INTERVAL));
        tracing::warn!(directory = %settings.directory, %error, "the ACME server does not know the account; creating another one");
        account::replace(settings, self.state, &self.http).await
    }

    /// The account, which is opened once per round. If that fails, it fails for all hosts of the
    /// round.
    async fn account(&mut self) -> Result<Account, AcmeError> {
        let opened = match &self.account {
            AccountState::Open(account) => return Ok(account.clone()),
            AccountState::Failed(cause) => return Err(AcmeError::Protocol(cause.clone())),
            AccountState::NotOpened => {
                match account::open(&self.renewal.settings, self.state, &self.http).await {
                    // It is asked about an account only when the contacts have changed.
                    Err(error) if error.is_about_account() => self.replace_account(error).await,
                    opened => opened,
                }
            }
        };
        self.account = match &opened {
            Ok(account) => AccountState::Open(account.clone()),
            Err(error) => AccountState::Failed(error.to_string()),
        };
        opened
    }
}
