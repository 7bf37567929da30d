//! TCP listeners: one for each worker, so that the kernel spreads connections over the workers.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::BACKLOG;

/// Binds one listener for each of `workers` workers, or one in all where the kernel does not spread
/// connections.
///
/// A port that another process listens on is an error, even where `SO_REUSEPORT` would let two
/// processes share it: a second gateway on the same port would silently take half of the first
/// one's connections.
#[cfg(target_os = "linux")]
pub(super) fn bind(address: SocketAddr, workers: usize) -> io::Result<Vec<TcpListener>> {
    // Exclusive, to find out whether the port is free and, for port 0, which port the kernel
    // assigns.
    let probe = socket(address, Share::Exclusive)?;
    let address = probe.local_addr()?;
    drop(probe);
    (0..workers).map(|_| socket(address, Share::AmongWorkers)).collect()
}

/// Other kernels do not spread connections: one worker accepts them and hands them to the others.
#[cfg(not(target_os = "linux"))]
pub(super) fn bind(address: SocketAddr, _workers: usize) -> io::Result<Vec<TcpListener>> {
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
