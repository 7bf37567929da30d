//! Dialer: opens transport connections to one server.
//!
//! The pools speak HTTP over whatever a dialer returns and know nothing about sockets.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::stream::{PlainStream, Rejection, SecureStream, UpstreamStream};
use super::tls_fault::TlsFault;
use super::{ConnectFault, DialTarget, HttpVersion, Protocol, ServerAddress};
use crate::resolver::{Host, Resolver};
use crate::tls::client::ClientTls;
use crate::tls::{ALPN_HTTP1, ALPN_HTTP2};

/// How to reach one server.
#[derive(Debug)]
pub(super) struct Dialer {
    address: ServerAddress,
    route: Route,
}

/// Where the server is.
#[derive(Debug)]
enum Route {
    Tcp { host: Host, port: u16, tls: Option<Tls> },
    Unix(Arc<Path>),
}

/// How connections to the server are secured.
#[derive(Debug)]
struct Tls {
    client: Arc<ClientTls>,
    /// The name that the server's certificate must be for.
    name: ServerName<'static>,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) stream: UpstreamStream,
    /// The protocol that it speaks.
    pub(super) version: HttpVersion,
    pub(super) destination: Destination,
    /// Whether the server has rejected the gateway's certificate after all.
    pub(super) rejection: Rejection,
}

/// Where a connection goes, and with which TLS settings. Once either has changed, the connection is
/// closed instead of used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    /// An IP address of the server's host.
    Ip {
        ip: IpAddr,
        /// See [`ClientTls::generation`]; `None` without TLS.
        tls_generation: Option<u64>,
    },
    /// The server's Unix socket.
    Unix,
}

impl Dialer {
    /// `tls` secures the connections to a server that has a name for its certificate. `ip` is the
    /// one address of the server's name that connections go to; without it, they go to all of them
    /// in turn.
    pub(super) fn new(
        address: ServerAddress,
        ip: Option<IpAddr>,
        tls: Option<&Arc<ClientTls>>,
        resolver: &Resolver,
    ) -> Self {
        let route = match &address.target {
            DialTarget::Tcp { host, port, tls_name } => {
                let tls = tls_name.clone().map(|name| Tls {
                    client: Arc::clone(tls.expect("the plan has TLS settings for every upstream with https URLs")),
                    name,
                });
                let host = resolver.host(host);
                let host = match ip {
                    Some(ip) => host.at(ip),
                    None => host,
                };
                Route::Tcp { host, port: *port, tls }
            }
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

    /// Whether a new connection could go to `destination`.
    pub(super) fn is_current(&self, destination: Destination) -> bool {
        match (&self.route, destination) {
            (Route::Tcp { host, tls, .. }, Destination::Ip { ip, tls_generation }) => {
                host.has(ip) && tls.as_ref().map(|tls| tls.client.generation()) == tls_generation
            }
            (Route::Unix(_), Destination::Unix) => true,
            (Route::Tcp { .. }, Destination::Unix) | (Route::Unix(_), Destination::Ip { .. }) => false,
        }
    }

    /// Connects to the server within `time`, the lookup of its name and the TLS handshake included.
    ///
    /// The connection speaks `protocol`. With [`Protocol::Negotiated`] the server chooses; one that
    /// chooses nothing speaks HTTP/1.1.
    ///
    /// # Errors
    ///
    /// Why it cannot connect; of several addresses, to the one that was tried last.
    pub(super) async fn connect(&self, protocol: Protocol, time: Duration) -> Result<Connected, ConnectFault> {
        match &self.route {
            Route::Tcp { host, port, tls } => connect_tcp(host, *port, tls.as_ref(), protocol, time).await,
            Route::Unix(path) => {
                let stream = timeout(time, connect_unix(path)).await.map_err(|_elapsed| ConnectFault::TimedOut)?;
                let stream = stream.map_err(|error| ConnectFault::from(&error))?;
                Ok(Connected {
                    stream: UpstreamStream::Unix(PlainStream::new(stream)),
                    version: plain_version(protocol),
                    destination: Destination::Unix,
                    rejection: Rejection::default(),
                })
            }
        }
    }
}

/// The protocol of a connection on which nothing is negotiated.
fn plain_version(protocol: Protocol) -> HttpVersion {
    match protocol {
        Protocol::Http1 | Protocol::Negotiated => HttpVersion::Http1,
        Protocol::Http2 => HttpVersion::Http2,
    }
}

/// Resolves the server's name and connects to one of its addresses, all within `time`. An address
/// that does not answer takes half of the time that is left, so that another one can still be
/// tried.
async fn connect_tcp(
    host: &Host,
    port: u16,
    tls: Option<&Tls>,
    protocol: Protocol,
    time: Duration,
) -> Result<Connected, ConnectFault> {
    let deadline = Instant::now() + time;
    let addresses = match timeout_at(deadline, host.addresses()).await {
        Ok(Ok(addresses)) => addresses.in_turn(),
        Ok(Err(_)) | Err(_) => return Err(ConnectFault::NameNotResolved),
    };
    let mut fault = ConnectFault::NameNotResolved;
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let share = share_of(deadline.saturating_duration_since(now), index + 1 < addresses.len());
        address.backoff().begin();
        fault = match connect_ip(address.ip(), port, tls, protocol, now + share).await {
            Ok(connected) => {
                address.backoff().succeed();
                return Ok(connected);
            }
            Err(fault) => fault,
        };
        // What this machine lacks says nothing about the address.
        if fault != ConnectFault::LocalResources {
            address.backoff().fail();
        }
    }
    Err(fault)
}

/// Connects to one address before `deadline`.
async fn connect_ip(
    ip: IpAddr,
    port: u16,
    tls: Option<&Tls>,
    protocol: Protocol,
    deadline: Instant,
) -> Result<Connected, ConnectFault> {
    let connecting = timeout_at(deadline, TcpStream::connect((ip, port)));
    let stream = connecting.await.map_err(|_elapsed| ConnectFault::TimedOut)?;
    let stream = stream.map_err(|error| ConnectFault::from(&error))?;
    // Small writes must not wait for acknowledgements. Without the option a socket still works.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        return Ok(Connected {
            stream: UpstreamStream::Tcp(PlainStream::new(stream)),
            version: plain_version(protocol),
            destination: Destination::Ip { ip, tls_generation: None },
            rejection: Rejection::default(),
        });
    };
    // Boxed, so that connections without TLS do not pay for the size of this future.
    let handshake = Box::pin(tls.handshake(stream, ip, protocol));
    timeout_at(deadline, handshake).await.unwrap_or(Err(TlsFault::TimedOut)).map_err(ConnectFault::Tls)
}

impl Tls {
    /// Secures the connection to `ip`, and agrees on its protocol.
    async fn handshake(&self, stream: TcpStream, ip: IpAddr, protocol: Protocol) -> Result<Connected, TlsFault> {
        let offered: &[&[u8]] = match protocol {
            Protocol::Http1 => &[ALPN_HTTP1],
            Protocol::Http2 => &[ALPN_HTTP2],
            Protocol::Negotiated => &[ALPN_HTTP2, ALPN_HTTP1],
        };
        let (config, generation) = self.client.config();
        let connector = TlsConnector::from(config);
        let connector = connector.with_alpn(offered.iter().map(|protocol| protocol.to_vec()).collect());
        let session = connector.connect(self.name.clone(), stream).await.map_err(|error| {
            let name = self.name.to_str();
            tracing::debug!(%error, name = &*name, %ip, "the TLS handshake with an upstream failed");
            TlsFault::of_handshake(&error)
        })?;
        let version = match (protocol, session.get_ref().1.alpn_protocol()) {
            (Protocol::Http2 | Protocol::Negotiated, Some(ALPN_HTTP2)) => HttpVersion::Http2,
            // A server that knows ALPN and HTTP/2 would have chosen it.
            (Protocol::Http2, _) => return Err(TlsFault::AlpnRefused),
            (Protocol::Http1 | Protocol::Negotiated, _) => HttpVersion::Http1,
        };
        let rejection = Rejection::default();
        Ok(Connected {
            stream: UpstreamStream::Tls(Box::new(SecureStream::new(session, rejection.clone()))),
            version,
            destination: Destination::Ip { ip, tls_generation: Some(generation) },
            rejection,
        })
    }
}

/// Connects to the Unix socket at `path`. While the server's queue of new connections is full, the
/// kernel refuses others at once, where it would let TCP connections wait; so this tries again
/// until the caller's time is over.
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
    use crate::primitives::test_directory::TestDirectory;

    #[test]
    fn an_attempt_leaves_half_of_the_time_to_those_that_can_follow() {
        let time = Duration::from_secs(2);
        assert_eq!([share_of(time, true), share_of(time, false)], [Duration::from_secs(1), time]);
    }

    /// A dialer for a Unix socket, with a server that listens and has a queue of the shortest
    /// length.
    fn unix_dialer(directory: &TestDirectory) -> (Dialer, std::os::unix::net::UnixListener, PathBuf) {
        let path = directory.file("socket");
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        socket.listen(0).unwrap();
        let authority = HeaderValue::from_static("localhost");
        let address = ServerAddress { target: DialTarget::Unix(path.clone()), authority };
        (Dialer::new(address, None, None, Resolver::system()), socket.into(), path)
    }

    #[tokio::test(start_paused = true)]
    async fn a_unix_socket_whose_queue_is_full_is_waited_for() {
        let directory = TestDirectory::new();
        let (dialer, server, path) = unix_dialer(&directory);
        let _queued = StdUnixStream::connect(&path).unwrap();
        let time = Duration::from_secs(2);
        let start = Instant::now();
        let refused = dialer.connect(Protocol::Http1, time).await.map(drop);
        assert_eq!((refused, start.elapsed()), (Err(ConnectFault::TimedOut), time), "nothing accepts");
        let (connected, ()) = tokio::join!(dialer.connect(Protocol::Http1, time), async {
            sleep(time / 2).await;
            server.accept().unwrap();
        });
        assert!(matches!(connected, Ok(Connected { destination: Destination::Unix, .. })), "{connected:?}");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(dialer.connect(Protocol::Http1, time).await.map(drop), Err(ConnectFault::NoSocket));
    }

    fn tcp_dialer(host: &str, port: u16, resolver: &Resolver) -> Dialer {
        let target = DialTarget::Tcp { host: host.to_owned(), port, tls_name: None };
        let address = ServerAddress { target, authority: HeaderValue::from_static("localhost") };
        Dialer::new(address, None, None, resolver)
    }

    #[tokio::test]
    async fn a_connection_is_current_while_a_new_one_would_go_to_the_same_place() {
        let directory = TestDirectory::new();
        let (unix, _server, _) = unix_dialer(&directory);
        let resolver = Resolver::with_lookup(Box::new(|_| Ok(vec![[127, 0, 0, 1].into()])));
        let tcp = tcp_dialer("one.example", 1, &resolver);
        resolver.host("one.example").addresses().await.unwrap();
        let plain = |last| Destination::Ip { ip: [127, 0, 0, last].into(), tls_generation: None };
        let secured = Destination::Ip { ip: [127, 0, 0, 1].into(), tls_generation: Some(1) };
        for (destination, of_tcp, of_unix) in [
            (plain(1), true, false),
            (plain(2), false, false),
            (secured, false, false),
            (Destination::Unix, false, true),
        ] {
            let found = (tcp.is_current(destination), unix.is_current(destination));
            assert_eq!(found, (of_tcp, of_unix), "{destination:?}");
        }
    }

    /// Whichever of the two addresses is tried first, and then the other one.
    #[tokio::test]
    async fn an_address_that_does_not_answer_takes_half_of_the_time() {
        let answers = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = answers.local_addr().unwrap().port();
        let silent = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let silent_address = std::net::SocketAddr::from(([127, 0, 0, 2], port));
        silent.bind(&silent_address.into()).unwrap();
        // It accepts nothing, and its queue has one place.
        silent.listen(0).unwrap();
        let _queued = std::net::TcpStream::connect(silent_address).unwrap();
        let resolver = Resolver::with_lookup(Box::new(|_| Ok(vec![[127, 0, 0, 1].into(), [127, 0, 0, 2].into()])));
        let dialer = tcp_dialer("two.example", port, &resolver);
        resolver.host("two.example").addresses().await.unwrap();
        tokio::time::pause();
        let (start, time) = (Instant::now(), Duration::from_secs(2));
        // Then the silent one is left alone for a while.
        for _ in 0..4 {
            let connected = dialer.connect(Protocol::Http1, time).await.unwrap();
            let ip = [127, 0, 0, 1].into();
            assert_eq!(connected.destination, Destination::Ip { ip, tls_generation: None });
        }
        assert_eq!(start.elapsed().as_secs(), 1);
    }
}
