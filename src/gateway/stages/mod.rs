//! The stages of a request, one file each, in the order of [`Stage`].
//!
//! Each stage takes by value what the previous stage produced, judges it by the
//! [policy](super::policy) of its route, and tells the observer what it found. Nothing here is called
//! from anywhere but [`decide`](super::decide) and, for `forward`, [`Gateway::handle`](super::Gateway).

pub(crate) mod authenticate;
pub(crate) mod authorize;
pub(crate) mod cors;
pub(crate) mod forward;
pub(crate) mod normalize;
pub(crate) mod rate_limit;
pub(crate) mod routing;

use super::observer::{Check, Observer, Stage};
use super::response::context::ResponseContext;
use super::runtime::Runtime;

/// What a stage works with, beside the request.
#[derive(Debug)]
pub(crate) struct StageContext<'a, O> {
    /// What the request is judged by.
    pub runtime: &'a Runtime,
    /// What the response will need.
    pub response: &'a mut ResponseContext,
    /// Sees each check.
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
