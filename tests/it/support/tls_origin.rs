//! An upstream that speaks TLS: an echo service, and what each handshake was about.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::PrivateKeyDer;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::certificates::{Authority, Issued};
use super::echo::{self, Protocol};
use super::server::{Server, bind};

/// How the server is set up.
pub(crate) struct TlsServer {
    /// The certificates that it sends: its own, and then others.
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) key: Vec<u8>,
    pub(crate) alpn: Vec<&'static str>,
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
    /// The authority whose certificates clients must have.
    pub(crate) clients: Option<Vec<u8>>,
}

/// What the server knows of a handshake that has succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SeenHandshake {
    /// The name that the client asked for.
    pub(crate) name: Option<String>,
    pub(crate) is_resumed: bool,
    /// The client's certificate, in DER.
    pub(crate) client: Option<Vec<u8>>,
}

/// A server on a port of its own. Dropping it stops it.
pub(crate) struct TlsOrigin {
    addr: SocketAddr,
    config: Arc<Mutex<Arc<ServerConfig>>>,
    handshakes: watch::Sender<Vec<SeenHandshake>>,
    _server: Server,
}

impl TlsServer {
    /// A server with this certificate, which chooses HTTP/2 if it is offered.
    pub(crate) fn new(issued: &Issued) -> Self {
        Self {
            chain: vec![issued.certificate.der().to_vec()],
            key: issued.key.serialize_der(),
            alpn: vec!["h2", "http/1.1"],
            versions: rustls::ALL_VERSIONS.to_vec(),
            clients: None,
        }
    }

    pub(crate) fn alpn(mut self, protocols: &[&'static str]) -> Self {
        self.alpn = protocols.to_vec();
        self
    }

    pub(crate) fn version(mut self, version: &'static SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// Demands certificates of this authority.
    pub(crate) fn demanding_certificates_of(mut self, authority: &Authority) -> Self {
        self.clients = Some(authority.der());
        self
    }

    /// Sends a further certificate.
    pub(crate) fn sending(mut self, certificate: Vec<u8>) -> Self {
        self.chain.push(certificate);
        self
    }

    fn config(&self) -> ServerConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&self.versions)
            .expect("versions that rustls has");
        let builder = match self.clients.clone() {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.into()).expect("an authority");
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.expect("a verifier"))
            }
        };
        let chain = self.chain.iter().cloned().map(Into::into).collect();
        let key = PrivateKeyDer::try_from(self.key.clone()).expect("a PKCS#8 key");
        let mut config = builder.with_single_cert(chain, key).expect("a certificate with its key");
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config
    }

    /// Starts it. Its responses say that they are from `name`.
    pub(crate) async fn start(&self, name: &'static str) -> TlsOrigin {
        let (listener, addr) = bind().await;
        let config = Arc::new(Mutex::new(Arc::new(self.config())));
        let handshakes = watch::Sender::<Vec<SeenHandshake>>::default();
        let shared = (Arc::clone(&config), handshakes.clone());
        let server = Server::start(listener, move |stream| {
            let (config, handshakes) = shared.clone();
            async move {
                let config = Arc::clone(&config.lock().expect("no thread panics while it holds this lock"));
                // It fails where the test wants that.
                let Ok(session) = TlsAcceptor::from(config).accept(stream).await else { return };
                let seen = session.get_ref().1;
                let protocol = match seen.alpn_protocol() {
                    Some(b"h2") => Protocol::Http2,
                    _ => Protocol::Http1,
                };
                let seen = SeenHandshake {
                    name: seen.server_name().map(str::to_owned),
                    is_resumed: seen.handshake_kind() == Some(HandshakeKind::Resumed),
                    client: seen.peer_certificates().map(|chain| chain[0].to_vec()),
                };
                handshakes.send_modify(|all| all.push(seen));
                echo::serve(session, protocol, name.to_owned()).await;
            }
        });
        TlsOrigin { addr, config, handshakes, _server: server }
    }
}

impl TlsOrigin {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// All handshakes that have succeeded for the server.
    pub(crate) fn handshakes(&self) -> Vec<SeenHandshake> {
        self.handshakes.borrow().clone()
    }

    /// Replaces its setup, for later connections.
    pub(crate) fn reconfigure(&self, server: &TlsServer) {
        *self.config.lock().expect("no thread panics while it holds this lock") = Arc::new(server.config());
    }
}
