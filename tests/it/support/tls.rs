//! Clients that speak TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SignatureScheme};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificates::{Issued, authority};
use super::client::{Conn, H2, h2_over};
use super::with_deadline;

/// How a client connects. All fields may be changed before it does.
#[derive(Clone, Debug)]
pub(crate) struct TlsClient {
    pub(crate) name: &'static str,
    pub(crate) alpn: Vec<&'static str>,
    pub(crate) versions: Vec<&'static rustls::SupportedProtocolVersion>,
    /// The only signature schemes that it verifies; all, if there are none.
    pub(crate) schemes: Vec<SignatureScheme>,
    pub(crate) sends_name: bool,
    pub(crate) resumes: bool,
    /// The certificates that it presents, its own first, and the key.
    pub(crate) identity: Option<(Vec<Vec<u8>>, Vec<u8>)>,
}

/// An open session.
pub(crate) type Session = TlsStream<TcpStream>;

impl TlsClient {
    /// A client that asks for `name`.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            alpn: Vec::new(),
            versions: rustls::ALL_VERSIONS.to_vec(),
            schemes: Vec::new(),
            sends_name: true,
            resumes: false,
            identity: None,
        }
    }

    pub(crate) fn alpn(mut self, protocols: &[&'static str]) -> Self {
        self.alpn = protocols.to_vec();
        self
    }

    pub(crate) fn version(mut self, version: &'static rustls::SupportedProtocolVersion) -> Self {
        self.versions = vec![version];
        self
    }

    /// Remembers sessions and resumes them, over one [`connector`](Self::connector).
    pub(crate) fn resuming(mut self) -> Self {
        self.resumes = true;
        self
    }

    /// Presents this certificate.
    pub(crate) fn with_identity(mut self, issued: &Issued) -> Self {
        self.identity = Some((vec![issued.certificate.der().to_vec()], issued.key.serialize_der()));
        self
    }

    /// Presents these certificates besides its own.
    pub(crate) fn with_chain(mut self, others: &[Vec<u8>]) -> Self {
        self.identity.as_mut().expect("a certificate of its own").0.extend_from_slice(others);
        self
    }

    fn config(&self) -> ClientConfig {
        let mut provider = aws_lc_rs::default_provider();
        if !self.schemes.is_empty() {
            provider = with_schemes(provider, &self.schemes);
        }
        let mut roots = RootCertStore::empty();
        roots.add(authority().der().into()).expect("an authority");
        let config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&self.versions)
            .expect("versions that rustls has")
            .with_root_certificates(roots);
        let mut config = match self.identity.clone() {
            Some((chain, key)) => config
                .with_client_auth_cert(
                    chain.into_iter().map(Into::into).collect(),
                    key.try_into().expect("a PKCS#8 key"),
                )
                .expect("a certificate with its key"),
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        config.enable_sni = self.sends_name;
        config.resumption = if self.resumes { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
        config
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// The handshake fails.
    pub(crate) async fn try_connect(&self, addr: SocketAddr) -> std::io::Result<Session> {
        self.try_connect_with(&self.connector(), addr).await
    }

    /// Where the sessions are that later connections resume.
    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::new(self.config()))
    }

    /// Connects with a connector of this client.
    ///
    /// # Errors
    ///
    /// The handshake fails.
    pub(crate) async fn try_connect_with(
        &self,
        connector: &TlsConnector,
        addr: SocketAddr,
    ) -> std::io::Result<Session> {
        let name = ServerName::try_from(self.name).expect("a name");
        with_deadline("a TLS handshake", async {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            connector.connect(name, stream).await
        })
        .await
    }

    pub(crate) async fn connect(&self, addr: SocketAddr) -> Session {
        self.try_connect(addr).await.unwrap_or_else(|error| panic!("TLS to {addr}: {error}"))
    }

    /// An HTTP/1.1 connection.
    pub(crate) async fn open(&self, addr: SocketAddr) -> Conn {
        let session = self.connect(addr).await;
        let local_addr = session.get_ref().0.local_addr().expect("a connected socket has an address");
        Conn::over(session, local_addr, addr)
    }

    /// An HTTP/2 connection.
    pub(crate) async fn open_h2(&self, addr: SocketAddr) -> H2 {
        h2_over(self.clone().alpn(&["h2"]).connect(addr).await, addr).await
    }
}

/// What the handshake has agreed on.
pub(crate) fn agreed(session: &Session) -> &ClientConnection {
    session.get_ref().1
}

/// The certificate that the server has presented, in DER.
pub(crate) fn presented(session: &Session) -> &[u8] {
    &agreed(session).peer_certificates().expect("a server presents a certificate")[0]
}

fn with_schemes(provider: CryptoProvider, schemes: &[SignatureScheme]) -> CryptoProvider {
    let mut mapping: Vec<(SignatureScheme, &'static [_])> = Vec::new();
    for (scheme, algorithms) in provider.signature_verification_algorithms.mapping {
        if schemes.contains(scheme) {
            mapping.push((*scheme, *algorithms));
        }
    }
    let algorithms = rustls::crypto::WebPkiSupportedAlgorithms {
        all: provider.signature_verification_algorithms.all,
        mapping: Vec::leak(mapping),
    };
    CryptoProvider { signature_verification_algorithms: algorithms, ..provider }
}
