//! Bodies of requests and responses: streamed, with limits on size and idle time.
//!
//! [`RequestBody`] goes from the client to the upstream, [`ResponseBody`] from the upstream to the
//! client. Neither collects anything: a frame is forwarded when it arrives. [`Progress`] connects
//! the two: how the request body ended decides which error the client gets, and whether the
//! connection can be reused.

mod idle_timer;
mod progress;
mod request;
mod response;

use std::time::Duration;

pub(crate) use progress::{BodyOutcome, Progress, RequestBodyFault};
pub(crate) use request::{MaxBody, RequestBody};
pub(crate) use response::{ResponseBody, ResponseBodyError, Trailers};

/// How long each body of an exchange may bring no byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleTimeouts {
    /// The request's.
    pub request: Duration,
    /// The response's.
    pub response: Duration,
}
