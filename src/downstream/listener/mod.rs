//! Listeners: where clients connect. Each worker has a listener of its own for each TCP address; a
//! Unix listener or a socket from systemd belongs to one worker, which hands its connections to the
//! others.

mod inherited;
mod tcp;
mod unix;

pub use inherited::InheritedSockets;
pub(crate) use unix::SocketFile;

use std::io;

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
}

/// Binds the listeners of all workers, or takes the sockets that were inherited for them.
///
/// # Errors
///
/// [`BindError`] with the first address that cannot be bound.
pub fn bind(
    listeners: &[ListenerSettings],
    mode: UnixMode,
    workers: usize,
    inherited: &mut InheritedSockets,
) -> Result<BoundListeners, BindError> {
    let by_worker = (0..workers).map(|_| Vec::new()).collect();
    let mut bound = BoundListeners { by_worker, addresses: Vec::new(), files: Vec::new() };
    for (index, settings) in listeners.iter().enumerate() {
        let of_address = inherited.take(&settings.address);
        let added = match &of_address[..] {
            [] => bound.add(settings, mode, index),
            [..] => bound.add_inherited(settings, of_address, index),
        };
        added.map_err(|source| BindError { address: settings.address.clone(), source })?;
    }
    for address in inherited.unused() {
        tracing::warn!(address, "a socket was handed over that no listener is configured for");
    }
    Ok(bound)
}

impl BoundListeners {
    /// Binds the listener at `index` of the configuration.
    fn add(&mut self, settings: &ListenerSettings, mode: UnixMode, index: usize) -> io::Result<()> {
        let ListenerSettings { address, service } = settings;
        let service_listener = |listener| ServiceListener { listener, service: *service };
        let workers = self.by_worker.len();
        match address {
            ListenAddress::Tcp(address) => {
                let listeners = tcp::bind(*address, workers)?;
                self.addresses
                    .extend(listeners.first().map(|one| one.local_addr().map(ListenAddress::Tcp)).transpose()?);
                for (worker, listener) in self.by_worker.iter_mut().zip(listeners) {
                    worker.push(service_listener(BoundListener::Tcp(listener)));
                }
            }
            ListenAddress::Unix(path) => {
                let (listener, file) = unix::bind(path, mode)?;
                // Several such listeners are spread over the workers.
                self.by_worker[index % workers].push(service_listener(BoundListener::Unix(listener)));
                self.addresses.push(address.clone());
                self.files.push(file);
            }
            ListenAddress::Systemd(_) => {
                let what = "systemd has handed over no socket of this name (FileDescriptorName=, LISTEN_FDNAMES)";
                return Err(io::Error::new(io::ErrorKind::NotFound, what));
            }
        }
        Ok(())
    }

    /// Adds sockets that another process has opened for the listener at `index` of the
    /// configuration.
    fn add_inherited(
        &mut self,
        settings: &ListenerSettings,
        listeners: Vec<BoundListener>,
        index: usize,
    ) -> io::Result<()> {
        let ListenerSettings { address, service } = settings;
        let workers = self.by_worker.len();
        for (number, listener) in listeners.into_iter().enumerate() {
            let local = listener.local_address()?.unwrap_or_else(|| address.clone());
            if !self.addresses.contains(&local) {
                self.addresses.push(local);
            }
            // All of them are accepted from, however many workers this process has.
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
