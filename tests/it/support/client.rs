//! Clients: HTTP/1.1 as raw bytes, and HTTP/2, over TCP or over any other stream. Every wait panics
//! after [`MAX_WAIT`](super::MAX_WAIT).

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::wire::{self, Body, Framing, Head};
use super::{background, with_deadline};

/// A complete response.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// In the order and, for HTTP/1.1, the spelling received.
    pub(crate) headers: Vec<(String, String)>,
    /// Without framing.
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The first field of that name, in any case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        wire::find(&self.headers, name)
    }

    pub(crate) fn headers_named(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// # Panics
    ///
    /// If the body is not JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {} {:?}", self.status, self.text()))
    }
}

/// Sends `bytes` unchanged and returns everything received until the connection is closed or reset.
///
/// Reads while it writes, so that it sees an early response to a request that never ends.
pub(crate) async fn raw(addr: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let (mut reader, mut writer) = tokio::io::split(Conn::open(addr).await.stream);
    let writing = async {
        // The gateway may close without reading everything; what it sent before that is the result.
        let _ = writer.write_all(bytes.as_ref()).await;
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut received = Vec::new();
        let _ = reader.read_to_end(&mut received).await;
        received
    };
    let received = with_deadline("the end of the connection", async {
        tokio::select! { received = reading => received, () = writing => Vec::new() }
    })
    .await;
    String::from_utf8_lossy(&received).into_owned()
}

/// `GET` on a connection of its own.
pub(crate) async fn get(addr: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Response {
    request(addr, "GET", target, headers, b"").await
}

/// One request on a connection of its own. `Host` is `addr` unless `headers` sets it; a body is
/// sent with `Content-Length`.
pub(crate) async fn request(
    addr: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut conn = Conn::open(addr).await;
    let headers: Vec<_> = headers.iter().copied().chain([("Connection", "close")]).collect();
    conn.request(method, target, &headers, body).await
}

/// What a connection runs on.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Debug + Send + Unpin> ByteStream for S {}

/// An HTTP/1.1 connection that is kept open.
#[derive(Debug)]
pub(crate) struct Conn {
    stream: Box<dyn ByteStream>,
    /// Received and not yet returned to the test.
    buffer: Vec<u8>,
    addr: SocketAddr,
    local_addr: SocketAddr,
}

impl Conn {
    pub(crate) async fn open(addr: SocketAddr) -> Self {
        Self::of(TcpStream::connect(addr), addr).await
    }

    /// Like [`open`](Self::open), as the client `127.0.0.HOST`. All of 127.0.0.0/8 is loopback.
    pub(crate) async fn open_as(host: u8, addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(([127, 0, 0, host], 0).into()).expect("a free port");
        Self::of(socket.connect(addr), addr).await
    }

    async fn of(connecting: impl Future<Output = io::Result<TcpStream>>, addr: SocketAddr) -> Self {
        let stream = with_deadline("a connection", connecting).await;
        let stream = stream.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
        stream.set_nodelay(true).expect("a connected socket takes options");
        let local_addr = stream.local_addr().expect("a connected socket has an address");
        Self { stream: Box::new(stream), buffer: Vec::new(), addr, local_addr }
    }

    /// A connection from `local_addr` to `addr` over a stream that is open already.
    pub(crate) fn over(stream: impl ByteStream + 'static, local_addr: SocketAddr, addr: SocketAddr) -> Self {
        Self { stream: Box::new(stream), buffer: Vec::new(), addr, local_addr }
    }

    /// The client's address, as the gateway sees it.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.expect("the other side accepts the bytes");
    }

    /// Like [`send`](Self::send), for when the other side may have closed.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        with_deadline("room to send", self.stream.write_all(bytes.as_ref())).await
    }

    /// Closes the sending direction only.
    pub(crate) async fn finish_sending(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Sends a whole request and reads its response.
    pub(crate) async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Response {
        let has_host = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
        let host = (!has_host).then(|| ("Host", self.addr.to_string()));
        let length = (!body.is_empty()).then(|| ("Content-Length", body.len().to_string()));
        let given = headers.iter().map(|(name, value)| (*name, (*value).to_owned()));
        let fields = host.into_iter().chain(given).chain(length).map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("{method} {target} HTTP/1.1\r\n{}\r\n", fields.collect::<String>());
        let message = [head.as_bytes(), body].concat();
        // The gateway may refuse before it reads the body. If there is no response either, reading
        // it fails.
        let _ = self.try_send(message).await;
        if method == "HEAD" { self.read_head().await } else { self.read_response().await }
    }

    /// The next response with its body. An interim response (1xx) counts as one: a client that
    /// sends `Expect` reads twice.
    pub(crate) async fn read_response(&mut self) -> Response {
        let mut response = self.read_head().await;
        let framing = Head { first_line: String::new(), headers: response.headers.clone(), length: 0 };
        let bodiless = response.status < 200 || matches!(response.status, 204 | 304);
        let framing = if bodiless { Framing::Length(0) } else { framing.framing(Framing::UntilClose) };
        response.body = self
            .take("a body", |bytes, closed| Body::parse(framing, bytes, closed).map(|b| (b.content, b.length)))
            .await;
        response
    }

    /// The head of the next response only: for `HEAD`, or to read the body in parts.
    pub(crate) async fn read_head(&mut self) -> Response {
        let head = self.take("a head", |bytes, _| Head::parse(bytes).map(|head| (head.clone(), head.length))).await;
        let status = head.first_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {:?}", head.first_line));
        Response { status, headers: head.headers, body: Vec::new() }
    }

    /// Exactly `length` bytes, unparsed: after an upgrade, or from a body that is still being sent.
    pub(crate) async fn read_bytes(&mut self, length: usize) -> Vec<u8> {
        self.take("bytes", |bytes, _| bytes.get(..length).map(|found| (found.to_vec(), length))).await
    }

    /// Everything up to and including `mark`.
    pub(crate) async fn read_until(&mut self, mark: &str) -> String {
        let found = |bytes: &[u8]| bytes.windows(mark.len()).position(|part| part == mark.as_bytes());
        self.take(mark, |bytes, _| {
            found(bytes).map(|at| at + mark.len()).map(|end| (String::from_utf8_lossy(&bytes[..end]).into_owned(), end))
        })
        .await
    }

    /// Waits until the other side closes or resets the connection; returns what it sent before
    /// that.
    pub(crate) async fn read_to_close(&mut self) -> Vec<u8> {
        self.take("the end of the connection", |bytes, closed| closed.then(|| (bytes.to_vec(), bytes.len()))).await
    }

    /// Everything up to the end of the connection.
    ///
    /// # Errors
    ///
    /// If the other side resets the connection instead of closing it.
    pub(crate) async fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut received = std::mem::take(&mut self.buffer);
        with_deadline("the end of the connection", self.stream.read_to_end(&mut received)).await?;
        Ok(received)
    }

    /// Reads a few bytes at a time, which is slower than anything sends, until the other side
    /// closes or resets the connection.
    pub(crate) async fn read_slowly_to_close(&mut self) {
        let mut few = [0; 16];
        with_deadline("the end of the connection", async {
            while matches!(self.stream.read(&mut few).await, Ok(1..)) {}
        })
        .await;
    }

    /// Reads until `parse` finds a value in the received bytes, and removes the bytes it consumed.
    async fn take<T>(&mut self, what: &str, parse: impl Fn(&[u8], bool) -> Option<(T, usize)>) -> T {
        with_deadline(what, async {
            let mut closed = false;
            loop {
                if let Some((found, length)) = parse(&self.buffer, closed) {
                    self.buffer.drain(..length);
                    return found;
                }
                assert!(!closed, "{what}: closed after {:?}", String::from_utf8_lossy(&self.buffer));
                closed = !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..));
            }
        })
        .await
    }
}

/// An HTTP/2 connection with prior knowledge (RFC 9113 §3.3), or after TLS. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct H2 {
    requests: http2::SendRequest<Full<Bytes>>,
    addr: SocketAddr,
}

pub(crate) async fn h2(addr: SocketAddr) -> H2 {
    let stream = TcpStream::connect(addr).await.unwrap_or_else(|error| panic!("connecting to {addr}: {error}"));
    h2_over(stream, addr).await
}

/// Like [`h2`], over a stream that is open already.
pub(crate) async fn h2_over(stream: impl ByteStream + 'static, addr: SocketAddr) -> H2 {
    let connecting = background().spawn(async move {
        let builder = http2::Builder::new(TokioExecutor::new());
        let (requests, connection) = builder.handshake(TokioIo::new(stream)).await.expect("an HTTP/2 handshake");
        // An error of the connection also fails the request that waits for a response.
        background().spawn(async { drop(connection.await) });
        requests
    });
    H2 { requests: with_deadline("an HTTP/2 connection", connecting).await.expect("connecting does not panic"), addr }
}

impl H2 {
    pub(crate) async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.request("GET", target, headers, b"").await
    }

    pub(crate) async fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        self.try_request(method, target, headers, body).await.expect("a response")
    }

    /// Like [`request`](Self::request), for when the stream or the connection may be reset.
    /// `:authority` is the gateway's address unless `target` has one.
    pub(crate) async fn try_request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> hyper::Result<Response> {
        let uri = if target.starts_with('/') { format!("http://{}{target}", self.addr) } else { target.to_owned() };
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).expect("a valid request");
        let mut requests = self.requests.clone();
        with_deadline("a response", async {
            requests.ready().await?;
            let (head, body) = requests.send_request(request).await?.into_parts();
            let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            Ok(Response {
                status: head.status.as_u16(),
                headers: head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
                body: body.collect().await?.to_bytes().to_vec(),
            })
        })
        .await
    }
}
