//! Listeners: where clients connect. TCP listeners are one for each worker and address; a Unix
//! listener belongs to one worker, which hands its connections to the others.

mod tcp;
mod unix;

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

/// A listener that no runtime has been given yet.
#[derive(Debug)]
pub enum BoundListener {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// A listener and what its connections are served.
#[derive(Debug)]
pub struct ServiceListener<L = BoundListener> {
    /// The listener.
    pub listener: L,
    /// What its connections are served.
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

/// Binds the listeners of all workers.
///
/// # Errors
///
/// [`BindError`] with the first address that cannot be bound.
pub fn bind(listeners: &[ListenerSettings], mode: UnixMode, workers: usize) -> Result<BoundListeners, BindError> {
    let by_worker = (0..workers).map(|_| Vec::new()).collect();
    let mut bound = BoundListeners { by_worker, addresses: Vec::new(), files: Vec::new() };
    for (index, settings) in listeners.iter().enumerate() {
        bound.add(settings, mode, index).map_err(|source| BindError { address: settings.address.clone(), source })?;
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
