//! Observer: receives each check of a decision.
//!
//! `explain` collects the checks with their configuration keys. The data path passes
//! [`NoObserver`], whose empty methods the compiler removes.

/// The stages of a request, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Brings framing, host, path and headers into one form.
    Normalize,
    /// Finds the route.
    Routing,
    /// Decides whether the origin may read the response.
    Cors,
    /// Counts the limits by address, header and route.
    LimitBeforeAuth,
    /// Finds out who is calling.
    Authenticate,
    /// Checks the route's demands on the caller.
    Authorize,
    /// Counts the limits by caller.
    LimitAfterAuth,
    /// Sends the request to its upstream.
    Forward,
}

impl Stage {
    /// The stage's name in `explain`.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Normalize => "normalize",
            Self::Routing => "routing",
            Self::Cors => "cors",
            Self::LimitBeforeAuth => "limit_before_auth",
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::LimitAfterAuth => "limit_after_auth",
            Self::Forward => "forward",
        }
    }
}

/// One check of a decision, as `explain` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was checked, in one word.
    pub subject: &'static str,
    /// The result.
    pub result: CheckResult,
    /// What the check found. May contain text of the request.
    pub detail: String,
    /// The configuration key that decided, such as `routes[2].scopes`.
    pub key: Option<String>,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    /// The request fails it.
    Failed,
    /// It decides nothing, but tells the operator something.
    Noted,
    /// The request passes it.
    Passed,
}

impl Check {
    /// A check that the request passes.
    pub(crate) fn passed(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { subject, result: CheckResult::Passed, detail: detail.into(), key: None }
    }

    /// A check that the request fails.
    pub(crate) fn failed(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { subject, result: CheckResult::Failed, detail: detail.into(), key: None }
    }

    /// A check that decides nothing.
    pub(crate) fn noted(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { subject, result: CheckResult::Noted, detail: detail.into(), key: None }
    }

    /// Adds the configuration key that decided.
    #[must_use]
    pub(crate) fn with_key(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }
}

/// Watches a decision.
pub(crate) trait Observer {
    /// Whether authorization checks all demands of a route, even after one that is not met.
    const CHECKS_ALL_DEMANDS: bool;

    /// Called when a stage begins.
    fn enter(&mut self, stage: Stage);

    /// Called after each check. Calls `describe`, which allocates, only if it needs the
    /// description.
    fn check(&mut self, describe: impl FnOnce() -> Check);
}

/// The observer of the data path, which ignores everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoObserver;

impl Observer for NoObserver {
    const CHECKS_ALL_DEMANDS: bool = false;

    #[inline]
    fn enter(&mut self, _: Stage) {}

    #[inline]
    fn check(&mut self, _: impl FnOnce() -> Check) {}
}
