//! Listeners: where clients connect. Each worker has a listener of its own for each TCP address; a
//! Unix listener or a socket from systemd belongs to one worker, which hands its connections to the
//! others.

mod inherited;
mod tcp;
mod unix;

pub use inherited::InheritedSockets;
pub(crate) use unix::SocketFile;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tokio::net::{TcpListener, UnixListener};

use super::socket::ClientSocket;
use crate::gateway::PeerAddress;
use crate::primitives::listen_address::{ListenAddress, ListenerService, ListenerSettings, UnixMode};

/// Connections that the kernel may hold before they are accepted. The kernel's own limit
/// (`net.core.somaxconn`) applies as well.
const BACKLOG: i32 = 4096;

/// The gateway cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: ListenAddress,
    /// Why.
    pub source: io::Error,
}

/// A listener that is not yet registered with a runtime.
#[derive(Debug)]
pub enum BoundListener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// A listener and how its connections are served.
#[derive(Debug)]
pub struct ServiceListener<L = BoundListener> {
    /// The listener.
    pub listener: L,
    /// How its connections are served.
    pub service: ListenerService,
}

/// How the listeners are bound.
#[derive(Clone, Copy, Debug)]
pub struct BindOptions {
    /// The permissions of Unix sockets.
    pub unix_mode: UnixMode,
    /// How many workers accept.
    pub workers: usize,
    /// Whether the process keeps a copy of each socket.
    pub copies: Copies,
}

/// Whether the process keeps a copy of each socket, to hand it over to another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// It does. The sockets stay open until the copies are closed as well.
    Kept,
    /// It does not.
    NotKept,
}

/// All listeners of the process.
#[derive(Debug)]
pub struct BoundListeners {
    /// The listeners of each worker.
    pub by_worker: Vec<Vec<ServiceListener>>,
    /// The addresses, in the order of the configuration, with the port that the kernel has chosen
    /// for port 0.
    pub addresses: Vec<ListenAddress>,
    /// The files of Unix listeners, which are removed when this is dropped.
    pub files: Vec<SocketFile>,
    /// The files of Unix listeners that another process has bound, and still serves, and the
    /// permissions that they are to have once this process serves.
    pub inherited_files: Vec<(PathBuf, UnixMode)>,
    /// A copy of each socket, with its address as the configuration writes it.
    pub copies: Vec<(String, OwnedFd)>,
}

/// Binds the listeners of all workers, or takes the sockets that were inherited for them.
///
/// # Errors
///
/// [`BindError`] with the first address that cannot be bound.
pub fn bind(
    listeners: &[ListenerSettings],
    options: BindOptions,
    inherited: &mut InheritedSockets,
) -> Result<BoundListeners, BindError> {
    let by_worker = (0..options.workers).map(|_| Vec::new()).collect();
    let mut bound = BoundListeners {
        by_worker,
        addresses: Vec::new(),
        files: Vec::new(),
        inherited_files: Vec::new(),
        copies: Vec::new(),
    };
    for (index, settings) in listeners.iter().enumerate() {
        let of_address = inherited.take(&settings.address.to_string());
        let failed = |source| BindError { address: settings.address.clone(), source };
        let sockets = if of_address.is_empty() {
            bound.open(&settings.address, options)
        } else {
            if let ListenAddress::Unix(path) = &settings.address {
                bound.inherited_files.push((path.clone(), options.unix_mode));
            }
            Ok(of_address)
        };
        bound.add(settings, sockets.map_err(failed)?, index, options.copies).map_err(failed)?;
    }
    Ok(bound)
}

/// Binds a Unix listener that belongs to no worker.
///
/// # Errors
///
/// Those of bind(2). Another process may listen there, or the path may be that of another file.
pub(crate) fn bind_unix(path: &Path, mode: UnixMode) -> io::Result<(std::os::unix::net::UnixListener, SocketFile)> {
    unix::bind(path, mode)
}

impl BoundListeners {
    /// Opens the sockets of an address.
    fn open(&mut self, address: &ListenAddress, options: BindOptions) -> io::Result<Vec<BoundListener>> {
        match address {
            ListenAddress::Tcp(address) => {
                Ok(tcp::bind(*address, options.workers)?.into_iter().map(BoundListener::Tcp).collect())
            }
            ListenAddress::Unix(path) => {
                let (listener, file) = unix::bind(path, options.unix_mode)?;
                self.files.push(file);
                Ok(vec![BoundListener::Unix(listener)])
            }
            ListenAddress::Systemd(_) => {
                let what = "systemd has handed over no socket of this name (FileDescriptorName=, LISTEN_FDNAMES)";
                Err(io::Error::new(io::ErrorKind::NotFound, what))
            }
        }
    }

    /// Distributes the sockets of the address at `index` of the configuration: one to each worker
    /// if there are as many. Every socket gets a worker, however many there are.
    fn add(
        &mut self,
        ListenerSettings { address, service }: &ListenerSettings,
        sockets: Vec<BoundListener>,
        index: usize,
        copies: Copies,
    ) -> io::Result<()> {
        let workers = self.by_worker.len();
        for (number, listener) in sockets.into_iter().enumerate() {
            let local = listener.local_address()?.unwrap_or_else(|| address.clone());
            if number == 0 || !self.addresses.contains(&local) {
                self.addresses.push(local);
            }
            if copies == Copies::Kept {
                self.copies.push((address.to_string(), listener.copy()?));
            }
            // Sockets of addresses that have only one are distributed over the workers.
            self.by_worker[(index + number) % workers].push(ServiceListener { listener, service: *service });
        }
        Ok(())
    }
}

/// A listener of one worker, registered with its runtime.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl BoundListener {
    /// The address that it listens on; `None` for a Unix socket without a path.
    fn local_address(&self) -> io::Result<Option<ListenAddress>> {
        Ok(match self {
            Self::Tcp(listener) => Some(ListenAddress::Tcp(listener.local_addr()?)),
            Self::Unix(listener) => {
                listener.local_addr()?.as_pathname().map(|path| ListenAddress::Unix(path.to_owned()))
            }
        })
    }

    /// Registers the listener with the runtime of this thread.
    ///
    /// # Errors
    ///
    /// An error of the runtime.
    pub(super) fn attach(self) -> io::Result<Listener> {
        Ok(match self {
            Self::Tcp(listener) => Listener::Tcp(TcpListener::from_std(listener)?),
            Self::Unix(listener) => Listener::Unix(UnixListener::from_std(listener)?),
        })
    }
}

impl Listener {
    /// Accepts a connection.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again; no connection is lost.
    ///
    /// # Errors
    ///
    /// Those of accept(2). The process may have no file descriptors left.
    pub(super) async fn accept(&self) -> io::Result<(ClientSocket, PeerAddress)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((ClientSocket::tcp(stream), address.ip().into()))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((ClientSocket::Unix(stream), PeerAddress::UnixSocket))
            }
        }
    }
}

#[cfg(test)]
mod tests;
