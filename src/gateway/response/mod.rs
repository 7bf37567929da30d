//! Response: what goes back to the client, and what is recorded of the request.
//!
//! A [`Refusal`](refusal::Refusal) is turned into HTTP in [`error_response`] alone; every response
//! leaves by [`ResponseContext::finish`](context::ResponseContext::finish) and takes the request's
//! [`record`] along in its [`body`].

pub mod body;
pub mod context;
pub mod error_response;
pub mod record;
pub mod refusal;
