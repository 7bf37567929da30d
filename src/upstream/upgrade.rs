//! Protocol upgrades: a tunnel of bytes between client and upstream (RFC 9110 §7.8), such as a
//! WebSocket.
//!
//! Opened only after authorization and only after the upstream's 101. Until then no byte of the new
//! protocol is forwarded; from then on nothing is inspected.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::response::{ExchangeGuard, UpgradedConnection};
use super::tunnel_limits::TunnelPermit;
use crate::primitives::shutdown::{Phase, Shutdown};

/// How long a tunnel may stay idle. WebSocket clients ping every minute or so, so a peer that
/// is silent for a quarter of an hour is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

/// How long a tunnel may go on after one side has closed: time for the other one to send the rest.
const HALF_CLOSED_TIMEOUT: Duration = Duration::from_secs(30);

/// How much one tunnel has carried so far. Clones share the counts, so that they can be read after
/// the tunnel is dropped.
#[derive(Clone, Debug, Default)]
pub(crate) struct BytesTransferred(Rc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    up: Cell<u64>,
    down: Cell<u64>,
}

impl BytesTransferred {
    /// Bytes from the client.
    #[must_use]
    pub(crate) fn up(&self) -> u64 {
        self.0.up.get()
    }

    /// Bytes from the upstream.
    #[must_use]
    pub(crate) fn down(&self) -> u64 {
        self.0.down.get()
    }
}

/// Both ends of a tunnel that is about to open.
#[derive(Debug)]
pub(crate) struct Tunnel {
    /// The client's connection.
    pub client: OnUpgrade,
    /// The upstream's 101 response and connection.
    pub upstream: Box<UpgradedConnection>,
    /// Held until the tunnel ends.
    pub permit: TunnelPermit,
    /// How long it may last, whatever happens.
    pub max_lifetime: Duration,
    /// Until the token that authorized it expires; `None` without a token.
    pub expires_in: Option<Duration>,
}

/// Why a tunnel has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TunnelEnd {
    /// The client or the upstream has closed it.
    Closed,
    /// The token that authorized it has expired.
    Expired,
    /// No byte has passed for a long time.
    Idle,
    /// It has lasted as long as it may.
    LifetimeOver,
    /// The request that opened it would now be refused, for this reason.
    Refused(&'static str),
    /// The process has stopped.
    Stopped,
}

impl TunnelEnd {
    /// Its name in the metrics.
    #[must_use]
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Expired => "expired",
            Self::Idle => "idle",
            Self::LifetimeOver => "lifetime",
            Self::Refused(_) => "refused",
            Self::Stopped => "stopped",
        }
    }
}

impl Tunnel {
    /// Forwards bytes in both directions and counts them in `transferred`. Returns when either side
    /// closes, after 15 to 30 minutes without a byte, when its time is over, when `refused`
    /// resolves with a reason, or when the process stops.
    pub(crate) async fn relay(
        self,
        refused: impl Future<Output = &'static str>,
        mut shutdown: Shutdown,
        transferred: BytesTransferred,
    ) -> TunnelEnd {
        let Self { client, upstream, permit: _permit, max_lifetime, expires_in } = self;
        let lifetime_over = sleep(max_lifetime);
        let expired = async {
            match expires_in {
                Some(lifetime) => sleep(lifetime).await,
                None => std::future::pending().await,
            }
        };
        let UpgradedConnection { response, guard } = *upstream;
        let ExchangeGuard { lease, in_flight: _in_flight } = guard;
        let _connection_permit = lease.into_permit();
        let (Ok(client), Ok(upstream)) = (client.await, hyper::upgrade::on(response).await) else {
            return TunnelEnd::Closed;
        };
        tokio::select! {
            () = copy_both_ways(TokioIo::new(client), TokioIo::new(upstream), &transferred) => TunnelEnd::Closed,
            () = lifetime_over => TunnelEnd::LifetimeOver,
            () = expired => TunnelEnd::Expired,
            () = idle(&transferred) => TunnelEnd::Idle,
            reason = refused => TunnelEnd::Refused(reason),
            () = shutdown.reached(Phase::Stopped) => TunnelEnd::Stopped,
        }
    }
}

/// Copies bytes in both directions until both sides have closed, or until [`HALF_CLOSED_TIMEOUT`]
/// after the first one has.
async fn copy_both_ways<C, U>(client: C, upstream: U, transferred: &BytesTransferred)
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let half_closed = Notify::new();
    let mut client = TunnelStream { inner: client, read: &transferred.0.up, end: &half_closed };
    let mut upstream = TunnelStream { inner: upstream, read: &transferred.0.down, end: &half_closed };
    let half_closed_for_too_long = async {
        half_closed.notified().await;
        sleep(HALF_CLOSED_TIMEOUT).await;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut upstream) => {}
        () = half_closed_for_too_long => {}
    }
}

/// Checks once per [`IDLE_TIMEOUT`] whether a byte has passed, so an idle tunnel ends after one to
/// two timeouts: a peer that has vanished must not hold a connection forever.
async fn idle(transferred: &BytesTransferred) {
    let mut before = (transferred.up(), transferred.down());
    loop {
        tokio::time::sleep(IDLE_TIMEOUT).await;
        let now = (transferred.up(), transferred.down());
        if now == before {
            return;
        }
        before = now;
    }
}

/// One end of a tunnel. Counts what is read from it, and notices when that ends.
struct TunnelStream<'a, S> {
    inner: S,
    read: &'a Cell<u64>,
    end: &'a Notify,
}

impl<S: AsyncRead + Unpin> AsyncRead for TunnelStream<'_, S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        let count = buf.filled().len() - before;
        if count == 0 && buf.remaining() > 0 {
            self.end.notify_one();
        }
        self.read.update(|read| read + count as u64);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TunnelStream<'_, S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufStream, DuplexStream, duplex};
    use tokio::time::{Instant, timeout};

    use super::*;

    /// A tunnel that is being copied, and the outer ends of its client and its upstream.
    fn tunnel() -> (impl Future<Output = ()>, DuplexStream, DuplexStream) {
        let ((client, inner_client), (upstream, inner_upstream)) = (duplex(64), duplex(64));
        let copying = async { copy_both_ways(inner_client, inner_upstream, &BytesTransferred::default()).await };
        (copying, client, upstream)
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_passes_after_one_side_has_closed() {
        let (copying, mut client, mut upstream) = tunnel();
        let ends = async {
            client.write_all(b"the last words").await.unwrap();
            client.shutdown().await.unwrap();
            let mut received = String::new();
            upstream.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "the last words");
            upstream.write_all(b"the answer").await.unwrap();
            upstream.shutdown().await.unwrap();
            received.clear();
            client.read_to_string(&mut received).await.unwrap();
            assert_eq!(received, "the answer");
        };
        let start = Instant::now();
        tokio::join!(copying, ends);
        assert_eq!(start.elapsed(), Duration::ZERO, "closed at once after both");
    }

    /// A stream that keeps bytes until it is flushed, as TLS does.
    #[tokio::test(start_paused = true)]
    async fn each_message_is_flushed() {
        let ((mut client, inner_client), (mut upstream, inner_upstream)) = (duplex(64), duplex(64));
        let transferred = BytesTransferred::default();
        let copying = copy_both_ways(BufStream::new(inner_client), BufStream::new(inner_upstream), &transferred);
        let ends = async {
            let mut received = [0; 4];
            client.write_all(b"ping").await.unwrap();
            upstream.read_exact(&mut received).await.unwrap();
            upstream.write_all(b"pong").await.unwrap();
            client.read_exact(&mut received).await.unwrap();
            received
        };
        tokio::select! {
            () = copying => panic!("neither side has closed"),
            received = timeout(Duration::from_secs(1), ends) => assert_eq!(received.as_ref(), Ok(b"pong")),
        }
        assert_eq!((transferred.up(), transferred.down()), (4, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_is_quiet_after_a_message_stays_open() {
        let (copying, mut client, mut upstream) = tunnel();
        client.write_all(b"ping").await.unwrap();
        let mut received = [0; 4];
        let reading = async { upstream.read_exact(&mut received).await.unwrap() };
        tokio::select! {
            () = copying => panic!("neither side has closed"),
            () = async { reading.await; sleep(2 * HALF_CLOSED_TIMEOUT).await } => {}
        }
    }

    /// A read into a buffer that has bytes already, or no room, is not the end of the stream.
    #[tokio::test]
    async fn only_the_bytes_of_this_read_are_counted() {
        let (read, end) = (Cell::new(0), Notify::new());
        let mut stream = TunnelStream { inner: &b"data"[..], read: &read, end: &end };
        let mut storage = [0; 7];
        let mut buf = ReadBuf::new(&mut storage);
        buf.put_slice(b"old");
        for expected in [4, 4] {
            std::future::poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut buf)).await.unwrap();
            assert_eq!(read.get(), expected);
        }
        let mut ended = std::pin::pin!(end.notified());
        assert!(!ended.as_mut().enable(), "the buffer was full");
        std::future::poll_fn(|cx| Pin::new(&mut stream).poll_read(cx, &mut ReadBuf::new(&mut [0; 7]))).await.unwrap();
        ended.await;
    }

    /// Threat UP-6: after one to two times a quarter of an hour.
    #[tokio::test(start_paused = true)]
    async fn a_tunnel_without_a_byte_in_either_direction_is_idle() {
        const QUARTER: Duration = Duration::from_secs(15 * 60);
        type Pass = fn(&BytesTransferred);
        let cases: [(&str, Pass, u32); 3] = [
            ("nothing", |_| {}, 1),
            ("from the client", |transferred| transferred.0.up.set(1), 2),
            ("from the upstream", |transferred| transferred.0.down.set(1), 2),
        ];
        for (name, pass, quarters) in cases {
            let transferred = BytesTransferred::default();
            let start = Instant::now();
            let passing = async {
                sleep(QUARTER / 2).await;
                pass(&transferred);
            };
            tokio::join!(idle(&transferred), passing);
            assert_eq!(start.elapsed(), quarters * QUARTER, "{name}");
        }
    }

    /// Threat UP-6.
    #[tokio::test(start_paused = true)]
    async fn a_tunnel_that_only_one_side_has_closed_ends_soon() {
        for side in ["client", "upstream"] {
            let (copying, mut client, mut upstream) = tunnel();
            let closing = if side == "client" { &mut client } else { &mut upstream };
            closing.shutdown().await.unwrap();
            let start = Instant::now();
            copying.await;
            assert_eq!(start.elapsed(), HALF_CLOSED_TIMEOUT, "{side}");
            let (mut from_client, mut from_upstream) = (Vec::new(), Vec::new());
            client.read_to_end(&mut from_client).await.unwrap();
            upstream.read_to_end(&mut from_upstream).await.unwrap();
        }
    }
}
