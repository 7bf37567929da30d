//! Key store: the current key set of one issuer, refreshed in the background.
//!
//! A request whose key is in the set neither waits nor takes a lock. Only [`KeyStore::run`]
//! fetches; a request with an unknown key wakes it, and all such requests wait for the same
//! attempt. When a fetch fails, the last good set stays in use until it is too old. When one
//! succeeds, it replaces the set as a whole: a key that is no longer published is gone.
//! [`schedule`] decides when to fetch.

mod origin;
mod report;
mod schedule;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use url::Url;

use self::origin::{FetchRequest, FetchedKeys, Origin};
use self::schedule::{FetchCause, MissOutcome, NextStep, Schedule, Waiter, micros};
use super::algorithm::Algorithm;
use super::error::{IssuerSetupError, KeyError, VerifyError};
use super::fetch::FETCH_TIMEOUT;
use super::jwks::{KeyLookup, KeySet, VerificationKey};
use super::key_rejection::KeyRejection;
use super::{IssuerSettings, KeySource, RefreshTimes};
use crate::primitives::clock::Clock;
use crate::primitives::random;
use crate::primitives::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::IssuerMetrics;

/// Longest sleep of the fetch loop. It then reads the clock again, because a timer does not advance
/// while the machine is suspended.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// The current keys of one issuer.
pub struct KeyStore {
    name: Arc<str>,
    identity: KeySetIdentity,
    ca_file: Option<PathBuf>,
    /// Whether the keys come over plain http from another machine.
    trusts_the_network: bool,
    /// `jwks_max_stale`, in microseconds. Outside of [`State`], because each request reads it.
    max_stale: AtomicU64,
    clock: Clock,
    metrics: IssuerMetrics,
    origin: Origin,
    current: ArcSwapOption<CurrentKeys>,
    state: Mutex<State>,
    /// Counts the attempts that have ended.
    attempts: watch::Sender<u64>,
    wake: Notify,
    /// Longest that a request waits for an attempt.
    wait_timeout: Duration,
}

/// The state of an issuer's keys: for readiness and for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// How many keys may be used now.
    pub keys: usize,
    /// How many of the published keys were rejected, and why.
    pub rejected: BTreeMap<KeyRejection, usize>,
    /// Time since the set was fetched; `None` before the first successful fetch.
    pub age: Option<Duration>,
    /// Why the last attempt failed; `None` if it succeeded.
    pub last_error: Option<String>,
    /// Whether there is a set that may be used.
    pub ready: bool,
    /// Time until the next attempt.
    pub next_attempt_in: Duration,
}

/// Which key set a store holds: whose it is, and where it comes from. When it is fetched and how
/// long it may be used is not part of that.
#[derive(Clone, Debug, PartialEq)]
struct KeySetIdentity {
    issuer: Arc<str>,
    source: KeySource,
}

struct CurrentKeys {
    set: Arc<KeySet>,
    fetched_at: u64,
    /// The address that the set was fetched from; `None` if it is from a file.
    url: Option<Url>,
}

struct State {
    schedule: Schedule,
    last_error: Option<KeyError>,
}

impl KeyStore {
    /// A store for these settings. Reads a key file at once; fetches nothing else.
    ///
    /// # Errors
    ///
    /// [`IssuerSetupError`]: the certificates or the key file cannot be used, or the URL is
    /// insecure.
    pub fn new(settings: &IssuerSettings, clock: Clock, metrics: IssuerMetrics) -> Result<Arc<Self>, IssuerSetupError> {
        let store = Self {
            name: Arc::clone(&settings.name),
            ca_file: settings.ca_file.clone(),
            trusts_the_network: settings.trusts_the_network(),
            origin: Origin::new(settings)?,
            state: Mutex::new(State { schedule: Schedule::new(settings.times), last_error: None }),
            identity: KeySetIdentity::of(settings),
            max_stale: AtomicU64::new(micros(settings.times.max_stale)),
            clock,
            metrics,
            current: ArcSwapOption::empty(),
            attempts: watch::Sender::new(0),
            wake: Notify::new(),
            wait_timeout: FETCH_TIMEOUT,
        };
        if let Some(keys) = store.origin.read_at_start()? {
            store.lock().schedule.start(store.clock.monotonic_micros());
            store.complete_attempt(Ok(keys));
        }
        Ok(Arc::new(store))
    }

    /// Refreshes the keys until the process stops. Also refreshes them while the process drains,
    /// for the requests that are still in flight. Exactly one such loop runs per store.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        self.metrics.set_plain_http(self.trusts_the_network);
        if self.trusts_the_network {
            tracing::warn!(
                issuer = &*self.name,
                "keys are fetched over plain http: anyone on the network path can replace them"
            );
        }
        loop {
            let next = self.lock().schedule.next_step(self.clock.monotonic_micros());
            let step = async {
                match next {
                    NextStep::Fetch(cause) => self.attempt(cause).await,
                    NextStep::Wait(pause) => {
                        tokio::select! {
                            () = tokio::time::sleep(pause.min(MAX_SLEEP)) => {}
                            () = self.wake.notified() => {}
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                () = shutdown.reached(Phase::Stopped) => return,
                () = step => {}
            }
        }
    }

    /// Fetches once, now, whatever the schedule says: for commands that run no loop.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub async fn fetch_once(&self) -> Result<(), KeyError> {
        self.attempt(FetchCause::Scheduled).await;
        match &self.lock().last_error {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// The current set. `None` if there is none, or if it is too old at `now`, in microseconds of
    /// the monotonic clock.
    #[must_use]
    pub fn usable_keys(&self, now: u64) -> Option<Arc<KeySet>> {
        let current = self.current.load();
        let current_keys = current.as_ref()?;
        self.is_usable(current_keys, now).then(|| Arc::clone(&current_keys.set))
    }

    /// Changes after each attempt to fetch keys, which may have replaced the current set.
    #[must_use]
    pub fn fetches(&self) -> watch::Receiver<u64> {
        self.attempts.subscribe()
    }

    /// For each key of the current set, the algorithms that it can be used with.
    #[must_use]
    pub fn algorithms_of_keys(&self) -> Vec<Vec<Algorithm>> {
        let of_key = |key: &VerificationKey| Algorithm::ALL.into_iter().filter(|one| key.allows(*one)).collect();
        self.current.load().as_ref().map(|current| current.set.keys().iter().map(of_key).collect()).unwrap_or_default()
    }

    /// The state of the keys now.
    #[must_use]
    pub fn status(&self) -> KeyStatus {
        let now = self.clock.monotonic_micros();
        let state = self.lock();
        let current_keys = self.current.load_full();
        let usable = current_keys.as_ref().filter(|current_keys| self.is_usable(current_keys, now));
        KeyStatus {
            keys: usable.map_or(0, |current_keys| current_keys.set.keys().len()),
            rejected: current_keys.as_ref().map(|current_keys| current_keys.set.rejected().clone()).unwrap_or_default(),
            age: current_keys
                .as_ref()
                .map(|current_keys| Duration::from_micros(now.saturating_sub(current_keys.fetched_at))),
            last_error: state.last_error.as_ref().map(ToString::to_string),
            ready: usable.is_some(),
            next_attempt_in: state.schedule.time_to_next(now),
        }
    }

    /// Whether this store can serve an issuer with `settings`, after
    /// [`set_times`](Self::set_times).
    pub(super) fn can_serve(&self, settings: &IssuerSettings) -> bool {
        self.name == settings.name && self.ca_file == settings.ca_file && self.identity == KeySetIdentity::of(settings)
    }

    /// Changes the times, for the keys that have been fetched too.
    pub(super) fn set_times(&self, times: RefreshTimes) {
        self.lock().schedule.set_times(times);
        self.max_stale.store(micros(times.max_stale), Ordering::Relaxed);
        self.wake.notify_one();
    }

    /// Takes the keys of `previous`, which this store replaces, until its own first fetch succeeds.
    /// Does so only if they are the keys that this store would fetch: those of the same issuer,
    /// from the same source. The address of the keys also counts as the same source if discovery
    /// led to it before. Their age goes on from when they were fetched.
    pub(super) fn inherit(&self, previous: &Self) {
        if std::ptr::eq(self, previous) {
            return;
        }
        let _state = self.lock();
        if self.current.load().is_none() {
            let inherited = previous.current.load_full().filter(|keys| {
                self.identity == previous.identity || {
                    let KeySetIdentity { issuer, source } = &self.identity;
                    let is_same_address =
                        matches!((source, &keys.url), (KeySource::JwksUrl(ours), Some(theirs)) if ours == theirs);
                    *issuer == previous.identity.issuer && is_same_address
                }
            });
            self.metrics.set_usable_keys(inherited.as_ref().map_or(0, |keys| keys.set.keys().len()));
            self.metrics.set_fetched_at(inherited.as_ref().map_or(0, |keys| keys.fetched_at));
            self.current.store(inherited);
        }
    }

    /// The set that contains a key for this header. A key that is in the set is found without
    /// waiting and without a lock; for another one, waits for at most one attempt, and at most as
    /// long as a fetch may take.
    ///
    /// # Errors
    ///
    /// [`VerifyError::KeyMismatch`], [`VerifyError::UnknownKey`], [`VerifyError::KeysUnavailable`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it waits; other requests are not affected.
    pub(super) async fn key_set_for(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<KeySet>, VerifyError> {
        if let Some(found) = self.look_up(kid, algorithm) {
            return found;
        }
        let mut waiter = Waiter::New;
        loop {
            let mut attempts = {
                let mut state = self.lock();
                // A new set is stored under this lock. So if the key is not in the set now, it was
                // not in the result of the last attempt that the schedule knows of either.
                if let Some(found) = self.look_up(kid, algorithm) {
                    return found;
                }
                let now = self.clock.monotonic_micros();
                let has_set = self.usable_keys(now).is_some();
                if has_set && waiter == Waiter::New {
                    self.metrics.count_unknown_kid();
                }
                match state.schedule.on_missing_key(now, kid.unwrap_or_default(), has_set, waiter) {
                    MissOutcome::RefuseUnknown => return Err(VerifyError::UnknownKey),
                    MissOutcome::Unavailable { retry_after } => {
                        return Err(VerifyError::KeysUnavailable { retry_after });
                    }
                    MissOutcome::Wait => self.attempts.subscribe(),
                }
            };
            self.wake.notify_one();
            if tokio::time::timeout(self.wait_timeout, attempts.changed()).await.is_err() {
                return Err(VerifyError::KeysUnavailable { retry_after: Duration::from_secs(1) });
            }
            waiter = Waiter::Waited;
        }
    }

    /// `None` if no key in the current set has this name.
    fn look_up(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Result<Arc<KeySet>, VerifyError>> {
        let set = self.usable_keys(self.clock.monotonic_micros())?;
        match set.lookup(kid, algorithm) {
            KeyLookup::AlgorithmMismatch => return Some(Err(VerifyError::KeyMismatch)),
            KeyLookup::Found(_) | KeyLookup::TooMany(_) => {}
            KeyLookup::NotFound => return None,
        }
        Some(Ok(set))
    }

    async fn attempt(&self, cause: FetchCause) {
        let now = self.clock.monotonic_micros();
        let refresh = {
            let mut state = self.lock();
            state.schedule.start(now);
            state.schedule.times().refresh
        };
        let fetched = self.origin.fetch(FetchRequest { cause, now, refresh }).await;
        self.complete_attempt(fetched);
    }

    /// Applies the result of an attempt, then wakes the requests that wait for it.
    fn complete_attempt(&self, fetched: Result<FetchedKeys, KeyError>) {
        let now = self.clock.monotonic_micros();
        self.metrics.count_refresh(fetched.is_ok());
        match fetched {
            Ok(keys) => self.accept(keys, now),
            Err(error) => self.record_failure(&error, now),
        }
        self.attempts.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn accept(&self, fetched: FetchedKeys, now: u64) {
        let FetchedKeys { set, lifetime, scope, url } = fetched;
        let mut state = self.lock();
        let previous = self.current.load_full();
        // A set with the same keys keeps its generation, so that cached verdicts stay valid without
        // another look at the set.
        let unchanged = previous
            .as_ref()
            .filter(|current_keys| current_keys.set.has_same_keys(&set))
            .map(|current_keys| Arc::clone(&current_keys.set));
        let is_new = unchanged.is_none();
        let set = unchanged.unwrap_or_else(|| Arc::new(set));
        self.current.store(Some(Arc::new(CurrentKeys { set: Arc::clone(&set), fetched_at: now, url })));
        state.schedule.succeed(now, scope, lifetime, random::fraction());
        let has_recovered = state.last_error.take().is_some();
        drop(state);
        self.metrics.set_usable_keys(set.keys().len());
        self.metrics.set_fetched_at(now);
        if is_new {
            report::key_set_changed(&self.name, previous.as_ref().map(|current_keys| &*current_keys.set), &set);
        } else if has_recovered {
            tracing::info!(issuer = &*self.name, keys = set.keys().len(), "keys can be fetched again");
        }
    }

    fn record_failure(&self, error: &KeyError, now: u64) {
        let mut state = self.lock();
        state.schedule.fail();
        let retry_in = state.schedule.time_to_next(now);
        state.last_error = Some(error.clone());
        drop(state);
        let usable = self.usable_keys(now);
        self.metrics.set_usable_keys(usable.as_ref().map_or(0, |set| set.keys().len()));
        match usable {
            Some(_) => {
                tracing::warn!(issuer = &*self.name, %error, ?retry_in, "key refresh failed; using the previous keys");
            }
            None => {
                tracing::warn!(issuer = &*self.name, %error, ?retry_in, "no keys; tokens of this issuer cannot be verified");
            }
        }
    }

    fn is_usable(&self, current_keys: &CurrentKeys, now: u64) -> bool {
        now.saturating_sub(current_keys.fetched_at) <= self.max_stale.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl KeySetIdentity {
    fn of(settings: &IssuerSettings) -> Self {
        Self { issuer: Arc::clone(&settings.issuer), source: settings.keys.clone() }
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyStore").field("issuer", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
