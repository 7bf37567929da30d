//! Key store: the current key set of one issuer, kept fresh in the background.
//!
//! A request whose key is in the set never waits and takes no lock. Only [`KeyStore::run`] fetches; a request with an unknown key asks it to,
//! and all such requests wait for the one attempt. When a fetch fails, the last good set serves on until it is too old. When one succeeds,
//! it replaces the set whole: a key that is no longer published is gone. When something is due is decided in [`schedule`].

mod origin;
mod schedule;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};

use self::origin::Origin;
use self::schedule::{Cause, Due, Miss, Schedule, Timing, Waiter};
use super::algorithm::Algorithm;
use super::error::{KeyError, StartError, VerifyError, shown};
use super::fetch::FETCH_TIMEOUT;
use super::jwks::{Candidates, KeySet, Skip};
use super::{IssuerSettings, KeySource};
use crate::primitives::clock::Clock;
use crate::primitives::random;
use crate::primitives::shutdown::{Phase, Shutdown};
use crate::telemetry::metrics::IssuerMetrics;

/// Longest sleep of the loop: the clock is looked at anew then, which may have been set forward, or stood still while the machine slept.
const MAX_SLEEP: Duration = Duration::from_secs(1);

/// The current keys of one issuer.
pub struct KeyStore {
    name: Arc<str>,
    scope: Scope,
    clock: Clock,
    metrics: IssuerMetrics,
    origin: Origin,
    current: ArcSwapOption<CurrentKeys>,
    state: Mutex<State>,
    /// Counts attempts that have ended.
    ended: watch::Sender<u64>,
    wake: Notify,
    /// Longest that a request waits for an attempt.
    wait_timeout: Duration,
}

/// How an issuer's keys are: for readiness, and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyStatus {
    /// How many keys can be used now.
    pub keys: usize,
    /// How many of the published ones were left out, and why.
    pub skipped: BTreeMap<Skip, usize>,
    /// Since the set was fetched; `None`: it never was.
    pub age: Option<Duration>,
    /// Why the last attempt failed; `None` if it did not.
    pub last_error: Option<String>,
    /// Whether there is a set that may be used.
    pub ready: bool,
    /// Until the next attempt.
    pub next_attempt_in: Duration,
}

/// What of an issuer's settings makes its keys; two stores with the same can stand for each other.
#[derive(Clone, Debug, PartialEq)]
struct Scope {
    issuer: Arc<str>,
    source: KeySource,
    ca_file: Option<std::path::PathBuf>,
    timing: Timing,
}

struct CurrentKeys {
    set: Arc<KeySet>,
    fetched_at: u64,
}

struct State {
    schedule: Schedule,
    last_error: Option<KeyError>,
}

impl KeyStore {
    /// A store for these settings. Fetches nothing; a key file is read here.
    ///
    /// # Errors
    ///
    /// [`StartError`]: certificates or a key file that cannot be used, an address that is not secure.
    pub fn new(settings: &IssuerSettings, clock: Clock, metrics: IssuerMetrics) -> Result<Arc<Self>, StartError> {
        let scope = Scope::of(settings);
        let store = Self {
            name: Arc::clone(&settings.name),
            origin: Origin::new(settings)?,
            state: Mutex::new(State { schedule: Schedule::new(scope.timing), last_error: None }),
            scope,
            clock,
            metrics,
            current: ArcSwapOption::empty(),
            ended: watch::Sender::new(0),
            wake: Notify::new(),
            wait_timeout: FETCH_TIMEOUT,
        };
        if let Some(set) = store.origin.at_hand()? {
            store.lock().schedule.begin(store.clock.monotonic_micros());
            store.conclude(Ok((set, None)));
        }
        Ok(Arc::new(store))
    }

    /// Keeps the keys fresh until the process stops; also while it drains, for the requests that are still under way. Exactly one such loop
    /// runs per store.
    pub async fn run(self: Arc<Self>, mut shutdown: Shutdown) {
        loop {
            let due = self.lock().schedule.due(self.clock.monotonic_micros());
            let step = async {
                match due {
                    Due::Now(cause) => self.attempt(cause).await,
                    Due::In(pause) => {
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

    /// Fetches once, now, whatever the schedule says: for a check by hand, where no loop runs.
    ///
    /// # Errors
    ///
    /// [`KeyError`].
    pub async fn fetch_once(&self) -> Result<(), KeyError> {
        self.attempt(Cause::Scheduled).await;
        match &self.lock().last_error {
            Some(error) => Err(error.clone()),
            None => Ok(()),
        }
    }

    /// The current set, unless there is none or it is too old to be trusted at `now` (of the monotonic clock, in microseconds).
    #[must_use]
    pub fn usable(&self, now: u64) -> Option<Arc<KeySet>> {
        let current = self.current.load();
        let current_keys = current.as_ref()?;
        self.may_be_used(current_keys, now).then(|| Arc::clone(&current_keys.set))
    }

    /// How the keys are now.
    #[must_use]
    pub fn status(&self) -> KeyStatus {
        let now = self.clock.monotonic_micros();
        let state = self.lock();
        let current_keys = self.current.load_full();
        let usable = current_keys.as_ref().filter(|current_keys| self.may_be_used(current_keys, now));
        KeyStatus {
            keys: usable.map_or(0, |current_keys| current_keys.set.keys().len()),
            skipped: current_keys.as_ref().map(|current_keys| current_keys.set.skipped().clone()).unwrap_or_default(),
            age: current_keys
                .as_ref()
                .map(|current_keys| Duration::from_micros(now.saturating_sub(current_keys.fetched_at))),
            last_error: state.last_error.as_ref().map(ToString::to_string),
            ready: usable.is_some(),
            next_attempt_in: state.schedule.next_in(now),
        }
    }

    /// Whether an attempt to get the keys has ended, well or not.
    #[must_use]
    pub fn has_tried(&self) -> bool {
        self.lock().schedule.has_tried()
    }

    /// Whether this store serves an issuer with `settings` as well as a new one would.
    pub(super) fn fits(&self, settings: &IssuerSettings) -> bool {
        self.name == settings.name && self.scope == Scope::of(settings)
    }

    /// The set that holds a key for this header. Waits for an attempt to fetch it if one is due, at most once and at most as long as a fetch
    /// may take; a key that is there is found without waiting and without a lock.
    ///
    /// # Errors
    ///
    /// [`VerifyError::KeyMismatch`], [`VerifyError::UnknownKey`], [`VerifyError::KeysUnavailable`].
    ///
    /// # Cancel safety
    ///
    /// May be dropped while it waits: nobody else depends on it.
    pub(super) async fn key_set_for(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<KeySet>, VerifyError> {
        if let Some(found) = self.look(kid, algorithm) {
            return found;
        }
        let mut waiter = Waiter::New;
        loop {
            let mut ended = {
                let mut state = self.lock();
                // A new set is put in place under this lock: what is not in it now is not in what the schedule speaks of.
                if let Some(found) = self.look(kid, algorithm) {
                    return found;
                }
                let now = self.clock.monotonic_micros();
                let has_set = self.usable(now).is_some();
                if has_set && waiter == Waiter::New {
                    self.metrics.count_unknown_kid();
                }
                match state.schedule.miss(now, kid.unwrap_or_default(), has_set, waiter) {
                    Miss::Unavailable { retry_after } => return Err(VerifyError::KeysUnavailable { retry_after }),
                    Miss::Unknown => return Err(VerifyError::UnknownKey),
                    Miss::Wait => self.ended.subscribe(),
                }
            };
            self.wake.notify_one();
            if tokio::time::timeout(self.wait_timeout, ended.changed()).await.is_err() {
                return Err(VerifyError::KeysUnavailable { retry_after: Duration::from_secs(1) });
            }
            waiter = Waiter::Waited;
        }
    }

    /// `None` if the key is not there.
    fn look(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<Result<Arc<KeySet>, VerifyError>> {
        let set = self.usable(self.clock.monotonic_micros())?;
        match set.candidates(kid, algorithm) {
            Candidates::Some(_) => {}
            Candidates::Mismatch => return Some(Err(VerifyError::KeyMismatch)),
            Candidates::None => return None,
        }
        Some(Ok(set))
    }

    async fn attempt(&self, cause: Cause) {
        self.lock().schedule.begin(self.clock.monotonic_micros());
        let fetched = self.origin.fetch(cause).await;
        self.conclude(fetched);
    }

    /// Takes in what an attempt gave, then tells those who wait.
    fn conclude(&self, fetched: Result<origin::Published, KeyError>) {
        let now = self.clock.monotonic_micros();
        self.metrics.count_refresh(fetched.is_ok());
        match fetched {
            Ok((set, lifetime)) => {
                let mut state = self.lock();
                let before = self.current.load_full();
                // The same keys keep their generation, so that verdicts need not be looked at anew.
                let same = before
                    .as_ref()
                    .filter(|current_keys| current_keys.set.same_keys(&set))
                    .map(|current_keys| Arc::clone(&current_keys.set));
                let is_new = same.is_none();
                let set = same.unwrap_or_else(|| Arc::new(set));
                self.current.store(Some(Arc::new(CurrentKeys { set: Arc::clone(&set), fetched_at: now })));
                state.schedule.succeed(now, lifetime, random::fraction());
                let recovered = state.last_error.take().is_some();
                drop(state);
                self.metrics.set_usable_keys(set.keys().len());
                self.metrics.set_fetched_at(now);
                if is_new {
                    self.report_change(before.as_ref().map(|current_keys| &*current_keys.set), &set);
                } else if recovered {
                    tracing::info!(issuer = &*self.name, keys = set.keys().len(), "keys can be fetched again");
                }
            }
            Err(error) => {
                let mut state = self.lock();
                state.schedule.fail();
                let retry_in = state.schedule.next_in(now);
                state.last_error = Some(error.clone());
                drop(state);
                let usable = self.usable(now);
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
        }
        self.ended.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn report_change(&self, before: Option<&KeySet>, set: &KeySet) {
        let added = kids(set, before);
        let removed = before.map(|before| kids(before, Some(set))).unwrap_or_default();
        tracing::info!(issuer = &*self.name, keys = set.keys().len(), ?added, ?removed, "new key set");
        for (why, count) in set.skipped() {
            match why {
                Skip::Private => {
                    tracing::error!(
                        issuer = &*self.name,
                        count,
                        "the issuer publishes private keys: whoever has read them can sign"
                    );
                }
                Skip::Algorithm
                | Skip::Curve
                | Skip::Exponent
                | Skip::KeyId
                | Skip::KeyOperations
                | Skip::KeyType
                | Skip::Malformed
                | Skip::Modulus
                | Skip::Point
                | Skip::Symmetric
                | Skip::Use => tracing::info!(issuer = &*self.name, count, why = why.label(), "keys left out"),
            }
        }
    }

    fn may_be_used(&self, current_keys: &CurrentKeys, now: u64) -> bool {
        u128::from(now.saturating_sub(current_keys.fetched_at)) <= self.scope.timing.max_stale.as_micros()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope {
    fn of(settings: &IssuerSettings) -> Self {
        Self {
            issuer: Arc::clone(&settings.issuer),
            source: settings.keys.clone(),
            ca_file: settings.ca_file.clone(),
            timing: Timing { refresh: settings.refresh, cooldown: settings.cooldown, max_stale: settings.max_stale },
        }
    }
}

impl fmt::Debug for KeyStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("KeyStore").field("issuer", &self.name).finish_non_exhaustive()
    }
}

/// Most names in one log line; the numbers are there in any case.
const NAMES_SHOWN: usize = 5;

/// The names of the keys in `set` that are not in `other`: how many, and some of them, escaped and cut.
fn kids(set: &KeySet, other: Option<&KeySet>) -> (usize, Vec<String>) {
    let missing = |identity| other.is_none_or(|other| !other.contains(identity));
    let names: Vec<&str> =
        set.keys().iter().filter(|key| missing(key.identity())).map(|key| key.kid().unwrap_or("")).collect();
    (names.len(), names.iter().take(NAMES_SHOWN).map(|name| shown(name)).collect())
}

#[cfg(test)]
mod tests;
