//! What a route is.

pub mod identity;
