//! Listeners: one for each worker and address, so that the kernel spreads connections over the
//! workers.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

/// Connections that the kernel may hold before they are accepted. The kernel's own limit
/// (`net.core.somaxconn`) applies as well.
const BACKLOG: i32 = 4096;

/// The gateway cannot listen on an address.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// The listeners of all workers: `result[worker][address]`.
///
/// A port that another process listens on is an error, even where `SO_REUSEPORT` would let two
/// processes share it: a second gateway on the same port would silently take half of the first
/// one's connections.
///
/// # Errors
///
/// [`BindError`] with the first address that cannot be bound.
pub fn bind(addresses: &[SocketAddr], workers: usize) -> Result<Vec<Vec<TcpListener>>, BindError> {
    let mut all: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for &address in addresses {
        let listeners = for_address(address, workers).map_err(|source| BindError { address, source })?;
        for (worker, listener) in all.iter_mut().zip(listeners) {
            worker.push(listener);
        }
    }
    Ok(all)
}

#[cfg(target_os = "linux")]
fn for_address(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // Exclusive, to find out whether the port is free and, for port 0, which port the kernel
    // assigns.
    let probe = socket(address, Share::Exclusive)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..workers).map(|_| socket(address, Share::AmongWorkers)).collect()
}

/// Other kernels do not spread connections: one worker accepts them and hands them to the others.
#[cfg(not(target_os = "linux"))]
fn for_address(address: SocketAddr, _workers: usize) -> io::Result<Vec<TcpListener>> {
    Ok(vec![socket(address, Share::Exclusive)?])
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Share {
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "used only where the kernel spreads connections"))]
    AmongWorkers,
    Exclusive,
}

fn socket(address: SocketAddr, share: Share) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Without this, a restart fails while connections of the previous process are in TIME_WAIT.
    socket.set_reuse_address(true)?;
    #[cfg(target_os = "linux")]
    if share == Share::AmongWorkers {
        socket.set_reuse_port(true)?;
    }
    #[cfg(not(target_os = "linux"))]
    let _ = share;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_worker_gets_a_listener_on_the_same_free_port() {
        let listeners = bind(&["127.0.0.1:0".parse().unwrap()], 3).unwrap();
        let ports: Vec<u16> = listeners.iter().map(|l| l[0].local_addr().unwrap().port()).collect();
        assert!(ports.len() == 3 && ports[0] != 0 && ports.iter().all(|port| *port == ports[0]), "{ports:?}");
    }

    #[test]
    fn a_port_that_is_taken_is_an_error_that_names_it() {
        let first = bind(&["127.0.0.1:0".parse().unwrap()], 2).unwrap();
        let taken = first[0][0].local_addr().unwrap();
        let error = bind(&[taken], 2).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot listen on {taken}: ")), "{error}");
    }
}
