//! Socket activation: the listening sockets that systemd opens for the process
//! (`sd_listen_fds(3)`).
//!
//! systemd keeps them open while the process restarts. Connections wait in them for the next
//! process, and none is refused.

use std::io;

use listenfd::ListenFd;

use crate::downstream::listener::InheritedSockets;

/// A socket that systemd has handed over cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the socket `{name}` that systemd has handed over: {source}")]
pub struct UnusableSocket {
    name: String,
    source: io::Error,
}

/// The sockets that systemd has handed over to this process, if it has.
///
/// Must be called once, before the process starts a thread: it removes the variables from the
/// environment, so that no child process takes the sockets for its own.
///
/// # Errors
///
/// [`UnusableSocket`].
pub(crate) fn sockets_from_environment() -> Result<InheritedSockets, UnusableSocket> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut handed_over = ListenFd::from_env();
    let mut sockets = InheritedSockets::default();
    for index in 0..handed_over.len() {
        // As in `sd_listen_fds_with_names(3)`.
        let name = names.get(index).filter(|name| !name.is_empty()).unwrap_or(&"unknown");
        let unusable = |source| UnusableSocket { name: (*name).to_owned(), source };
        let socket = handed_over
            .take_tcp_listener(index)
            .map(|tcp| tcp.map(Into::into))
            .or_else(|_| handed_over.take_unix_listener(index).map(|unix| unix.map(Into::into)))
            .map_err(unusable)?;
        if let Some(socket) = socket {
            sockets.add(format!("systemd:{name}"), socket).map_err(unusable)?;
        }
    }
    Ok(sockets)
}
