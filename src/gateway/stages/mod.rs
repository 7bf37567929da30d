//! The stages of a request, one file each, in the order of [`Stage`].
//!
//! Each stage takes by value what the previous stage produced, applies the [policy](super::policy)
//! of the route, and reports its checks to the observer. Only [`decide`](super::decide()) calls the
//! stages; [`Gateway::handle`](super::Gateway::handle) calls `forward`.

pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod cors;
pub(crate) mod forward;
pub(crate) mod https_redirect;
pub(crate) mod normalize;
pub(crate) mod rate_limit;
pub(crate) mod routing;

mod client_certificate;

use super::observer::{Check, Observer, Stage};
use super::response::context::ResponseContext;
use super::runtime::Runtime;
use authenticate::Credentials;

/// What a stage needs besides the request.
#[derive(Debug)]
pub(crate) struct StageContext<'a, O> {
    /// The runtime that handles the request.
    pub runtime: &'a Runtime,
    /// Where the caller's identity comes from.
    pub credentials: Credentials<'a>,
    /// Collects what the response depends on.
    pub response: &'a mut ResponseContext,
    /// Receives each check.
    pub observer: &'a mut O,
}

impl<O: Observer> StageContext<'_, O> {
    fn enter(&mut self, stage: Stage) {
        self.observer.enter(stage);
    }

    fn check(&mut self, describe: impl FnOnce() -> Check) {
        self.observer.check(describe);
    }
}
