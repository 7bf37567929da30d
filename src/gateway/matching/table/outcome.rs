//! What the route table returns: the match of a request, and a conflict between two routes.

use http::HeaderValue;

use crate::gateway::matching::path::UnusualForm;

/// Two routes that match the same requests: they have the same host and path pattern, apart from
/// the names of bound segments, and a method in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Index of the earlier route in the list given to
    /// [`RouteTable::build`](super::RouteTable::build).
    pub first: usize,
    /// Index of the later route.
    pub second: usize,
}

/// The result of matching a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteMatch {
    /// The path matches different patterns as sent, with escapes decoded, or without what a backend
    /// may cut off. The gateway cannot know how the upstream interprets it, so no route's policy is
    /// safe to apply and the request must be refused.
    Ambiguous,
    /// The index of the route in the list given to [`RouteTable::build`](super::RouteTable::build).
    Found(usize),
    /// A pattern matches, but none of its routes allows the method. The value is for `Allow`
    /// (RFC 9110 §10.2.1).
    MethodNotAllowed(HeaderValue),
    /// No pattern matches.
    NotFound,
    /// The path has an unusual form that the route does not accept, or no route matches it.
    UnusualForm {
        /// The form.
        form: UnusualForm,
        /// The index of the route.
        route: Option<usize>,
    },
}
