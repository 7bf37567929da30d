//! Small tools that know nothing of gateways: time, randomness, the end of the process.

pub mod alarm;
pub mod clock;
pub mod gathered;
pub mod on_this_thread;
pub mod random;
pub mod shutdown;
