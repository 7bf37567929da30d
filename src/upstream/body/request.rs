//! Request body: from the client to the upstream.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::idle_timer::IdleTimer;
use super::progress::{BodyOutcome, Progress, RequestBodyFault};
use crate::primitives::min_rate::WaitAllowance;

/// The limit on a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxBody {
    /// At most so many bytes.
    Bytes(u64),
    /// Any number of bytes.
    Unlimited,
}

/// The client's body on its way to the upstream.
///
/// Trailers are dropped: neither a route's rules nor the header rules look at what follows a body.
/// gRPC does not need them here, since only its responses have trailers.
///
/// A small body may be [buffered](Self::buffer) first, so that it can be sent again.
///
/// Two words large, since a request is moved often and most have no body.
#[derive(Debug)]
pub struct RequestBody {
    /// `None` if there is no body, or once it has ended.
    source: Option<Box<Source>>,
    progress: Progress,
}

#[derive(Debug)]
enum Source {
    Buffered(Bytes),
    Client(ClientBody),
}

/// The body as it arrives from the client.
#[derive(Debug)]
struct ClientBody {
    incoming: Incoming,
    /// How many more bytes are allowed.
    allowance: MaxBody,
    idle: IdleTimer,
}

/// The request body ended early; [`Progress::outcome`] says why.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the request body is incomplete")]
pub struct RequestBodyError;

impl RequestBody {
    /// Forwards `incoming`, at most `max` bytes of it. `allowance` says how long the client may
    /// keep it waiting.
    #[must_use]
    pub(crate) fn new(incoming: Incoming, max: MaxBody, allowance: WaitAllowance) -> Self {
        if incoming.is_end_stream() {
            return Self::empty();
        }
        let source = Source::Client(ClientBody { incoming, allowance: max, idle: IdleTimer::new(allowance) });
        Self { source: Some(Box::new(source)), progress: Progress::new(BodyOutcome::InProgress) }
    }

    /// A body of these bytes, which must not be empty.
    pub(in crate::upstream) fn from_bytes(bytes: Bytes) -> Self {
        let source = Source::Buffered(bytes);
        Self { source: Some(Box::new(source)), progress: Progress::new(BodyOutcome::InProgress) }
    }

    /// Reads the body to its end, and returns one that holds all of it.
    ///
    /// # Errors
    ///
    /// Why the client did not complete it.
    pub(in crate::upstream) async fn buffer(mut self) -> Result<Self, RequestBodyFault> {
        let mut bytes = BytesMut::new();
        while let Some(frame) = self.frame().await {
            match (frame.map(Frame::into_data), self.progress.outcome()) {
                (Ok(Ok(data)), _) => bytes.extend_from_slice(&data),
                // Trailers, which are dropped.
                (Ok(Err(_)), _) => {}
                (Err(RequestBodyError), BodyOutcome::Incomplete(fault)) => return Err(fault),
                (Err(RequestBodyError), BodyOutcome::Ended(_) | BodyOutcome::InProgress | BodyOutcome::Unread) => {
                    return Err(RequestBodyFault::Broken);
                }
            }
        }
        Ok(if bytes.is_empty() { Self::empty() } else { Self::from_bytes(bytes.freeze()) })
    }

    /// The bytes of a buffered body that has not been sent yet.
    pub(in crate::upstream) fn buffered(&self) -> Option<&Bytes> {
        match self.source.as_deref()? {
            Source::Buffered(bytes) => Some(bytes),
            Source::Client(_) => None,
        }
    }

    /// No body.
    #[must_use]
    pub fn empty() -> Self {
        Self { source: None, progress: Progress::new(BodyOutcome::Ended(Instant::now())) }
    }

    /// A view of this body that stays valid after the body is dropped.
    #[must_use]
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    fn end(&mut self, outcome: BodyOutcome) {
        self.source = None;
        self.progress.end(outcome);
    }
}

impl Default for RequestBody {
    /// No body.
    fn default() -> Self {
        Self::empty()
    }
}

impl ClientBody {
    /// Deducts `length` bytes from the allowance. Returns whether they were allowed.
    fn allows(&mut self, length: u64) -> bool {
        match &mut self.allowance {
            MaxBody::Unlimited => true,
            MaxBody::Bytes(allowance) => match allowance.checked_sub(length) {
                Some(remaining) => {
                    *allowance = remaining;
                    true
                }
                None => false,
            },
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = &mut *self;
        loop {
            let source = match (this.source.as_deref_mut(), this.progress.outcome()) {
                (Some(Source::Client(client)), BodyOutcome::InProgress) => client,
                (Some(Source::Buffered(bytes)), BodyOutcome::InProgress) => {
                    let bytes = std::mem::take(bytes);
                    this.progress.add_bytes(bytes.len() as u64);
                    this.end(BodyOutcome::Ended(Instant::now()));
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                (_, BodyOutcome::Ended(_)) => return Poll::Ready(None),
                // There may still be a source if the response has cancelled the body.
                (_, BodyOutcome::Incomplete(_) | BodyOutcome::Unread | BodyOutcome::InProgress) => {
                    return Poll::Ready(Some(Err(RequestBodyError)));
                }
            };
            let frame = match Pin::new(&mut source.incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => {
                    this.progress.wait_for_client(cx.waker());
                    ready!(source.idle.poll_elapsed(cx));
                    this.end(BodyOutcome::Incomplete(RequestBodyFault::Idle));
                    continue;
                }
            };
            source.idle.arrived(data_length(frame.as_ref()));
            this.progress.client_is_ready();
            match frame {
                None => this.end(BodyOutcome::Ended(Instant::now())),
                Some(Err(error)) => {
                    let fault =
                        if is_malformed(&error) { RequestBodyFault::Broken } else { RequestBodyFault::Abandoned };
                    this.end(BodyOutcome::Incomplete(fault));
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let length = data.remaining() as u64;
                        if !source.allows(length) {
                            this.end(BodyOutcome::Incomplete(RequestBodyFault::TooLarge));
                            continue;
                        }
                        this.progress.add_bytes(length);
                        if source.incoming.is_end_stream() {
                            this.end(BodyOutcome::Ended(Instant::now()));
                        }
                        return Poll::Ready(Some(Ok(Frame::data(data))));
                    }
                    Err(_trailers) => {}
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.progress.outcome(), BodyOutcome::Ended(_))
    }

    fn size_hint(&self) -> SizeHint {
        match self.source.as_deref() {
            None => SizeHint::with_exact(0),
            Some(Source::Buffered(bytes)) => SizeHint::with_exact(bytes.len() as u64),
            Some(Source::Client(client)) => client.incoming.size_hint(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // The upstream's connection drops a body before its end if it no longer sends it.
        self.progress.end(BodyOutcome::Unread);
    }
}

/// The bytes of a frame that has arrived; none if the body has ended instead.
fn data_length(frame: Option<&Result<Frame<Bytes>, hyper::Error>>) -> u64 {
    match frame {
        Some(Ok(frame)) => frame.data_ref().map_or(0, |data| data.len() as u64),
        Some(Err(_)) | None => 0,
    }
}

/// Whether the client sent invalid chunks rather than disconnected: hyper's decoder reports them as
/// invalid input or invalid data.
fn is_malformed(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|source| matches!(source.kind(), ErrorKind::InvalidInput | ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::tests::client_body::{client_body, forwarded, unfinished_body};
    use crate::upstream::tests::raw_server::run_locally;

    #[test]
    fn only_data_counts_for_the_minimum_rate() {
        let frame = Ok(Frame::data(Bytes::from_static(b"12345")));
        assert_eq!((data_length(Some(&frame)), data_length(None)), (5, 0));
    }

    #[tokio::test]
    async fn faults_of_the_client_are_distinguished() {
        const CHUNKED: &str = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        run_locally(async {
            for (sent, expected) in [("zz\r\n", RequestBodyFault::Broken), ("5\r\nab", RequestBodyFault::Abandoned)] {
                let (incoming, client) = client_body(&format!("{CHUNKED}{sent}")).await;
                let body = forwarded(incoming);
                drop(client);
                assert_eq!(body.buffer().await.map(drop), Err(expected), "{sent}");
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_body_that_is_dropped_early_was_not_read() {
        run_locally(async {
            let (body, _client) = unfinished_body().await;
            let progress = body.progress();
            assert_eq!(progress.outcome(), BodyOutcome::InProgress);
            drop(body);
            assert_eq!(progress.outcome(), BodyOutcome::Unread);
        })
        .await;
    }
}
