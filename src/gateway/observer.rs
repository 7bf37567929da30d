//! Observer: sees each check of a decision as it is made.
//!
//! The data path has no use for it and passes [`Unobserved`], whose methods are empty, so that the
//! compiler leaves nothing of them. `explain` collects every check with its configuration key.

use serde_json::{Map, Value};

/// The stages of a request, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// One form for framing, host, path and headers.
    Normalize,
    /// Which route.
    Routing,
    /// Which origins may read the response.
    Cors,
    /// Limits by address, header and route.
    LimitBeforeAuth,
    /// Who is calling.
    Authenticate,
    /// May they do this.
    Authorize,
    /// Limits by caller.
    LimitAfterAuth,
    /// To the upstream.
    Forward,
}

impl Stage {
    /// Its name, for people.
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

/// One check of a decision, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// What was looked at, in one word.
    pub subject: &'static str,
    /// How it came out.
    pub result: CheckResult,
    /// What was found, in a few words. May hold text of the request.
    pub detail: String,
    /// The configuration key that decided, such as `routes[2].scopes`.
    pub key: Option<String>,
}

/// How a check came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CheckResult {
    /// The request fails it.
    Failed,
    /// It decides nothing, but is worth knowing.
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

    /// What decides nothing.
    pub(crate) fn noted(subject: &'static str, detail: impl Into<String>) -> Self {
        Self { subject, result: CheckResult::Noted, detail: detail.into(), key: None }
    }

    /// The configuration key that decided.
    #[must_use]
    pub(crate) fn by(self, key: impl Into<String>) -> Self {
        Self { key: Some(key.into()), ..self }
    }
}

/// What a caller of [`decide`](super::decide::decide) adds to it.
pub(crate) trait Observer {
    /// Whether all demands of a route are to be judged, also after one that is not met.
    const JUDGES_ALL_DEMANDS: bool;

    /// A stage begins.
    fn enter(&mut self, stage: Stage);

    /// A check was made. `describe` costs time, and is called only to be shown.
    fn check(&mut self, describe: impl FnOnce() -> Check);

    /// Claims to take as those of a verified token, in place of the request's own token.
    fn assumed_claims(&mut self) -> Option<Map<String, Value>>;
}

/// No observer: the data path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unobserved;

impl Observer for Unobserved {
    const JUDGES_ALL_DEMANDS: bool = false;

    #[inline]
    fn enter(&mut self, _: Stage) {}

    #[inline]
    fn check(&mut self, _: impl FnOnce() -> Check) {}

    #[inline]
    fn assumed_claims(&mut self) -> Option<Map<String, Value>> {
        None
    }
}
