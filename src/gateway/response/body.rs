//! The body of a response to a client: a text of the gateway, or the stream of an upstream. It owns
//! the request's record, so dropping the body completes the record.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep_until};

use super::body_error::{AbortForm, BodyError};
use super::time_limit::{TimeLimit, TimeLimitSource};
use crate::gateway::response::record::Record;
use crate::primitives::grpc;
use crate::upstream::body::ResponseBody;
use crate::upstream::headers::retain_end_to_end;

/// The body of a response to a client.
///
/// `G` is a guard that the connection attaches with [`Body::with_guard`]: it is dropped together
/// with the body, after everything else in it.
#[derive(Debug)]
pub struct Body<G = NoGuard> {
    content: Content,
    record: Option<Box<Record>>,
    /// Where the record goes instead, if the response is a 101.
    tunnel: Option<oneshot::Sender<Box<Record>>>,
    /// Whether the deadline of the client's call has ended the exchange.
    is_past_call_deadline: bool,
    /// The last field, because fields are dropped in this order.
    guard: G,
}

/// What a tunnel was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelUse {
    /// The upstream has sent something.
    Answered,
    /// The upstream has sent nothing, or the tunnel was never open.
    Unanswered,
}

/// The guard of a body that has none.
#[derive(Clone, Copy, Debug)]
pub struct NoGuard;

/// Runs until the time limit of a stream.
#[derive(Debug)]
struct LimitTimer {
    sleep: Pin<Box<Sleep>>,
    source: TimeLimitSource,
}

impl LimitTimer {
    /// The error once the limit has passed. Before, the task is woken when it does.
    fn passed(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        self.sleep.as_mut().poll(cx).is_ready().then_some(BodyError::TimeOver(self.source))
    }
}

#[derive(Debug)]
enum Content {
    Fixed(Option<Bytes>),
    /// Empty: a tunnel's bytes follow the response. The sender gets the tunnel's use when it ends;
    /// it is dropped if the tunnel never opens.
    Tunnel(oneshot::Receiver<TunnelUse>),
    Stream {
        body: Box<ResponseBody>,
        timer: Option<LimitTimer>,
        abort_form: AbortForm,
    },
}

impl Body {
    /// An empty body.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(Content::Fixed(None))
    }

    /// A body that consists of `text`.
    #[must_use]
    pub fn fixed(text: Bytes) -> Self {
        Self::of(Content::Fixed((!text.is_empty()).then_some(text)))
    }

    fn of(content: Content) -> Self {
        Self { content, record: None, tunnel: None, is_past_call_deadline: false, guard: NoGuard }
    }

    /// The body of an upstream. If it is not complete by `limit`, it ends in `abort_form`.
    #[must_use]
    pub fn stream(body: Box<ResponseBody>, limit: Option<TimeLimit>, abort_form: AbortForm) -> Self {
        let timer = limit.map(|TimeLimit { at, source }| LimitTimer { sleep: Box::pin(sleep_until(at)), source });
        Self::of(Content::Stream { body, timer, abort_form })
    }

    /// Attaches `guard`, which is dropped with the body.
    #[must_use]
    pub fn with_guard<G>(self, guard: G) -> Body<G> {
        let Self { content, record, tunnel, is_past_call_deadline, guard: NoGuard } = self;
        Body { content, record, tunnel, is_past_call_deadline, guard }
    }

    /// The empty body of a response that opens a tunnel: `record` receives the request's record,
    /// since the tunnel outlives this response. The other end of `tunnel` is used or dropped when
    /// the tunnel has ended.
    pub(in crate::gateway) fn for_tunnel(
        record: oneshot::Sender<Box<Record>>,
        tunnel: oneshot::Receiver<TunnelUse>,
    ) -> Self {
        Self { tunnel: Some(record), ..Self::of(Content::Tunnel(tunnel)) }
    }

    /// The same, of the response to a call whose deadline has ended the exchange.
    pub(super) fn past_call_deadline(self) -> Self {
        Self { is_past_call_deadline: true, ..self }
    }

    /// Attaches the request's record, or sends it to the tunnel.
    pub(in crate::gateway) fn with_record(mut self, mut record: Box<Record>) -> Self {
        if let Some(tunnel) = self.tunnel.take() {
            // If the tunnel has already ended, the record is dropped, which completes it.
            drop(tunnel.send(record));
            return self;
        }
        // hyper never polls a body that is empty, such as that of a response to `HEAD`.
        if self.content.is_end_stream() {
            record.set_complete();
        }
        self.record = Some(record);
        self
    }
}

impl Content {
    fn abort_form(&self) -> AbortForm {
        match self {
            Self::Fixed(_) | Self::Tunnel(_) => AbortForm::Abort,
            Self::Stream { abort_form, .. } => *abort_form,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Fixed(text) => text.is_none(),
            Self::Tunnel(_) => true,
            Self::Stream { body, .. } => body.is_end_stream(),
        }
    }
}

impl<G> Body<G> {
    /// Whether it is the body of an upstream, whose connection it holds.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        matches!(self.content, Content::Stream { .. })
    }

    /// Whether the deadline of the client's call has ended the exchange: like a cancellation, it is
    /// the client's doing.
    #[must_use]
    pub fn is_past_call_deadline(&self) -> bool {
        self.is_past_call_deadline
    }

    /// Whether the response opens a tunnel.
    #[must_use]
    pub fn opens_tunnel(&self) -> bool {
        matches!(self.content, Content::Tunnel(_))
    }

    /// Waits until the tunnel that the response opens has ended; does not wait for any other
    /// response.
    pub async fn tunnel_ended(&mut self) -> TunnelUse {
        match &mut self.content {
            // An error means that it was never open, or that the process stops.
            Content::Tunnel(tunnel) => tunnel.await.unwrap_or(TunnelUse::Unanswered),
            Content::Fixed(_) | Content::Stream { .. } => TunnelUse::Unanswered,
        }
    }
}

impl<G: Unpin> http_body::Body for Body<G> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut frame = match &mut this.content {
            Content::Fixed(text) => text.take().map(|text| Ok(Frame::data(text))),
            Content::Tunnel(_) => None,
            Content::Stream { body, timer, .. } => {
                // First, because a body that always has data ready would never let the limit pass.
                match timer.as_mut().and_then(|timer| timer.passed(cx)) {
                    Some(error) => Some(Err(error)),
                    None => {
                        ready!(Pin::new(&mut **body).poll_frame(cx)).map(|frame| frame.map_err(BodyError::Upstream))
                    }
                }
            }
        };
        let Some(record) = &mut this.record else { return Poll::Ready(frame) };
        match &mut frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    record.add_bytes_sent(data.remaining() as u64);
                } else if let Some(trailers) = frame.trailers_mut() {
                    // The same rules apply to trailers as to response headers.
                    retain_end_to_end(trailers, |name| record.runtime().identity().passes_downstream(name));
                    record.set_grpc_status(grpc::status_in(trailers));
                }
                // hyper does not ask for more if it knows that there is none.
                if this.content.is_end_stream() {
                    record.set_complete();
                }
            }
            Some(Err(error)) => {
                let error = *error;
                this.is_past_call_deadline = matches!(error, BodyError::TimeOver(TimeLimitSource::Call));
                record.set_broken_off(error.into());
                if this.content.abort_form() == AbortForm::GrpcTrailers {
                    record.set_grpc_status(Some(error.grpc_status().code()));
                    // Drops the upstream's body, which resets its stream.
                    this.content = Content::Fixed(None);
                    frame = Some(Ok(Frame::trailers(error.grpc_trailers())));
                }
            }
            None => record.set_complete(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Fixed(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Content::Tunnel(_) => SizeHint::with_exact(0),
            Content::Stream { body, .. } => body.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_tunnel_is_waited_for_however_long_it_lasts() {
        let (record, tunnel) = (oneshot::channel().0, oneshot::channel());
        let mut opening = Body::for_tunnel(record, tunnel.1);
        assert!(opening.opens_tunnel());
        let day = Duration::from_secs(24 * 3600);
        assert!(timeout(day, opening.tunnel_ended()).await.is_err());
        tunnel.0.send(TunnelUse::Answered).unwrap();
        assert_eq!(opening.tunnel_ended().await, TunnelUse::Answered);
    }

    #[tokio::test]
    async fn no_other_response_opens_a_tunnel() {
        let (mut other, closed) = (Body::fixed("a".into()), oneshot::channel());
        assert!(!other.opens_tunnel());
        assert_eq!(other.tunnel_ended().await, TunnelUse::Unanswered);
        drop(closed.0);
        let mut never_open = Body::for_tunnel(oneshot::channel().0, closed.1);
        assert_eq!(never_open.tunnel_ended().await, TunnelUse::Unanswered);
    }
}
