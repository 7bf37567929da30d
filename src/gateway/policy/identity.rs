//! Identity headers: tell the upstream who is calling, under names that only the gateway may write.
//!
//! The upstream can trust them for two reasons. On every route, the gateway first removes each
//! header that the client sent under an owned name, in any spelling that a backend may treat as
//! that name ([`IdentityHeaders::passes_upstream`]). It then sets the values of the verified token
//! ([`IdentityHeaders::render`]) and of the verified certificate
//! ([`IdentityHeaders::render_certificate`]), encoded so that no value can break the header or read
//! as another value.
//!
//! A token may come over several connections, each with another certificate or none. What is
//! rendered of a token is cached with it, so the two kinds of sources have types of their own.

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

/// The identity headers of one caller, or of the certificate of one connection.
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

/// What of a client's certificate is the value of an identity header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// The names in `subjectAltName`, separated by commas.
    AlternativeNames,
    /// The subject (RFC 4514).
    Subject,
    /// The SHA-256 of the certificate in base64url.
    Thumbprint,
}

/// What of a token is the value of an identity header.
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
mod tests {
    use rcgen::{DnType, SanType};
    use serde_json::json;

    use super::*;
    use crate::primitives::clock::ManualClock;
    use crate::tls::test_support::TestAuthority;
    use crate::token::Issuers;
    use crate::token::test_support::{NOW, P256, claims_with, idle_settings, verifier};
    use crate::upstream::headers::ForwardingFamily;

    fn headers() -> IdentityHeaders {
        let headers = ["x-identity-subject", "x-user", "x-forwarded-user"]
            .map(|name| (HeaderName::from_static(name), IdentitySource::Token(TokenSource::Subject)));
        IdentityHeaders::new(headers.into(), vec![HeaderName::from_static("remote-user")], 4096)
    }

    /// Identity headers of other systems: from trusted proxies, and only those that are listed.
    /// What the gateway itself writes passes from no peer.
    #[test]
    fn foreign_identity_passes_from_trusted_proxies_if_it_is_listed() {
        let trusted = PeerTrust::Trusted(ForwardingFamily::XForwarded);
        for (name, from_trusted) in [
            ("remote-user", true),
            ("remote_user", false),
            ("remote-groups", false),
            ("x-forwarded-user", false),
            ("x-user", false),
            ("ssl-client-verify", true),
        ] {
            let passes = [trusted, PeerTrust::Untrusted]
                .map(|trust| headers().passes_upstream(&HeaderName::from_static(name), trust));
            assert_eq!(passes, [from_trusted, false], "{name}");
        }
    }

    /// CVE-2025-64484 and similar: a backend that folds names treats an alias as the real header.
    #[test]
    fn only_the_gateway_writes_owned_names() {
        for (name, owned) in [
            ("x-identity-subject", true),
            ("X-IDENTITY-SUBJECT", true),
            ("x_identity_subject", true),
            ("x.identity-subject", true),
            ("X-Identity-Not-Configured", true),
            ("x-identity-", true),
            ("x_user", true),
            ("x-user", true),
            ("x-users", false),
            ("x-identity", false),
            ("xidentitysubject", false),
            ("xauthsubject", false),
            ("cookie", false),
        ] {
            assert_eq!(headers().owns(&HeaderName::try_from(name).unwrap()), owned, "{name}");
        }
    }

    /// Hop-by-hop and owned headers are removed from responses in every spelling; the others pass.
    #[test]
    fn a_response_has_neither_hop_by_hop_nor_owned_headers() {
        for (name, passes) in [
            ("content-type", true),
            ("content-length", true),
            ("x_custom", true),
            ("x-forwarded-for", true),
            ("www-authenticate", true),
            ("transfer-encoding", false),
            ("transfer_encoding", false),
            ("proxy-authenticate", false),
            ("x-identity-roles", false),
            ("x_user", false),
        ] {
            assert_eq!(headers().passes_downstream(&HeaderName::try_from(name).unwrap()), passes, "{name}");
        }
    }

    #[test]
    fn an_encoded_value_can_neither_break_a_header_nor_pass_for_another() {
        for (name, value, also, expected) in [
            ("plain text stays", "alice smith", &b""[..], "alice smith"),
            ("UTF-8", "Zoë", b"", "Zo%C3%AB"),
            ("a percent sign", "100%41", b"", "100%2541"),
            ("line breaks", "a\r\nX-Identity-Scopes: admin", b"", "a%0D%0AX-Identity-Scopes: admin"),
            ("spaces at the ends", " root ", b"", "%20root%20"),
            ("a separator within an item", "a,admin", b",", "a%2Cadmin"),
            ("a tab and DEL", "a\t\u{7f}", b"", "a%09%7F"),
        ] {
            assert_eq!(encode(value, also), expected, "{name}");
        }
    }

    /// A claim's items that are not texts are written as JSON.
    #[test]
    fn a_header_has_the_text_of_any_kind_of_claim() {
        let verifier = verifier(idle_settings(), &ManualClock::at(NOW).clock(), &[P256.jwk("k")]);
        let issuers = Issuers::new(vec![verifier]);
        for (claim, expected) in [
            (json!("a,b"), Some("a,b")),
            (json!(["a,b", 7, true, { "x": "y" }]), Some("a%2Cb,7,true,{\"x\":\"y\"}")),
            (json!([]), None),
            (json!(""), None),
            (json!(false), Some("false")),
            (json!({ "x": [1] }), Some("{\"x\":[1]}")),
            (json!([0.1, 1e300]), None),
        ] {
            let principal = issuers.check_claims(claims_with(&json!({ "x": claim }))).unwrap();
            let source = TokenSource::Claim(ClaimPath::parse("x").unwrap());
            assert_eq!(source.value(&principal).as_deref(), expected, "{claim}");
        }
    }

    /// Threat TC-8: a certificate cannot write a value that reads as that of another one.
    #[test]
    fn what_a_certificate_says_is_encoded_as_what_a_token_says() {
        let issued = TestAuthority::new().issue_with(&[], |params| {
            params.distinguished_name.push(DnType::OrganizationName, "Example, Inc.");
            params.distinguished_name.push(DnType::CommonName, "Zoë\r\nX: y");
            params.subject_alt_names.push(SanType::URI("spiffe://a/b,DNS:admin".try_into().unwrap()));
            params.subject_alt_names.push(SanType::DnsName("a.test".try_into().unwrap()));
        });
        let certificate = ClientCertificate::read(vec![issued.certificate.der().clone()]).unwrap();
        for (source, expected) in [
            (CertificateSource::Subject, "CN=Zo%C3%AB%0D%0AX: y,O=Example\\, Inc."),
            (CertificateSource::AlternativeNames, "URI:spiffe://a/b%2CDNS:admin,DNS:a.test"),
            (CertificateSource::Thumbprint, &*certificate.thumbprint_text()),
        ] {
            assert_eq!(source.value(&certificate).as_deref(), Some(expected), "{source:?}");
        }
        let nameless = TestAuthority::new().issue_with(&[], |_| ());
        let nameless = ClientCertificate::read(vec![nameless.certificate.der().clone()]).unwrap();
        assert_eq!(CertificateSource::Subject.value(&nameless), None);
        assert_eq!(CertificateSource::AlternativeNames.value(&nameless), None);
    }

    #[test]
    fn sources_are_named_as_the_configuration_names_them() {
        for (text, known) in [
            ("subject", true),
            ("issuer", true),
            ("client", true),
            ("scopes", true),
            ("roles", true),
            ("claim:email", true),
            ("client_cert_subject", true),
            ("client_cert_san", true),
            ("client_cert_thumbprint", true),
            ("client_cert", false),
            ("claim:", false),
            ("email", false),
            ("Subject", false),
        ] {
            assert_eq!(IdentitySource::parse(text).is_some(), known, "{text}");
        }
    }
}
