//! The body of an answer to a client: a fixed text of ours, or an upstream's stream. Carries the request's record to its end.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};

use crate::gateway::response::record::Record;
use crate::upstream::body::{ResponseBody, ResponseBodyError};
use crate::upstream::headers::retain;

/// The body of a response to a client.
///
/// `G` is a guard that the connection attaches with [`Body::guarded`]: it is dropped together with the body, after everything
/// else in it.
#[derive(Debug)]
pub struct Body<G = NoGuard> {
    content: Content,
    record: Option<Box<Record>>,
    hand_over: Option<oneshot::Sender<Box<Record>>>,
    /// The last field, because fields are dropped in this order.
    guard: G,
}

/// The guard of a body that nobody has attached one to.
#[derive(Clone, Copy, Debug)]
pub struct NoGuard;

#[derive(Debug)]
enum Content {
    Fixed(Option<Bytes>),
    Stream { body: Box<ResponseBody>, until: Option<Pin<Box<Sleep>>> },
}

/// The answer ends before its body does; the connection is broken off, so that a part is not taken for the whole.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum Broken {
    /// The client has taken nothing of it for `body_idle_timeout`.
    #[error("the client takes no bytes")]
    NotTaken,
    /// The route's `timeout` is over.
    #[error("the exchange took longer than the route allows")]
    Overdue,
    /// The upstream's fault.
    #[error(transparent)]
    Upstream(#[from] ResponseBodyError),
}

impl Body {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { content: Content::Fixed(None), record: None, hand_over: None, guard: NoGuard }
    }

    /// All of it at once.
    #[must_use]
    pub fn fixed(text: Bytes) -> Self {
        Self {
            content: Content::Fixed((!text.is_empty()).then_some(text)),
            record: None,
            hand_over: None,
            guard: NoGuard,
        }
    }

    /// An upstream's, to be finished by `until`.
    #[must_use]
    pub fn stream(body: Box<ResponseBody>, until: Option<Instant>) -> Self {
        let until = until.map(|at| Box::pin(tokio::time::sleep_until(at)));
        Self { content: Content::Stream { body, until }, record: None, hand_over: None, guard: NoGuard }
    }

    /// Attaches `guard`, which is dropped with the body.
    #[must_use]
    pub fn guarded<G>(self, guard: G) -> Body<G> {
        let Self { content, record, hand_over, guard: NoGuard } = self;
        Body { content, record, hand_over, guard }
    }

    /// Nothing behind a 101: the record goes to the tunnel, which outlives this answer.
    pub(in crate::gateway) fn before_a_tunnel(hand_over: oneshot::Sender<Box<Record>>) -> Self {
        Self { content: Content::Fixed(None), record: None, hand_over: Some(hand_over), guard: NoGuard }
    }

    pub(in crate::gateway) fn recorded(mut self, record: Box<Record>) -> Self {
        match self.hand_over.take() {
            // A tunnel that has ended already drops the record, which completes it.
            Some(tunnel) => drop(tunnel.send(record)),
            None => self.record = Some(record),
        }
        self
    }
}

impl<G> Body<G> {
    /// Whether it comes from an upstream, whose connection it holds.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.content, Content::Stream { .. })
    }
}

impl<G: Unpin> http_body::Body for Body<G> {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = &mut *self;
        let mut frame = match &mut this.content {
            Content::Fixed(text) => text.take().map(|text| Ok(Frame::data(text))),
            Content::Stream { body, until } => match Pin::new(&mut **body).poll_frame(cx) {
                Poll::Ready(frame) => frame.map(|frame| frame.map_err(Broken::Upstream)),
                Poll::Pending => match until {
                    Some(until) => {
                        ready!(until.as_mut().poll(cx));
                        Some(Err(Broken::Overdue))
                    }
                    None => return Poll::Pending,
                },
            },
        };
        if let (Some(Ok(frame)), Some(record)) = (&mut frame, &mut this.record) {
            if let Some(data) = frame.data_ref() {
                record.sent(data.remaining() as u64);
            } else if let Some(trailers) = frame.trailers_mut() {
                // The rules of a head hold for what comes behind the body as well.
                retain(trailers, |name| record.runtime().identity().passes_downstream(name));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Fixed(text) => text.is_none(),
            Content::Stream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Fixed(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Content::Stream { body, .. } => body.size_hint(),
        }
    }
}
