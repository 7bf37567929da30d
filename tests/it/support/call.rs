//! Both ends of a stream over HTTP/2, such as a gRPC call: the test itself sends each frame of the
//! request and of the response, and receives each where it arrives.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request, response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2 as client;
use hyper::server::conn::http2 as server;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::server::{Server, bind};
use super::{background, with_deadline};

type FrameResult = Result<Frame<Bytes>, h2::Error>;

/// A body whose frames the test sends.
struct ChannelBody(mpsc::UnboundedReceiver<FrameResult>);

impl Body for ChannelBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<FrameResult>> {
        self.0.poll_recv(cx)
    }
}

/// Sends the frames of a body. The body ends when this is dropped.
pub(crate) struct Sender(mpsc::UnboundedSender<FrameResult>);

impl Sender {
    fn new() -> (Self, ChannelBody) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), ChannelBody(receiver))
    }

    pub(crate) fn data(&self, data: &'static [u8]) {
        // If the other side has ended the stream, the test notices it where it receives.
        let _ = self.0.send(Ok(Frame::data(Bytes::from_static(data))));
    }

    /// Ends the body with trailers.
    pub(crate) fn trailers(self, fields: &[(&'static str, &'static str)]) {
        let _ = self.0.send(Ok(Frame::trailers(headers(fields))));
    }

    /// Resets the stream.
    pub(crate) fn reset(self) {
        let _ = self.0.send(Err(h2::Reason::CANCEL.into()));
    }

    /// Waits until the other side resets the stream.
    pub(crate) async fn closed(&self) {
        with_deadline("the stream's end", self.0.closed()).await;
    }
}

/// What the other side sends.
pub(crate) struct Receiver(Incoming);

/// What arrives next.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Data(Bytes),
    Trailers(Vec<(String, String)>),
    /// The end, without trailers.
    End,
    /// The stream was reset.
    Reset,
}

impl Receiver {
    /// The next frame with content: HTTP/2 may end a stream with an empty one.
    pub(crate) async fn next(&mut self) -> Received {
        loop {
            match with_deadline("a frame", self.0.frame()).await {
                None => return Received::End,
                Some(Err(_)) => return Received::Reset,
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Received::Data(data),
                    Err(frame) => return Received::Trailers(fields(frame.trailers_ref().expect("data or trailers"))),
                },
            }
        }
    }
}

/// A client's connection.
pub(crate) struct Caller(client::SendRequest<ChannelBody>, SocketAddr);

/// A request that a client is sending.
pub(crate) struct Outgoing {
    pub(crate) body: Sender,
    response: Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>,
}

impl Caller {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let connecting = background().spawn(async move {
            let stream = TcpStream::connect(addr).await.expect("the gateway listens");
            let builder = client::Builder::new(TokioExecutor::new());
            let (requests, connection) = builder.handshake(TokioIo::new(stream)).await.expect("an HTTP/2 handshake");
            background().spawn(async { drop(connection.await) });
            requests
        });
        Self(with_deadline("an HTTP/2 connection", connecting).await.expect("connecting does not panic"), addr)
    }

    /// Begins a `POST` to `path`. Its body is open.
    pub(crate) fn post(&mut self, path: &str, fields: &[(&'static str, &'static str)]) -> Outgoing {
        let (sender, body) = Sender::new();
        let mut request = Request::post(format!("http://{}{path}", self.1)).body(body).expect("a valid target");
        request.headers_mut().extend(headers(fields));
        // On a task of its own, so that the request is sent before the test waits for the response.
        let sent = background().spawn(self.0.send_request(request));
        Outgoing { body: sender, response: Box::pin(async { sent.await.expect("sending does not panic") }) }
    }
}

impl Outgoing {
    /// Waits for the head of the response.
    pub(crate) async fn response(self) -> (Sender, response::Parts, Receiver) {
        let (head, body) = with_deadline("a response", self.response).await.expect("a response").into_parts();
        (self.body, head, Receiver(body))
    }
}

/// A request that an origin has received.
pub(crate) struct Call {
    pub(crate) head: request::Parts,
    pub(crate) body: Receiver,
    response: oneshot::Sender<Response<ChannelBody>>,
}

impl Call {
    /// Sends the head of the response.
    pub(crate) fn respond(self, fields: &[(&'static str, &'static str)]) -> (Sender, Receiver) {
        let (sender, body) = Sender::new();
        let mut response = Response::new(body);
        response.headers_mut().extend(headers(fields));
        let _ = self.response.send(response);
        (sender, self.body)
    }

    /// Responds with one header block and no body.
    pub(crate) fn respond_without_body(self, fields: &[(&'static str, &'static str)]) {
        let (sender, _) = self.respond(fields);
        drop(sender);
    }

    /// Waits until the gateway no longer waits for the response.
    pub(crate) async fn cancelled(&mut self) {
        with_deadline("the cancellation", self.response.closed()).await;
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A server whose responses the test sends.
pub(crate) struct CallOrigin {
    pub(crate) addr: SocketAddr,
    calls: Mutex<mpsc::UnboundedReceiver<Call>>,
    _server: Server,
}

impl CallOrigin {
    pub(crate) async fn start() -> Self {
        let (listener, addr) = bind().await;
        let (sender, calls) = mpsc::unbounded_channel();
        let server = Server::start(listener, move |stream| {
            let sender = sender.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let (response, receiver) = oneshot::channel();
                let (head, body) = request.into_parts();
                let _ = sender.send(Call { head, body: Receiver(body), response });
                async move {
                    match receiver.await {
                        Ok(response) => Ok::<_, Infallible>(response),
                        // The test has dropped the call; it does not look at the response.
                        Err(_) => Ok(Response::new(Sender::new().1)),
                    }
                }
            });
            async move {
                let builder = server::Builder::new(BackgroundExecutor);
                // It ends with an error when the gateway closes early.
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            }
        });
        Self { addr, calls: Mutex::new(calls), _server: server }
    }

    /// Waits for the next request.
    pub(crate) async fn call(&self) -> Call {
        with_deadline("a call", async { self.calls.lock().await.recv().await }).await.expect("the origin lives")
    }
}

#[derive(Clone, Copy)]
struct BackgroundExecutor;

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for BackgroundExecutor {
    fn execute(&self, task: F) {
        background().spawn(task);
    }
}

fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
    let field = |&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
    fields.iter().map(field).collect()
}

fn fields(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect()
}
