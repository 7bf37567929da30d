//! Identity headers: what the upstream learns about the caller, under names that only the gateway
//! may write.
//!
//! The guarantee has two parts. First, the gateway removes every header that the client sent under
//! an owned name, on every route and in every spelling that a backend may treat as the same name
//! ([`IdentityHeaders::passes_upstream`]). Then it sets the values of the verified token
//! ([`IdentityHeaders::render`]), encoded so that a value can neither break a header nor be
//! mistaken for another value.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::telemetry::metrics::Metrics;
use crate::token::{ClaimPath, Principal};
use crate::upstream::headers::Peers;
use crate::upstream::headers::names::{self, Class, OwnedNames};

/// The longest identity header value, in bytes. Many servers refuse a request head above 8 KiB, and
/// one claim must not use most of that.
const MAX_VALUE_BYTES: usize = 4 * 1024;

/// The headers of `[identity.headers]`, validated.
#[derive(Clone, Debug, PartialEq)]
pub struct IdentityHeaders {
    headers: Vec<(HeaderName, Source)>,
    /// The configured names other than `X-Identity-*`. The gateway owns `X-Identity-*` in any case.
    owned: OwnedNames,
}

/// Where the value of an identity header comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// The claim at this path.
    Claim(ClaimPath),
    /// The client that the token was issued to.
    Client,
    /// `iss`.
    Issuer,
    /// All roles, separated by commas.
    Roles,
    /// All scopes, separated by spaces.
    Scopes,
    /// The subject of the token.
    Subject,
}

impl Source {
    /// Parses `"subject"`, `"issuer"`, `"client"`, `"scopes"`, `"roles"` or `"claim:PATH"`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "client" => Self::Client,
            "issuer" => Self::Issuer,
            "roles" => Self::Roles,
            "scopes" => Self::Scopes,
            "subject" => Self::Subject,
            _ => Self::Claim(ClaimPath::parse(text.strip_prefix("claim:")?).ok()?),
        })
    }
}

impl IdentityHeaders {
    /// Compiles the headers, which are sent in this order.
    #[must_use]
    pub fn new(headers: Vec<(HeaderName, Source)>) -> Self {
        let names = headers.iter().map(|(name, _)| name);
        let owned = OwnedNames::new(names.filter(|name| Class::of(name) != Class::Identity).cloned());
        Self { headers, owned }
    }

    /// Whether only the gateway may write this header: `X-Identity-*` and every configured name, in
    /// any spelling that a backend may treat as one of these.
    #[must_use]
    pub fn owns(&self, name: &HeaderName) -> bool {
        Class::of(name) == Class::Identity || self.owned.contains(name)
    }

    /// Whether a request header is forwarded to the upstream as the peer sent it.
    #[must_use]
    pub fn passes_upstream(&self, name: &HeaderName, peers: Peers) -> bool {
        names::passes(name, peers) && !self.owned.contains(name)
    }

    /// Whether a response header or trailer is forwarded to the client as the upstream sent it.
    #[must_use]
    pub fn passes_downstream(&self, name: &HeaderName) -> bool {
        let class = Class::of(name);
        !class.is_hop_by_hop() && class != Class::Identity && !self.owned.contains(name)
    }

    /// The header lines for `principal`. A header is omitted if the token lacks its source, or if
    /// the value is above 4 KiB; the latter is counted.
    #[must_use]
    pub fn render(&self, principal: &Principal, metrics: &Metrics) -> Box<[(HeaderName, HeaderValue)]> {
        let mut lines = Vec::with_capacity(self.headers.len());
        for (name, source) in &self.headers {
            let Some(value) = source.value(principal) else { continue };
            if value.len() > MAX_VALUE_BYTES {
                metrics.count_omitted_identity_header();
                tracing::debug!(header = %name, bytes = value.len(), "identity header omitted: value too long");
                continue;
            }
            lines.push((name.clone(), HeaderValue::try_from(value).expect("an encoded value is printable ASCII")));
        }
        lines.into()
    }
}

impl Source {
    fn value(&self, principal: &Principal) -> Option<String> {
        let text = match self {
            Self::Claim(path) => match principal.claim(path)? {
                Value::Null => return None,
                Value::String(text) => encode(text, b""),
                Value::Array(items) => join(items.iter().map(to_text), ",", b","),
                other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_)) => encode(&other.to_string(), b""),
            },
            Self::Client => encode(principal.client()?, b""),
            Self::Issuer => encode(principal.issuer(), b""),
            Self::Roles => join(principal.roles().iter().map(std::string::ToString::to_string), ",", b","),
            Self::Scopes => join(principal.scopes().iter().map(std::string::ToString::to_string), " ", b" "),
            Self::Subject => encode(principal.subject(), b""),
        };
        (!text.is_empty()).then_some(text)
    }
}

/// A string without its quotes; any other value as JSON.
fn to_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Encodes and joins the items. A separator inside an item is encoded, so that the single role
/// `a,admin` does not look like two.
fn join(items: impl Iterator<Item = String>, separator: &str, also: &[u8]) -> String {
    items.map(|item| encode(&item, also)).collect::<Vec<_>>().join(separator)
}

/// Percent-encodes everything but printable ASCII, and also `%`, the bytes in `also`, and a space
/// at either end, which a parser would trim. So no two values get the same text.
fn encode(text: &str, also: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let bytes = text.as_bytes();
    let mut encoded = String::with_capacity(bytes.len());
    for (index, &byte) in bytes.iter().enumerate() {
        let is_at_an_end = index == 0 || index + 1 == bytes.len();
        let is_plain =
            matches!(byte, b' '..=b'~') && byte != b'%' && !(byte == b' ' && is_at_an_end) && !also.contains(&byte);
        if is_plain {
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
    use super::*;

    fn headers() -> IdentityHeaders {
        IdentityHeaders::new(vec![
            (HeaderName::from_static("x-identity-subject"), Source::Subject),
            (HeaderName::from_static("x-user"), Source::Subject),
        ])
    }

    /// CVE-2025-64484 and similar: a backend that normalizes names treats an alias as the real
    /// header.
    #[test]
    fn owned_names_include_their_aliases_and_nothing_else() {
        for (name, expected) in [
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
            assert_eq!(headers().owns(&HeaderName::try_from(name).unwrap()), expected, "{name}");
        }
    }

    #[test]
    fn an_encoded_value_can_neither_break_a_header_nor_look_like_another() {
        for (name, value, also, expected) in [
            ("plain text is unchanged", "alice smith", &b""[..], "alice smith"),
            ("UTF-8", "Zoë", b"", "Zo%C3%AB"),
            ("a percent sign", "100%41", b"", "100%2541"),
            ("line breaks", "a\r\nX-Identity-Scopes: admin", b"", "a%0D%0AX-Identity-Scopes: admin"),
            ("spaces at the ends", " root ", b"", "%20root%20"),
            ("a separator inside an item", "a,admin", b",", "a%2Cadmin"),
            ("a tab and DEL", "a\t\u{7f}", b"", "a%09%7F"),
        ] {
            assert_eq!(encode(value, also), expected, "{name}");
        }
    }

    #[test]
    fn sources_are_parsed_from_their_names_in_the_configuration() {
        for (text, known) in [
            ("subject", true),
            ("issuer", true),
            ("client", true),
            ("scopes", true),
            ("roles", true),
            ("claim:email", true),
            ("claim:", false),
            ("email", false),
            ("Subject", false),
        ] {
            assert_eq!(Source::parse(text).is_some(), known, "{text}");
        }
    }
}
