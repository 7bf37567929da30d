//! Dialer: opens transport connections to one server.
//!
//! The pools speak HTTP over whatever a dialer returns and know nothing about sockets.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::stream::{PlainStream, UpstreamStream};
use super::{ConnectFault, DialTarget, ServerAddress};
use crate::resolver::{Host, Resolver};

/// How to reach one server.
#[derive(Debug)]
pub(super) struct Dialer {
    address: ServerAddress,
    route: Route,
}

/// Where the server is.
#[derive(Debug)]
enum Route {
    Tcp { host: Host, port: u16 },
    Unix(Arc<Path>),
}

/// The address that a connection goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemoteAddress {
    /// An IP address of the server's host.
    Ip(IpAddr),
    /// The server's Unix socket.
    Unix,
}

impl Dialer {
    pub(super) fn new(address: ServerAddress, resolver: &Resolver) -> Self {
        let route = match &address.target {
            DialTarget::Tcp { host, port } => Route::Tcp { host: resolver.host(host), port: *port },
            DialTarget::Unix(path) => Route::Unix(path.as_path().into()),
        };
        Self { address, route }
    }

    pub(super) fn address(&self) -> &ServerAddress {
        &self.address
    }

    /// Looks the server's name up again if the last result is old. Never waits.
    pub(super) fn refresh(&self) {
        match &self.route {
            Route::Tcp { host, .. } => host.refresh(),
            Route::Unix(_) => {}
        }
    }

    /// Whether the server still has the address that `connection` goes to.
    pub(super) fn has_address_of(&self, connection: RemoteAddress) -> bool {
        match (&self.route, connection) {
            (Route::Tcp { host, .. }, RemoteAddress::Ip(ip)) => host.has(ip),
            (Route::Unix(_), RemoteAddress::Unix) => true,
            (Route::Tcp { .. }, RemoteAddress::Unix) | (Route::Unix(_), RemoteAddress::Ip(_)) => false,
        }
    }

    /// Connects to the server within `time`, the lookup of its name included.
    ///
    /// # Errors
    ///
    /// Why it cannot connect; of several addresses, to the one that was tried last.
    pub(super) async fn connect(&self, time: Duration) -> Result<(UpstreamStream, RemoteAddress), ConnectFault> {
        match &self.route {
            Route::Tcp { host, port } => {
                let (stream, ip) = connect_tcp(host, *port, time).await?;
                Ok((UpstreamStream::Tcp(PlainStream::new(stream)), RemoteAddress::Ip(ip)))
            }
            Route::Unix(path) => {
                let stream = timeout(time, connect_unix(path)).await.map_err(|_elapsed| ConnectFault::TimedOut)?;
                let stream = stream.map_err(|error| ConnectFault::from(&error))?;
                Ok((UpstreamStream::Unix(PlainStream::new(stream)), RemoteAddress::Unix))
            }
        }
    }
}

/// Resolves the server's name and connects to one of its addresses, all within `time`. An address
/// that does not answer takes half of the time that is left, so that another one can still be
/// tried.
async fn connect_tcp(host: &Host, port: u16, time: Duration) -> Result<(TcpStream, IpAddr), ConnectFault> {
    let deadline = Instant::now() + time;
    let addresses = match timeout_at(deadline, host.addresses()).await {
        Ok(Ok(addresses)) => addresses.in_turn(),
        Ok(Err(_)) | Err(_) => return Err(ConnectFault::NameNotResolved),
    };
    let mut fault = ConnectFault::NameNotResolved;
    for (index, address) in addresses.iter().enumerate() {
        let remaining = deadline.saturating_duration_since(Instant::now());
        let share = share_of(remaining, index + 1 < addresses.len());
        address.backoff().begin();
        fault = match timeout(share, TcpStream::connect((address.ip(), port))).await {
            Ok(Ok(stream)) => {
                address.backoff().succeed();
                // Small writes must not wait for acknowledgements. Without the option a socket
                // still works.
                let _ = stream.set_nodelay(true);
                return Ok((stream, address.ip()));
            }
            Ok(Err(error)) => ConnectFault::from(&error),
            Err(_elapsed) => ConnectFault::TimedOut,
        };
        // What this machine lacks says nothing about the address.
        if fault != ConnectFault::LocalResources {
            address.backoff().fail();
        }
    }
    Err(fault)
}

/// Connects to the Unix socket at `path`. While the server's queue of new connections is full, the
/// kernel refuses others at once, where it would let TCP connections wait; so this asks again until
/// the caller's time is over.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    const PAUSE: Duration = Duration::from_millis(5);
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE).await,
            connected => return connected,
        }
    }
}

/// How much of the `remaining` time one attempt to connect may take: half of it if another attempt
/// could follow.
pub(super) fn share_of(remaining: Duration, others_follow: bool) -> Duration {
    if others_follow { remaining / 2 } else { remaining }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream as StdUnixStream;
    use std::path::PathBuf;

    use http::HeaderValue;
    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;
    use crate::primitives::random;

    #[test]
    fn an_attempt_leaves_half_of_the_time_to_those_that_can_follow() {
        let time = Duration::from_secs(2);
        assert_eq!([share_of(time, true), share_of(time, false)], [Duration::from_secs(1), time]);
    }

    /// A dialer for a Unix socket, with a server that listens and has a queue of the shortest
    /// length.
    fn unix_dialer() -> (Dialer, std::os::unix::net::UnixListener, PathBuf) {
        let name = format!("portcullis-{}", random::hex(&random::bytes::<8>()));
        let path = std::env::temp_dir().join(name);
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let authority = HeaderValue::from_static("localhost");
        let address = ServerAddress { target: DialTarget::Unix(path.clone()), authority };
        (Dialer::new(address, Resolver::system()), socket.into(), path)
    }

    #[tokio::test(start_paused = true)]
    async fn a_unix_socket_whose_queue_is_full_is_waited_for() {
        let (dialer, server, path) = unix_dialer();
        let _queued = StdUnixStream::connect(&path).unwrap();
        let time = Duration::from_secs(2);
        let start = Instant::now();
        let refused = dialer.connect(time).await.map(drop);
        assert_eq!((refused, start.elapsed()), (Err(ConnectFault::TimedOut), time), "nothing accepts");
        let (connected, ()) = tokio::join!(dialer.connect(time), async {
            sleep(time / 2).await;
            server.accept().unwrap();
        });
        assert!(matches!(connected, Ok((UpstreamStream::Unix(_), RemoteAddress::Unix))), "{connected:?}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(dialer.connect(time).await.map(drop), Err(ConnectFault::NoSocket));
    }
}
