//! Building blocks that know nothing about gateways: clocks, randomness, hashes, shutdown, timers,
//! backoff, files, shares of clients, field syntax, gRPC.

pub(crate) mod backoff;
pub(crate) mod blocking;
pub(crate) mod client_network;
pub mod clock;
pub(crate) mod coalescing_stream;
pub(crate) mod escape;
pub(crate) mod field_syntax;
pub(crate) mod file;
pub(crate) mod grpc;
pub(crate) mod lazy_timer;
pub(crate) mod listen_address;
pub(crate) mod local_executor;
pub(crate) mod log_interval;
pub(crate) mod min_rate;
pub mod random;
pub(crate) mod shares;
pub mod shutdown;
pub(crate) mod stable_hash;
#[cfg(test)]
pub(crate) mod test_directory;
