//! The stages of a request, in the order of [`gateway`](super).

pub mod authenticate;
pub mod authorize;
pub mod cors;
pub mod forward;
pub mod normalize;
pub mod rate_limit;
pub mod routing;
