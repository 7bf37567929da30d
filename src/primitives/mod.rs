//! Small tools that know nothing of gateways: time, randomness, the end of the process.

pub mod clock;
pub mod coalescing_stream;
pub mod field_syntax;
pub mod lazy_timer;
pub mod local_executor;
pub mod random;
pub mod shutdown;
