//! Identity headers: tell the upstream who is calling, under names that only the gateway may write.
//!
//! The upstream can trust them for two reasons. On every route, the gateway first removes each
//! header that the client sent under an owned name, in any spelling that a backend may treat as
//! that name ([`IdentityHeaders::passes_upstream`]). It then sets the values of the verified token
//! ([`IdentityHeaders::render`]) and of the verified certificate
//! ([`IdentityHeaders::render_certificate`]), encoded so that no value can break the header or read
//! as another value.
//!
//! The same token may arrive over several connections, each with another certificate or none. The
//! values from a token are cached with the token, so the two kinds of sources are separate types.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::telemetry::metrics::Metrics;
use crate::tls::client_certificate::ClientCertificate;
use crate::token::{ClaimPath, Principal, number};
use crate::upstream::headers::PeerTrust;
use crate::upstream::headers::names::{self, Class, OwnedNames};

/// The identity headers, compiled from `[identity.headers]`.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityHeaders {
    of_token: Vec<(HeaderName, TokenSource)>,
    of_certificate: Vec<(HeaderName, CertificateSource)>,
    /// The configured names other than `X-Identity-*`. The gateway owns `X-Identity-*` in any case.
    owned: OwnedNames,
    /// The identity headers of other systems that trusted proxies may send, in exactly this
    /// spelling.
    passed: Box<[HeaderName]>,
    max_value_bytes: usize,
}

/// The identity headers of one caller, or of one connection's certificate.
#[derive(Debug)]
pub struct RenderedIdentity {
    /// The headers to send.
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    /// The names of those that are omitted because their value is too long, separated by commas.
    pub omitted: Option<Box<str>>,
}

/// The source of an identity header's value.
#[derive(Clone, Debug, PartialEq)]
pub enum IdentitySource {
    /// The certificate of the connection.
    Certificate(CertificateSource),
    /// The token of the request.
    Token(TokenSource),
}

/// The part of a client's certificate that is the value of an identity header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// The names in `subjectAltName`, separated by commas.
    AlternativeNames,
    /// The subject (RFC 4514).
    Subject,
    /// The SHA-256 of the certificate in base64url.
    Thumbprint,
}

/// The part of a token that is the value of an identity header.
#[derive(Clone, Debug, PartialEq)]
pub enum TokenSource {
    /// A claim of the token, by its path.
    Claim(ClaimPath),
    /// The client that the token was issued to.
    Client,
    /// `iss`.
    Issuer,
    /// All roles, separated by commas.
    Roles,
    /// All scopes, separated by spaces.
    Scopes,
    /// The subject.
    Subject,
}

impl IdentitySource {
    /// Reads `"subject"`, `"issuer"`, `"client"`, `"scopes"`, `"roles"`, `"claim:PATH"`,
    /// `"client_cert_subject"`, `"client_cert_san"` or `"client_cert_thumbprint"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "client" => Self::Token(TokenSource::Client),
            "client_cert_san" => Self::Certificate(CertificateSource::AlternativeNames),
            "client_cert_subject" => Self::Certificate(CertificateSource::Subject),
            "client_cert_thumbprint" => Self::Certificate(CertificateSource::Thumbprint),
            "issuer" => Self::Token(TokenSource::Issuer),
            "roles" => Self::Token(TokenSource::Roles),
            "scopes" => Self::Token(TokenSource::Scopes),
            "subject" => Self::Token(TokenSource::Subject),
            _ => Self::Token(TokenSource::Claim(ClaimPath::parse(text.strip_prefix("claim:")?).ok()?)),
        })
    }
}

impl IdentityHeaders {
    /// Sends `headers` in this order, with values of at most `max_value_bytes`, and lets trusted
    /// proxies send identity headers of other systems whose names are in `passed`.
    #[must_use]
    pub fn new(headers: Vec<(HeaderName, IdentitySource)>, passed: Vec<HeaderName>, max_value_bytes: usize) -> Self {
        let names = headers.iter().map(|(name, _)| name);
        let owned = OwnedNames::new(names.filter(|name| Class::of(name) != Class::Identity).cloned());
        let (mut of_token, mut of_certificate) = (Vec::new(), Vec::new());
        for (name, source) in headers {
            match source {
                IdentitySource::Certificate(source) => of_certificate.push((name, source)),
                IdentitySource::Token(source) => of_token.push((name, source)),
            }
        }
        Self { of_token, of_certificate, owned, passed: passed.into(), max_value_bytes }
    }

    /// Whether only the gateway may write this header: `X-Identity-*` and every configured name, in
    /// any spelling that a backend may treat as one of these.
    #[must_use]
    pub fn owns(&self, name: &HeaderName) -> bool {
        Class::of(name) == Class::Identity || self.owned.contains(name)
    }

    /// Whether the gateway forwards a request header to the upstream as the peer sent it.
    #[must_use]
    pub fn passes_upstream(&self, name: &HeaderName, trust: PeerTrust) -> bool {
        (names::passes_upstream(name, trust) || self.is_passed(name, trust)) && !self.owned.contains(name)
    }

    fn is_passed(&self, name: &HeaderName, trust: PeerTrust) -> bool {
        match trust {
            PeerTrust::Trusted(_) => self.passed.contains(name),
            PeerTrust::Untrusted => false,
        }
    }

    /// Whether the gateway forwards a response header or a trailer to the client as the upstream
    /// sent it.
    #[must_use]
    pub fn passes_downstream(&self, name: &HeaderName) -> bool {
        let class = Class::of(name);
        !class.is_hop_by_hop() && class != Class::Identity && !self.owned.contains(name)
    }

    /// The identity headers of `principal`. A header is omitted if the token lacks its source, or
    /// if its value is too long. The latter is counted and logged: the upstream cannot tell it from
    /// a caller without roles.
    #[must_use]
    pub fn render(&self, principal: &Principal, metrics: &Metrics) -> RenderedIdentity {
        let values = self.of_token.iter().filter_map(|(name, source)| Some((name, source.value(principal)?)));
        self.render_values(values, |name, bytes| {
            metrics.count_omitted_identity_header();
            let (issuer, max_value_size) = (&**principal.issuer_name(), self.max_value_bytes);
            tracing::warn!(header = %name, issuer, bytes, max_value_size, "identity header omitted: its value is too long");
        })
    }

    /// The identity headers of the client that has presented `certificate`. A header is omitted as
    /// in [`render`](Self::render).
    #[must_use]
    pub fn render_certificate(&self, certificate: &ClientCertificate, metrics: &Metrics) -> RenderedIdentity {
        let values = self.of_certificate.iter().filter_map(|(name, source)| Some((name, source.value(certificate)?)));
        self.render_values(values, |name, bytes| {
            metrics.count_omitted_identity_header();
            let (client_cert, max_value_size) = (certificate.thumbprint_text(), self.max_value_bytes);
            tracing::warn!(
                header = %name, client_cert, bytes, max_value_size, "identity header omitted: its value is too long"
            );
        })
    }

    fn render_values<'a>(
        &self,
        values: impl Iterator<Item = (&'a HeaderName, String)>,
        report_omitted: impl Fn(&HeaderName, usize),
    ) -> RenderedIdentity {
        let mut rendered = Vec::with_capacity(values.size_hint().1.unwrap_or(0));
        let mut omitted = String::new();
        for (name, value) in values {
            if value.len() > self.max_value_bytes {
                report_omitted(name, value.len());
                let separator = if omitted.is_empty() { "" } else { "," };
                omitted.extend([separator, name.as_str()]);
                continue;
            }
            rendered.push((name.clone(), HeaderValue::try_from(value).expect("an encoded value is printable ASCII")));
        }
        RenderedIdentity { headers: rendered.into(), omitted: (!omitted.is_empty()).then(|| omitted.into()) }
    }
}

impl CertificateSource {
    fn value(self, certificate: &ClientCertificate) -> Option<String> {
        let text = match self {
            Self::AlternativeNames => join(certificate.alternative_names().iter().map(ToString::to_string), ",", b","),
            Self::Subject => encode(certificate.subject(), b""),
            Self::Thumbprint => certificate.thumbprint_text(),
        };
        (!text.is_empty()).then_some(text)
    }
}

impl TokenSource {
    fn value(&self, principal: &Principal) -> Option<String> {
        let text = match self {
            Self::Claim(path) => match principal.claim(path)? {
                // The upstream could take it for another number.
                inexact if number::contains_inexact(inexact) => return None,
                Value::Null => return None,
                Value::String(text) => encode(text, b""),
                Value::Array(items) => join(items.iter().map(plain), ",", b","),
                other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => encode(&other.to_string(), b""),
            },
            Self::Client => encode(principal.client_id()?, b""),
            Self::Issuer => encode(principal.issuer(), b""),
            Self::Roles => join(principal.roles().iter().map(std::string::ToString::to_string), ",", b","),
            Self::Scopes => join(principal.scopes().iter().map(std::string::ToString::to_string), " ", b" "),
            Self::Subject => encode(principal.subject(), b""),
        };
        (!text.is_empty()).then_some(text)
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Joins encoded items. A separator within an item is encoded too, so that the one role `a,admin`
/// does not read as two roles.
fn join(items: impl Iterator<Item = String>, separator: &str, separators: &[u8]) -> String {
    items.map(|item| encode(&item, separators)).collect::<Vec<_>>().join(separator)
}

/// Percent-encodes every byte that is not printable ASCII, and also `%`, the bytes in `separators`,
/// and a space at either end, which a parser would trim. Different values therefore have different
/// encodings.
fn encode(text: &str, separators: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let bytes = text.as_bytes();
    let mut encoded = String::with_capacity(bytes.len());
    for (index, &byte) in bytes.iter().enumerate() {
        let at_an_end = index == 0 || index + 1 == bytes.len();
        let plain =
            matches!(byte, b' '..=b'~') && byte != b'%' && !(byte == b' ' && at_an_end) && !separators.contains(&byte);
        if plain {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(DIGITS[usize::from(byte >> 4)]));
            encoded.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests;
