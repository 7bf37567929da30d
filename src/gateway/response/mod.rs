//! Response: what the client receives, and what is recorded of the request.
//!
//! Only [`error_response`] turns a [`Refusal`](refusal::Refusal) into HTTP. Every response passes
//! through [`ResponseContext::finish`](context::ResponseContext::finish), which attaches the
//! request's [`record`] to the [`body`].

pub(crate) mod body;
pub(crate) mod body_error;
pub(crate) mod context;
pub(crate) mod error_response;
pub(crate) mod record;
pub(crate) mod refusal;
pub(crate) mod time_limit;
pub(crate) mod tunnel_response;
