//! Child processes of tests.

use std::process::Child;

/// A child process. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct ChildGuard(pub(crate) Child);

impl Drop for ChildGuard {
    fn drop(&mut self) {
        // It may already have ended; waiting removes its entry from the process table.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
