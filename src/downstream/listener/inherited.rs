//! Listening sockets that systemd has opened and hands over, with the connections that wait in
//! them.

use std::io;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketType, getsockname, sockopt};

use super::BoundListener;

/// Sockets from another process, each with its address as the configuration writes it.
#[derive(Debug, Default)]
pub struct InheritedSockets(Vec<(String, BoundListener)>);

impl InheritedSockets {
    /// Adds a socket for `address`, such as `systemd:http` or `127.0.0.1:8080`.
    ///
    /// # Errors
    ///
    /// The descriptor is not a listening TCP or Unix stream socket.
    pub fn add(&mut self, address: String, socket: OwnedFd) -> io::Result<()> {
        self.0.push((address, BoundListener::from_descriptor(socket)?));
        Ok(())
    }

    /// Removes and returns the sockets for `address`. Several may have the same name in systemd,
    /// and each worker may have had one.
    pub(crate) fn take(&mut self, address: &str) -> Vec<BoundListener> {
        self.0.extract_if(.., |(of, _)| of == address).map(|(_, listener)| listener).collect()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The addresses of the sockets that no listener has taken.
    pub fn unused(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(address, _)| address.as_str())
    }
}

impl BoundListener {
    /// A listener that another process has bound.
    fn from_descriptor(socket: OwnedFd) -> io::Result<Self> {
        let unusable = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if sockopt::socket_type(&socket)? != SocketType::STREAM {
            return unusable("it is not a stream socket (ListenStream= in systemd)");
        }
        // Apple's systems lack `SO_ACCEPTCONN`; there, the first accept fails instead.
        #[cfg(not(target_vendor = "apple"))]
        if !sockopt::socket_acceptconn(&socket)? {
            return unusable("it does not listen (Accept=no in systemd)");
        }
        let listener = match getsockname(&socket)?.address_family() {
            AddressFamily::INET | AddressFamily::INET6 => Self::Tcp(socket.into()),
            AddressFamily::UNIX => Self::Unix(socket.into()),
            _ => return unusable("it is neither a TCP nor a Unix socket"),
        };
        listener.set_nonblocking()?;
        Ok(listener)
    }

    /// Another descriptor of the same socket.
    pub(super) fn copy(&self) -> io::Result<OwnedFd> {
        Ok(match self {
            Self::Tcp(listener) => listener.try_clone()?.into(),
            Self::Unix(listener) => listener.try_clone()?.into(),
        })
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.set_nonblocking(true),
            Self::Unix(listener) => listener.set_nonblocking(true),
        }
    }
}
