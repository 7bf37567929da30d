//! Building blocks that know nothing about gateways: clocks, randomness, shutdown, timers, backoff,
//! field syntax.

pub(crate) mod backoff;
pub mod clock;
pub(crate) mod coalescing_stream;
pub(crate) mod escape;
pub(crate) mod field_syntax;
pub(crate) mod lazy_timer;
pub(crate) mod local_executor;
pub mod random;
pub mod shutdown;
