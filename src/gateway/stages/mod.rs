//! The stages of a request, one file each, in the order of [`Stage::ALL`].
//!
//! Each stage takes by value what the previous stage produced, judges it by the
//! [policy](super::policy) of its route, and tells the observer what it found. Nothing here is called
//! from anywhere but [`decide`](super::decide) and, for `forward`, [`Gateway::handle`](super::Gateway).

pub mod authenticate;
pub mod authorize;
pub mod cors;
pub mod forward;
pub mod normalize;
pub mod rate_limit;
pub mod routing;

use super::observer::{Check, Observer, Stage};
use super::response::context::ResponseContext;
use super::runtime::Runtime;

/// What a stage works with, beside the request.
#[derive(Debug)]
pub struct StageContext<'a, O> {
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
