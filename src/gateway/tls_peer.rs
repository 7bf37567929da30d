//! The TLS session of a client's connection, as far as decisions and upstreams depend on it: the
//! server name (SNI) and the client's certificate.
//!
//! Header values are rendered from the certificate once per connection. Whether the certificate is
//! still accepted is checked for each request, because a connection may be older than a revocation.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls_pki_types::CertificateDer;

use super::policy::IdentityHeaders;
use super::policy::identity::RenderedIdentity;
use crate::primitives::clock::WallTime;
use crate::telemetry::metrics::Metrics;
use crate::tls::client_auth::ClientTrust;
use crate::tls::client_certificate::ClientCertificate;

/// The longest value of `Client-Cert` and of `Client-Cert-Chain`, in bytes. A certificate with an
/// RSA key of 4096 bits takes about 3,000 in base64; few servers accept a larger request head.
const MAX_FIELD_BYTES: usize = 16 * 1024;

/// The TLS session of a connection.
#[derive(Debug)]
pub struct TlsPeer {
    server_name: Option<Box<str>>,
    certificate: Option<Rc<PeerCertificate>>,
}

/// The certificate of a connection, with the header values that are rendered from it.
#[derive(Debug)]
pub(crate) struct PeerCertificate {
    certificate: ClientCertificate,
    verdict: RefCell<Verdict>,
    /// The identity headers, with the settings that they were rendered by.
    identity: RefCell<Option<(Arc<IdentityHeaders>, Rc<RenderedIdentity>)>>,
    fields: OnceCell<ClientCertFields>,
}

/// The result of the last verification of a certificate.
#[derive(Debug)]
struct Verdict {
    /// The rules that it was verified by. None: the certificate is assumed, for `explain`.
    trust: Option<Arc<ClientTrust>>,
    is_accepted: bool,
    /// The verdict holds until a revocation list expires. `None`: for as long as the rules are
    /// these.
    until: Option<WallTime>,
}

/// The fields that forward a client's certificate (RFC 9440).
#[derive(Debug)]
pub(crate) struct ClientCertFields {
    /// `Client-Cert`: the client's own certificate.
    pub(crate) own: Option<HeaderValue>,
    /// `Client-Cert-Chain`: the other certificates that the client has sent.
    pub(crate) chain: Option<HeaderValue>,
}

/// The certificate of a connection at the time of a request.
#[derive(Clone, Debug)]
pub(crate) enum PresentedCertificate {
    /// The client has presented none.
    Absent,
    /// It has expired since the handshake.
    Expired,
    /// It is accepted.
    Valid(Rc<PeerCertificate>),
    /// It was accepted in the handshake and no longer is: it is revoked, or its authority is no
    /// longer trusted.
    Withdrawn,
}

impl TlsPeer {
    /// A session whose client asked for `server_name` (SNI) and presented this certificate, which
    /// is accepted at `now` by the rules `trust`.
    #[must_use]
    pub(crate) fn new(
        server_name: Option<&str>,
        certificate: Option<ClientCertificate>,
        trust: Option<Arc<ClientTrust>>,
        now: WallTime,
    ) -> Self {
        let certificate = certificate.map(|certificate| {
            Rc::new(PeerCertificate {
                certificate,
                verdict: RefCell::new(Verdict::new(trust, true, now)),
                identity: RefCell::default(),
                fields: OnceCell::new(),
            })
        });
        Self { server_name: server_name.map(Box::from), certificate }
    }

    /// The name that the client asked for (SNI).
    #[must_use]
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether the client has presented a certificate.
    #[must_use]
    pub fn has_certificate(&self) -> bool {
        self.certificate.is_some()
    }

    /// The last second in which the certificate is known to be accepted, by the rules that it was
    /// last verified by; `None` without one.
    #[must_use]
    pub(crate) fn certificate_good_until(&self) -> Option<WallTime> {
        let presented = self.certificate.as_ref()?;
        let not_after = presented.certificate.not_after();
        Some(presented.verdict.borrow().until.map_or(not_after, |until| until.min(not_after)))
    }

    /// The certificate at `now`. It is verified again if `trust`, the rules of this moment, are not
    /// those that it was verified by, or if a revocation list has expired since. Without rules,
    /// none is accepted.
    #[must_use]
    pub(crate) fn certificate(&self, trust: Option<Arc<ClientTrust>>, now: WallTime) -> PresentedCertificate {
        let Some(presented) = &self.certificate else { return PresentedCertificate::Absent };
        if presented.certificate.has_expired(now) {
            PresentedCertificate::Expired
        } else if presented.is_accepted_by(trust, now) {
            PresentedCertificate::Valid(Rc::clone(presented))
        } else {
            PresentedCertificate::Withdrawn
        }
    }
}

impl Verdict {
    fn new(trust: Option<Arc<ClientTrust>>, is_accepted: bool, now: WallTime) -> Self {
        let until = trust.as_ref().and_then(|trust| trust.next_expiry(now));
        Self { trust, is_accepted, until }
    }
}

impl PeerCertificate {
    /// What the certificate says.
    #[must_use]
    pub(crate) fn certificate(&self) -> &ClientCertificate {
        &self.certificate
    }

    fn is_accepted_by(&self, trust: Option<Arc<ClientTrust>>, now: WallTime) -> bool {
        let mut verdict = self.verdict.borrow_mut();
        let is_same = match (&verdict.trust, &trust) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_same || verdict.until.is_some_and(|until| until <= now) {
            let is_accepted = trust.as_ref().is_some_and(|trust| trust.accepts(self.certificate.chain(), now));
            *verdict = Verdict::new(trust, is_accepted, now);
        }
        verdict.is_accepted
    }

    /// The identity headers of the certificate.
    #[must_use]
    pub(crate) fn identity(&self, settings: &Arc<IdentityHeaders>, metrics: &Metrics) -> Rc<RenderedIdentity> {
        let mut last = self.identity.borrow_mut();
        match &*last {
            Some((known, rendered)) if Arc::ptr_eq(known, settings) => Rc::clone(rendered),
            _ => {
                let rendered = Rc::new(settings.render_certificate(&self.certificate, metrics));
                *last = Some((Arc::clone(settings), Rc::clone(&rendered)));
                rendered
            }
        }
    }

    /// The fields that forward the certificate. A field that is too long is omitted, counted and
    /// logged.
    #[must_use]
    pub(crate) fn client_cert_fields(&self, metrics: &Metrics) -> &ClientCertFields {
        self.fields.get_or_init(|| {
            let (own, others) = self.certificate.chain().split_at(1);
            let field = |name, certificates| {
                let value = byte_sequences(certificates);
                if value.len() <= MAX_FIELD_BYTES {
                    return Some(value);
                }
                metrics.count_omitted_identity_header();
                let (client_cert, bytes) = (self.certificate.thumbprint_text(), value.len());
                tracing::warn!(
                    header = name,
                    client_cert,
                    bytes,
                    "client certificate field omitted: its value is too long"
                );
                None
            };
            let own = field("client-cert", own);
            let chain = own.as_ref().filter(|_| !others.is_empty()).and_then(|_| field("client-cert-chain", others));
            ClientCertFields { own, chain }
        })
    }
}

/// A list of byte sequences (RFC 8941 §3.1 and §3.3.5).
fn byte_sequences(certificates: &[CertificateDer<'static>]) -> HeaderValue {
    let items: Vec<String> = certificates.iter().map(|der| format!(":{}:", STANDARD.encode(der))).collect();
    HeaderValue::try_from(items.join(", ")).expect("base64 is printable ASCII")
}
