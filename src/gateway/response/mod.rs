//! Response: what goes back to the client, and what is recorded of the request.
//!
//! A [`Refusal`](refusal::Refusal) is turned into HTTP in [`error_response`] alone; every response
//! leaves by [`ResponseContext::finish`](context::ResponseContext::finish) and takes the request's
//! [`record`] along in its [`body`].

pub(crate) mod body;
pub(crate) mod context;
pub(crate) mod error_response;
pub(crate) mod record;
pub(crate) mod refusal;
