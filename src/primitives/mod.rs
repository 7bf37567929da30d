//! Building blocks that know nothing about gateways: clocks, randomness, shutdown, timers, field
//! syntax.

pub mod clock;
pub mod coalescing_stream;
pub mod escape;
pub mod field_syntax;
pub mod lazy_timer;
pub mod local_executor;
pub mod random;
pub mod shutdown;
