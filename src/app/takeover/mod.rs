//! Takeover: a new process takes over the listening sockets of the running one, without a
//! supervisor and without losing a connection.
//!
//! The running process, the predecessor, listens on the Unix socket `[server] takeover_socket`. The
//! new one, the successor, reads its configuration and connects:
//!
//! ```text
//! successor    portcullis takeover 1
//! predecessor  socket 127.0.0.1:8080     with the descriptors of the sockets (SCM_RIGHTS)
//! predecessor  …                         a line for each address, admin and takeover_socket too
//! predecessor  end
//! successor    ready                     once it has keys, and its workers accept
//! predecessor  taken                     or kept, if it did not wait so long
//! ```
//!
//! Then the predecessor drains, at once. Until `ready` it serves as before; if the successor fails,
//! nothing has changed. After `kept` the successor ends: two processes with one configuration must
//! not go on side by side. Both have the same sockets, not sockets with the same address: what
//! waits in a socket when the predecessor closes it is accepted by the successor. With
//! `SO_REUSEPORT` each process would have sockets of its own, and the kernel resets the connections
//! that wait in one that is closed.
//!
//! Only the process's user can connect to the socket, and each side checks that the other runs as
//! the same user. A predecessor serves one successor at a time. If two start at once, the second
//! takes over from the first, which inherits the takeover socket and accepts on it only once it
//! serves.

mod predecessor;
mod successor;
mod wire;

pub(super) use predecessor::{Offer, RunningOffer};
pub(super) use successor::{Predecessor, connect};

use std::path::PathBuf;

use rustix::process::Uid;
use tokio::net::UnixStream;

/// A new process cannot take over from the running one, which goes on serving.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over from the process that listens on {}: {fault}", path.display())]
pub struct TakeoverError {
    path: PathBuf,
    fault: TakeoverFault,
}

/// Why a takeover fails.
#[derive(Debug, thiserror::Error)]
pub(super) enum TakeoverFault {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("it runs as another user")]
    OtherUser,
    #[error("it does not respond")]
    NotAnswering,
    #[error("it does not speak this protocol")]
    Protocol,
    #[error("this process is not ready to serve: {0}")]
    NotReady(String),
    #[error("it has waited too long for this process, and goes on")]
    Kept,
}

/// The first line of a successor. Another version of the protocol has another number.
const REQUEST: &str = "portcullis takeover 1";

/// What a successor sends once it accepts connections.
const READY: &str = "ready";

/// The predecessor's response to [`READY`]: it drains.
const TAKEN: &str = "taken";

/// What the predecessor says when it no longer waits for the successor: it goes on.
const KEPT: &str = "kept";

/// What follows the last socket.
const END: &str = "end";

/// What is written in front of the address of a socket.
const SOCKET: &str = "socket ";

/// The name under which the admin listener's socket is handed over.
pub(super) fn admin_name(address: std::net::SocketAddr) -> String {
    format!("admin:{address}")
}

/// The name under which the takeover socket itself is handed over.
pub(super) fn takeover_name(path: &std::path::Path) -> String {
    format!("takeover:{}", path.display())
}

/// Refuses a peer that does not run as `user`.
fn check_user(stream: &UnixStream, user: Uid) -> Result<(), TakeoverFault> {
    if stream.peer_cred()?.uid() == user.as_raw() { Ok(()) } else { Err(TakeoverFault::OtherUser) }
}

#[cfg(test)]
mod tests;
