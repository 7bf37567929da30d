//! ACME challenges: the answers by which an ACME server finds out that a host name leads to this
//! gateway, in a TLS handshake (tls-alpn-01, RFC 8737) or to a request without TLS (http-01, RFC
//! 8555 §8.3).
//!
//! `acme` adds an answer while an order is being validated and removes it afterwards. At all other
//! times there is none, and a client that asks for one is treated like any other.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::server::{ClientHello, NoServerSessionStorage};
use rustls::sign::{CertifiedKey, SingleCertAndKey};

use super::{ALPN_ACME, provider};

/// The answers that are ready, shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct Challenges(ArcSwap<Answers>);

#[derive(Clone, Debug, Default)]
struct Answers {
    /// By host name, in lower case.
    handshakes: HashMap<Arc<str>, Arc<ServerConfig>>,
    /// The bodies of the responses, by the token in the path.
    responses: HashMap<Arc<str>, Arc<str>>,
}

/// Removes one answer when it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Answer {
    challenges: Arc<Challenges>,
    key: AnswerKey,
}

#[derive(Debug)]
enum AnswerKey {
    Host(Arc<str>),
    Token(Arc<str>),
}

/// The certificate for an answer cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the certificate for the challenge: {0}")]
pub(crate) struct AnswerError(String);

impl Challenges {
    /// Answers tls-alpn-01 for `host`, which is in lower case, with `digest`: SHA-256 of the key
    /// authorization.
    ///
    /// # Errors
    ///
    /// [`AnswerError`].
    pub(crate) fn answer_handshakes(self: &Arc<Self>, host: &str, digest: &[u8; 32]) -> Result<Answer, AnswerError> {
        let config = Arc::new(handshake_config(host, digest)?);
        let host: Arc<str> = host.into();
        self.change(|answers| {
            answers.handshakes.insert(Arc::clone(&host), Arc::clone(&config));
        });
        Ok(Answer { challenges: Arc::clone(self), key: AnswerKey::Host(host) })
    }

    /// Answers http-01 for `token` with `key_authorization`.
    pub(crate) fn answer_requests(self: &Arc<Self>, token: &str, key_authorization: &str) -> Answer {
        let (token, body): (Arc<str>, Arc<str>) = (token.into(), key_authorization.into());
        self.change(|answers| {
            answers.responses.insert(Arc::clone(&token), Arc::clone(&body));
        });
        Answer { challenges: Arc::clone(self), key: AnswerKey::Token(token) }
    }

    /// The TLS configuration that answers the handshake that begins with `hello`; `None` if it is
    /// not a challenge, or none is expected for its host.
    pub(super) fn for_handshake(&self, hello: &ClientHello<'_>) -> Option<Arc<ServerConfig>> {
        // RFC 8737 §3: the list has exactly this one protocol.
        let mut protocols = hello.alpn()?;
        if protocols.next() != Some(ALPN_ACME) || protocols.next().is_some() {
            return None;
        }
        let host = hello.server_name()?.to_ascii_lowercase();
        self.0.load().handshakes.get(host.as_str()).cloned()
    }

    /// The body of the response to a request for `token`; `None` if none is expected.
    #[must_use]
    pub(crate) fn for_request(&self, token: &str) -> Option<Arc<str>> {
        self.0.load().responses.get(token).cloned()
    }

    fn change(&self, change: impl Fn(&mut Answers)) {
        self.0.rcu(|answers| {
            let mut answers = Answers::clone(answers);
            change(&mut answers);
            answers
        });
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.challenges.change(|answers| match &self.key {
            AnswerKey::Host(host) => drop(answers.handshakes.remove(host)),
            AnswerKey::Token(token) => drop(answers.responses.remove(token)),
        });
    }
}

/// A server that presents the certificate of RFC 8737 §3 and speaks nothing but `acme-tls/1`. It
/// asks for no client certificate, because an ACME server has none, and accepts TLS 1.2 whatever
/// `min_version` is, as the RFC does.
fn handshake_config(host: &str, digest: &[u8; 32]) -> Result<ServerConfig, AnswerError> {
    let key = challenge_key(host, digest).map_err(|error| AnswerError(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has cipher suites of both versions")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
    config.alpn_protocols = vec![ALPN_ACME.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// A self-signed certificate for `host` alone, with the critical extension `acmeIdentifier`.
fn challenge_key(host: &str, digest: &[u8; 32]) -> Result<CertifiedKey, Box<dyn std::error::Error>> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![host.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let certificate = params.self_signed(&key)?;
    let signing_key = provider().key_provider.load_private_key(key.serialize_der().try_into()?)?;
    Ok(CertifiedKey::new(vec![certificate.der().clone()], signing_key))
}

#[cfg(test)]
mod tests {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::server::Acceptor;
    use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme};
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

    use super::*;

    /// Accepts every certificate, as an ACME server does during validation.
    #[derive(Debug)]
    struct AnyCertificate;

    impl ServerCertVerifier for AnyCertificate {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            vec![SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }

    /// A client that asks for `host` and offers `alpn`.
    fn client(host: &str, alpn: &[&[u8]]) -> ClientConnection {
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate))
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        let name = ServerName::try_from(host.to_owned()).unwrap();
        ClientConnection::new(Arc::new(config), name).unwrap()
    }

    /// The server's session after the first message of `client`; `None` if that is not a challenge.
    fn answer(challenges: &Challenges, client: &mut ClientConnection) -> Option<rustls::ServerConnection> {
        let mut acceptor = Acceptor::default();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        acceptor.read_tls(&mut hello.as_slice()).unwrap();
        let accepted = acceptor.accept().unwrap().unwrap();
        let config = challenges.for_handshake(&accepted.client_hello())?;
        Some(accepted.into_connection(config).unwrap())
    }

    /// The certificate that `host` gets for its challenge.
    fn presented(challenges: &Challenges, host: &str) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let mut client = client(host, &[ALPN_ACME]);
        let mut server = answer(challenges, &mut client)?;
        while client.is_handshaking() {
            let mut bytes = Vec::new();
            server.write_tls(&mut bytes).unwrap();
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets().unwrap();
            bytes.clear();
            client.write_tls(&mut bytes).unwrap();
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets().unwrap();
        }
        let certificate = client.peer_certificates().unwrap()[0].to_vec();
        Some((certificate, client.alpn_protocol().map(<[u8]>::to_vec)))
    }

    /// RFC 8737 §3.
    #[test]
    fn the_certificate_has_the_host_and_the_digest_and_nothing_else() {
        let challenges = Arc::new(Challenges::default());
        let digest: [u8; 32] = std::array::from_fn(|index| u8::try_from(index).unwrap());
        let _answer = challenges.answer_handshakes("api.example", &digest).unwrap();
        let (der, alpn) = presented(&challenges, "API.example").unwrap();
        assert_eq!(alpn.as_deref(), Some(&b"acme-tls/1"[..]));
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::DNSName("api.example")]);
        // id-pe-acmeIdentifier
        let extensions = certificate.extensions().iter();
        let mut acme = extensions.filter(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let extension = acme.next().unwrap();
        assert!(extension.critical && acme.next().is_none());
        assert_eq!(extension.value[..2], [0x04, 32], "an OCTET STRING of 32 bytes");
        assert_eq!(extension.value[2..], digest);
    }

    #[test]
    fn only_acme_tls_alone_for_a_pending_host_is_a_challenge() {
        let challenges = Arc::new(Challenges::default());
        let pending = challenges.answer_handshakes("api.example", &[7; 32]).unwrap();
        for (name, host, alpn, expected) in [
            ("the challenge", "api.example", &[ALPN_ACME][..], true),
            ("another host", "www.example", &[ALPN_ACME], false),
            ("beside another protocol", "api.example", &[ALPN_ACME, b"h2"], false),
            ("after another protocol", "api.example", &[b"h2", ALPN_ACME], false),
            ("another protocol", "api.example", &[b"h2"], false),
            ("no protocol", "api.example", &[], false),
            ("no name", "192.0.2.1", &[ALPN_ACME], false),
        ] {
            assert_eq!(answer(&challenges, &mut client(host, alpn)).is_some(), expected, "{name}");
        }
        drop(pending);
        assert!(answer(&challenges, &mut client("api.example", &[ALPN_ACME])).is_none(), "it is over");
    }

    #[test]
    fn a_token_is_answered_until_its_validation_is_over() {
        let challenges = Arc::new(Challenges::default());
        let one = challenges.answer_requests("one", "one.thumbprint");
        let _other = challenges.answer_requests("other", "other.thumbprint");
        assert_eq!(challenges.for_request("one").as_deref(), Some("one.thumbprint"));
        drop(one);
        assert_eq!(challenges.for_request("one"), None);
        assert_eq!(challenges.for_request("other").as_deref(), Some("other.thumbprint"));
    }
}
