//! What an [`Origin`](super::Origin) can do with a request besides echoing it, and the response
//! bodies for that.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::{Body, Frame};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Interval;

use super::super::with_deadline;

/// The size of the chunks of a [`Behaviour::Large`] body, in bytes.
const LARGE_PIECE_BYTES: usize = 16 * 1024;

/// Supplies a streamed body.
type Pieces = mpsc::UnboundedReceiver<io::Result<Bytes>>;

/// How the origin responds on a path. All but `EarlyResponse` and `Upgrade` first read the request
/// to its end.
#[derive(Debug)]
pub(crate) enum Behaviour {
    Response {
        status: u16,
        headers: Vec<(String, String)>,
        body: Bytes,
    },
    /// Closes the connection instead of responding.
    CloseBeforeHead,
    /// Announces `announced` bytes (`None`: chunked), sends `sent`, then closes.
    CloseMidBody {
        announced: Option<u64>,
        sent: Bytes,
    },
    /// Responds while the request's body is still being sent, and does not read it.
    EarlyResponse {
        status: u16,
    },
    /// See [`Origin::delay`](super::Origin::delay).
    Delayed(oneshot::Receiver<()>),
    /// Never responds.
    Hang,
    /// This many bytes `x`, with `Content-Length`.
    Large(u64),
    /// One chunk per interval.
    SlowBody {
        pieces: Vec<Bytes>,
        every: Duration,
    },
    /// Sends the head and these bytes, chunked, and then nothing more.
    Stall {
        sent: Bytes,
    },
    /// See [`Origin::stream`](super::Origin::stream).
    Stream(Pieces),
    /// Responds with 101 to any upgrade, then echoes every byte.
    Upgrade,
}

/// The sending end of a streamed body. Dropping it ends the body properly.
#[derive(Debug)]
pub(crate) struct Chunks(pub(super) mpsc::UnboundedSender<io::Result<Bytes>>);

impl Chunks {
    /// Sends a chunk; does nothing if the body is no longer read.
    pub(crate) fn send(&self, piece: impl Into<Bytes>) {
        let _ = self.0.send(Ok(piece.into()));
    }

    /// Ends the body properly.
    pub(crate) fn finish(self) {
        drop(self);
    }

    /// Breaks the connection in the middle of the body.
    pub(crate) fn abort(self) {
        let _ = self.0.send(Err(io::ErrorKind::ConnectionAborted.into()));
    }

    /// Waits until the body is no longer read: the gateway has aborted the response.
    pub(crate) async fn wait_for_close(&self) {
        with_deadline("the end of the streamed response", self.0.closed()).await;
    }
}

impl Behaviour {
    pub(crate) fn response(status: u16, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self::Response { status, headers, body: body.into() }
    }

    /// A copy for the next request. `None` for what can be sent only once.
    pub(super) fn copy(&self) -> Option<Self> {
        match self {
            Self::Response { status, headers, body } => {
                Some(Self::Response { status: *status, headers: headers.clone(), body: body.clone() })
            }
            Self::CloseBeforeHead => Some(Self::CloseBeforeHead),
            Self::CloseMidBody { announced, sent } => {
                Some(Self::CloseMidBody { announced: *announced, sent: sent.clone() })
            }
            Self::EarlyResponse { status } => Some(Self::EarlyResponse { status: *status }),
            Self::Hang => Some(Self::Hang),
            Self::Large(bytes) => Some(Self::Large(*bytes)),
            Self::SlowBody { pieces, every } => Some(Self::SlowBody { pieces: pieces.clone(), every: *every }),
            Self::Stall { sent } => Some(Self::Stall { sent: sent.clone() }),
            Self::Delayed(_) | Self::Stream(_) => None,
            Self::Upgrade => Some(Self::Upgrade),
        }
    }

    pub(super) fn is_early(&self) -> bool {
        matches!(self, Self::EarlyResponse { .. })
    }

    /// An error closes the connection at once, without a response.
    pub(super) async fn respond(self) -> io::Result<Response<ResponseBody>> {
        let mut headers = Vec::new();
        let mut status = 200;
        let body = match self {
            Self::Response { status: given, headers: fields, body } => {
                (status, headers) = (given, fields);
                headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-length"));
                // Responses with these statuses must not have the field (RFC 9110 §8.6).
                if status >= 200 && status != 204 && status != 304 {
                    headers.push(("content-length".into(), body.len().to_string()));
                }
                BodySource::Pieces([Ok(body)].into())
            }
            Self::CloseBeforeHead | Self::Upgrade => return Err(io::ErrorKind::ConnectionAborted.into()),
            Self::CloseMidBody { announced, sent } => {
                headers.extend(announced.map(|length| ("content-length".to_owned(), length.to_string())));
                BodySource::Pieces([Ok(sent), Err(io::ErrorKind::ConnectionAborted.into())].into())
            }
            Self::EarlyResponse { status: given } => {
                status = given;
                headers.push(("content-length".into(), "0".into()));
                BodySource::nothing()
            }
            Self::Delayed(signal) => {
                // The test may also drop its end.
                let _ = signal.await;
                headers.push(("content-length".into(), "0".into()));
                BodySource::nothing()
            }
            Self::Hang => std::future::pending().await,
            Self::Large(bytes) => {
                headers.push(("content-length".into(), bytes.to_string()));
                BodySource::Large(bytes)
            }
            Self::SlowBody { pieces, every } => BodySource::Slow(pieces.into(), tokio::time::interval(every)),
            Self::Stall { sent } => BodySource::Stall(Some(sent)),
            Self::Stream(pieces) => BodySource::Stream(pieces),
        };
        let mut response =
            Response::builder().status(StatusCode::from_u16(status).expect("a test sets a valid status"));
        for (name, value) in headers {
            response = response.header(name, value);
        }
        Ok(response.body(ResponseBody::from(body)).expect("a test sets valid fields"))
    }
}

/// The body of a response. An error in it breaks the connection.
#[derive(Debug)]
pub(super) struct ResponseBody {
    source: BodySource,
    /// Delays the error until hyper has written the data before it: on an error hyper drops what it
    /// has buffered.
    pending_error: Option<io::Error>,
}

#[derive(Debug)]
enum BodySource {
    Large(u64),
    Pieces(VecDeque<io::Result<Bytes>>),
    Slow(VecDeque<Bytes>, Interval),
    Stall(Option<Bytes>),
    Stream(Pieces),
}

impl ResponseBody {
    pub(super) fn nothing() -> Self {
        BodySource::nothing().into()
    }
}

impl From<BodySource> for ResponseBody {
    fn from(source: BodySource) -> Self {
        Self { source, pending_error: None }
    }
}

impl BodySource {
    fn nothing() -> Self {
        Self::Pieces(VecDeque::new())
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        static LARGE_PIECE: [u8; LARGE_PIECE_BYTES] = [b'x'; LARGE_PIECE_BYTES];
        Poll::Ready(match self {
            Self::Large(0) => None,
            Self::Large(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(LARGE_PIECE_BYTES);
                *left -= length as u64;
                Some(Ok(Bytes::from_static(&LARGE_PIECE[..length])))
            }
            Self::Pieces(pieces) => pieces.pop_front(),
            Self::Slow(pieces, interval) => {
                ready!(interval.poll_tick(context));
                pieces.pop_front().map(Ok)
            }
            Self::Stall(sent) => match sent.take() {
                Some(sent) => Some(Ok(sent)),
                None => return Poll::Pending,
            },
            Self::Stream(pieces) => ready!(pieces.poll_recv(context)),
        })
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(error) = self.pending_error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(self.source.poll_piece(context)) {
            Some(Ok(piece)) => Poll::Ready(Some(Ok(Frame::data(piece)))),
            Some(Err(error)) => {
                self.pending_error = Some(error);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.source, BodySource::Pieces(pieces) if pieces.is_empty()) && self.pending_error.is_none()
    }
}
