//! The TLS handshake with a client, and why it fails.
//!
//! A handshake costs as much processor time as dozens of requests. Each worker therefore computes
//! one at a time and serves its other connections in between: see [`Handshakes`]. The limits on
//! connections bound how many are in progress, and `header_timeout` bounds how long one takes.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use rustls::server::{Accepted, AcceptedAlert, Acceptor, ClientHello};
use rustls::{CertificateError, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Semaphore;
use tokio_rustls::server::{StartHandshake, TlsStream};

use super::socket::ClientSocket;
use crate::telemetry::metrics::HandshakeFailure;
use crate::tls::server::HandshakeSettings;

/// The handshakes of one worker.
#[derive(Debug)]
pub(super) struct Handshakes {
    /// Held while the worker computes its part of a handshake, in the order of arrival.
    turn: Semaphore,
}

/// A handshake that has failed.
#[derive(Debug)]
pub(super) struct FailedHandshake {
    /// For the metrics.
    pub(super) reason: HandshakeFailure,
    /// For the log: a text of rustls or of the operating system.
    pub(super) cause: String,
    /// The connection, if the client was sent an alert or a response that it can still read.
    pub(super) socket: Option<ClientSocket>,
}

/// The response to a request that was sent without TLS.
const PLAIN_HTTP_RESPONSE: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 52\r\n\
    Cache-Control: no-store\r\n\
    Connection: close\r\n\
    \r\n\
    This port serves HTTPS. Use a URL with https:// ...\n";

/// Bytes of one read. Holds a usual `ClientHello`: with a post-quantum key share it has 1.8 KiB.
const READ_BYTES: usize = 4 * 1024;

impl Handshakes {
    /// No handshake is in progress.
    pub(super) fn new() -> Self {
        Self { turn: Semaphore::new(1) }
    }

    /// Accepts a TLS session with the settings that `choose` returns for the client's first
    /// message.
    ///
    /// # Errors
    ///
    /// [`FailedHandshake`]. The client has then been sent an alert, if there is one for the reason,
    /// or a response if it speaks HTTP without TLS. It may still be sending.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(super) async fn accept(
        &self,
        mut socket: ClientSocket,
        choose: impl FnOnce(&ClientHello<'_>) -> HandshakeSettings,
    ) -> Result<TlsStream<ClientSocket>, FailedHandshake> {
        let accepted = match read_client_hello(&mut socket).await {
            Ok(accepted) => accepted,
            Err(ClientHelloError::Io(error)) => return Err(FailedHandshake::from(error)),
            Err(ClientHelloError::PlainHttp) => {
                let _ = socket.write_all(PLAIN_HTTP_RESPONSE).await;
                let cause = "the client speaks HTTP without TLS".to_owned();
                return Err(FailedHandshake { reason: HandshakeFailure::PlainHttp, cause, socket: Some(socket) });
            }
            Err(ClientHelloError::Tls(error, mut alert)) => {
                let mut bytes = Vec::new();
                // Writing to a Vec does not fail.
                let _ = alert.write_all(&mut bytes);
                let _ = socket.write_all(&bytes).await;
                return Err(FailedHandshake { socket: Some(socket), ..FailedHandshake::from(error) });
            }
        };
        let HandshakeSettings { config, has_certificate } = choose(&accepted.client_hello());
        self.complete(StartHandshake::from_parts(accepted, socket), config).await.map_err(|(error, socket)| {
            let mut failed = FailedHandshake::from(error);
            // Otherwise the client does not read.
            failed.socket = (failed.reason != HandshakeFailure::Closed).then_some(socket);
            if has_certificate {
                return failed;
            }
            let cause = "there is no certificate for this name yet".to_owned();
            FailedHandshake { reason: HandshakeFailure::NoCertificate, cause, ..failed }
        })
    }

    /// Does the expensive part, the key exchange and the signature, in turn with the other
    /// handshakes of the worker. Out of turn are only the client's part of the key exchange in TLS
    /// 1.2, its certificate, and what follows a second `ClientHello`; clients send one if they have
    /// guessed a key exchange that the gateway does not have.
    async fn complete(
        &self,
        start: StartHandshake<ClientSocket>,
        config: Arc<ServerConfig>,
    ) -> Result<TlsStream<ClientSocket>, (io::Error, ClientSocket)> {
        let turn = self.turn.acquire().await.expect("the semaphore is never closed");
        // This call computes, and the first poll sends the result.
        let mut handshake = start.into_stream(config).into_fallible();
        let first = poll_fn(|cx| Poll::Ready(Pin::new(&mut handshake).poll(cx))).await;
        // The runtime polls all sockets and serves other connections before the next handshake.
        tokio::task::yield_now().await;
        drop(turn);
        match first {
            Poll::Ready(completed) => completed,
            Poll::Pending => handshake.await,
        }
    }
}

/// Why there is no `ClientHello`.
enum ClientHelloError {
    Io(io::Error),
    PlainHttp,
    Tls(rustls::Error, AcceptedAlert),
}

async fn read_client_hello(socket: &mut ClientSocket) -> Result<Accepted, ClientHelloError> {
    let mut acceptor = Acceptor::default();
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let mut is_first = true;
    loop {
        buffer.clear();
        if socket.read_buf(&mut buffer).await.map_err(ClientHelloError::Io)? == 0 {
            return Err(ClientHelloError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        // The method of a request; no record of TLS begins like this.
        if is_first && buffer[0].is_ascii_uppercase() {
            return Err(ClientHelloError::PlainHttp);
        }
        is_first = false;
        let mut unread = buffer.as_slice();
        while !unread.is_empty() {
            acceptor.read_tls(&mut unread).map_err(ClientHelloError::Io)?;
            match acceptor.accept() {
                // Nothing follows a `ClientHello` until the server has responded: early data is
                // not accepted. What a client sends nevertheless stays in the acceptor.
                Ok(Some(accepted)) => return Ok(accepted),
                Ok(None) => {}
                Err((error, alert)) => return Err(ClientHelloError::Tls(error, alert)),
            }
        }
    }
}

impl From<io::Error> for FailedHandshake {
    fn from(error: io::Error) -> Self {
        match error.downcast::<rustls::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self { reason: HandshakeFailure::Closed, cause: error.to_string(), socket: None },
        }
    }
}

impl From<rustls::Error> for FailedHandshake {
    fn from(error: rustls::Error) -> Self {
        use rustls::{Error, PeerIncompatible};
        let reason = match &error {
            Error::NoApplicationProtocol => HandshakeFailure::ApplicationProtocol,
            Error::AlertReceived(_) => HandshakeFailure::Alert,
            Error::NoCertificatesPresented => HandshakeFailure::ClientCertificateMissing,
            Error::InvalidCertificate(error) => of_client_certificate(error),
            // The list is not signed by the authority that it is said to be of.
            Error::InvalidCertRevocationList(_) => HandshakeFailure::ClientCertificateRevocationUnknown,
            Error::PeerIncompatible(
                PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled,
            ) => HandshakeFailure::Version,
            // The text is rustls': the client can verify none of the certificates for its name.
            Error::PeerIncompatible(_) | Error::General(_) => HandshakeFailure::Parameters,
            _ => HandshakeFailure::Malformed,
        };
        Self { reason, cause: error.to_string(), socket: None }
    }
}

fn of_client_certificate(error: &CertificateError) -> HandshakeFailure {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => HandshakeFailure::ClientCertificateExpired,
        CertificateError::Revoked => HandshakeFailure::ClientCertificateRevoked,
        CertificateError::UnknownIssuer => HandshakeFailure::ClientCertificateUntrusted,
        CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. }
        | CertificateError::UnknownRevocationStatus => HandshakeFailure::ClientCertificateRevocationUnknown,
        // A type of rustls, which may grow: a bad signature or a purpose other than `clientAuth`.
        _ => HandshakeFailure::ClientCertificateInvalid,
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use rustls::server::ResolvesServerCert;
    use rustls::sign::CertifiedKey;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::LocalSet;

    use super::*;
    use crate::tls::provider;
    use crate::tls::test_support::TestAuthority;

    #[test]
    fn the_length_of_the_response_is_right() {
        let response = std::str::from_utf8(PLAIN_HTTP_RESPONSE).unwrap();
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{}", body.len());
    }

    /// Records how often the event loop has turned when each handshake was computed.
    #[derive(Debug)]
    struct Recorder {
        key: Arc<CertifiedKey>,
        turns: Arc<AtomicUsize>,
        computed_at: Mutex<Vec<usize>>,
    }

    impl ResolvesServerCert for Recorder {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            self.computed_at.lock().unwrap().push(self.turns.load(Relaxed));
            Some(Arc::clone(&self.key))
        }
    }

    /// A connection on which a `ClientHello` has arrived.
    async fn with_client_hello(listener: &TcpListener) -> (TcpStream, ClientSocket) {
        let config = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), "a.test".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        stream.write_all(&hello).await.unwrap();
        let socket = ClientSocket::tcp(listener.accept().await.unwrap().0);
        socket.readable().await.unwrap();
        (stream, socket)
    }

    #[tokio::test]
    async fn other_tasks_run_between_two_handshakes() {
        const CLIENTS: usize = 4;
        let issued = TestAuthority::new().issue(&["a.test"]);
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&issued.key.serialize_der().try_into().unwrap());
        let recorder = Arc::new(Recorder {
            key: Arc::new(CertifiedKey::new(vec![issued.certificate.der().clone()], key.unwrap())),
            turns: Arc::default(),
            computed_at: Mutex::default(),
        });
        let config = ServerConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&recorder) as Arc<dyn ResolvesServerCert>);
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(with_client_hello(&listener).await);
        }
        let (handshakes, local) = (Rc::new(Handshakes::new()), LocalSet::new());
        let mut streams = Vec::new();
        for (stream, socket) in clients {
            streams.push(stream);
            let (handshakes, config) = (Rc::clone(&handshakes), Arc::clone(&config));
            let choose = |_: &ClientHello<'_>| HandshakeSettings { config, has_certificate: true };
            local.spawn_local(async move { handshakes.accept(socket, choose).await.map(drop) });
        }
        let computed = || recorder.computed_at.lock().unwrap().clone();
        let others = async {
            while computed().len() < CLIENTS {
                recorder.turns.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        };
        local.run_until(others).await;
        let computed_at = computed();
        assert!(computed_at.windows(2).all(|pair| pair[0] < pair[1]), "{computed_at:?}");
    }
}
