//! Authentication: reads the access token of a request and finds out who is calling.
//!
//! Checks a token (RFC 6750) in the order of cost: is it in the cache? has the client's address
//! sent too many forged tokens? is it valid? A public route ignores tokens. A route with optional
//! access accepts a request without a token, but refuses an invalid token.
//! [`client_certificate`] comes first, on every route that requires a certificate.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::routing::RoutedRequest;
use super::{StageContext, client_certificate};
use crate::gateway::caller_cache::VerifiedCaller;
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::{Access, Route};
use crate::gateway::response::refusal::{CredentialFault, Refusal, TokenFault};
use crate::gateway::tls_peer::PresentedCertificate;
use crate::primitives::escape::escape_for_log;
use crate::token::{Binding, Principal, RawToken, TokenDigest};

/// Where the caller's identity comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Credentials<'a> {
    /// These claims count as those of a valid token; the request's token is not read. Only
    /// `explain` assumes claims.
    Assumed(&'a Map<String, Value>),
    /// This caller made the request when it was admitted, and is judged again. Its issuer must
    /// still vouch for its token.
    Established(&'a Caller),
    /// The token in the request.
    FromRequest,
}

impl Credentials<'_> {
    /// Whether the request was admitted before, so that limits have counted it already.
    pub(super) fn are_established(&self) -> bool {
        match self {
            Self::Established(_) => true,
            Self::Assumed(_) | Self::FromRequest => false,
        }
    }
}

/// Who is calling. Not an `Option`, so that `None` cannot be mistaken for "allowed".
#[derive(Clone, Debug, Default)]
pub(crate) enum Caller {
    /// The request has no token, or the route ignores tokens.
    #[default]
    Anonymous,
    /// The caller that a verified token identifies.
    Known(Arc<VerifiedCaller>),
}

impl Caller {
    /// The principal; `None` for an anonymous caller.
    #[must_use]
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Anonymous => None,
            Self::Known(caller) => Some(caller.principal()),
        }
    }

    /// The identity headers for the upstream; empty for an anonymous caller.
    #[must_use]
    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        match self {
            Self::Anonymous => &[],
            Self::Known(caller) => caller.headers(),
        }
    }

    /// The names of the identity headers that are omitted because their value is too long.
    #[must_use]
    pub(crate) fn omitted_headers(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Known(caller) => caller.omitted_headers(),
        }
    }
}

/// Finds out who is calling.
///
/// # Errors
///
/// 421 and 403 for the client's certificate, 400 for malformed credentials, 401 for a missing or
/// invalid token, 429 from the failure guard, 503 without usable keys.
pub(crate) async fn authenticate<O: Observer>(
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<Caller, Refusal> {
    cx.enter(Stage::Authenticate);
    client_certificate::check(routed, cx)?;
    let result = match &routed.route().settings().access {
        Access::Public => {
            cx.check(|| {
                Check::passed("token", "public: no token is read").with_key(routed.route().settings().key("access"))
            });
            return Ok(Caller::Anonymous);
        }
        Access::Optional | Access::Token(_) => identify(routed, cx).await,
    };
    routed.enforce(result, cx)
}

async fn identify<O: Observer>(routed: &RoutedRequest, cx: &mut StageContext<'_, O>) -> Result<Caller, Refusal> {
    let caller = match cx.credentials {
        Credentials::Assumed(claims) => {
            let principal = cx.runtime.issuers().check_claims(claims.clone())?;
            cx.runtime.callers().render(principal, cx.runtime.identity())
        }
        Credentials::Established(Caller::Anonymous) => return accept_anonymous(routed.route(), cx),
        Credentials::Established(Caller::Known(caller)) => {
            if !caller.is_vouched_for(cx.runtime.issuers(), cx.response.received_at()) {
                return Err(Refusal::TokenInvalid(TokenFault::Withdrawn));
            }
            Arc::clone(caller)
        }
        Credentials::FromRequest => {
            let max_bytes = cx.runtime.settings().max_token_size;
            let resolved = match read_bearer_token(&routed.request().headers, max_bytes) {
                Ok(Some(token)) => resolve_caller(token, routed, cx).await,
                Ok(None) => return accept_anonymous(routed.route(), cx),
                Err(refusal) => Err(refusal),
            };
            resolved.inspect_err(|refusal| cx.check(|| Check::failed("token", refusal.reason())))?
        }
    };
    cx.response.record().set_caller(&caller);
    let principal = caller.principal();
    cx.check(|| {
        let detail = format!("valid: {} of issuer {}", escape_for_log(principal.subject()), principal.issuer_name());
        Check::passed("token", detail).with_key(format!("issuers.{}", principal.issuer_name()))
    });
    match principal.binding() {
        // The sender of a bearer token has nothing else to prove.
        Binding::Bearer => {}
        Binding::Certificate(thumbprint) => check_certificate_binding(&thumbprint, routed, cx)?,
    }
    check_route_accepts(routed.route(), principal, cx)?;
    Ok(Caller::Known(caller))
}

/// Checks that the token was issued to the owner of the connection's certificate (RFC 8705 §3).
fn check_certificate_binding<O: Observer>(
    thumbprint: &[u8; 32],
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<(), Refusal> {
    let is_presented = match &routed.request().certificate {
        PresentedCertificate::Valid(peer) => peer.certificate().thumbprint() == thumbprint,
        PresentedCertificate::Absent | PresentedCertificate::Expired | PresentedCertificate::Withdrawn => false,
    };
    if is_presented {
        cx.check(|| Check::passed("binding", "the client has presented the certificate that the token is bound to"));
        return Ok(());
    }
    let refusal = Refusal::TokenInvalid(TokenFault::Binding);
    cx.check(|| Check::failed("binding", refusal.reason()));
    Err(refusal)
}

/// Accepts a request without a token, if the route does not require one.
fn accept_anonymous<O: Observer>(route: &Route, cx: &mut StageContext<'_, O>) -> Result<Caller, Refusal> {
    let settings = route.settings();
    match &settings.access {
        Access::Optional | Access::Public => {
            cx.check(|| Check::passed("token", "none given, none required").with_key(settings.key("access")));
            Ok(Caller::Anonymous)
        }
        Access::Token(_) => {
            cx.check(|| {
                Check::failed("token", "none given, and the route requires one").with_key(settings.key("access"))
            });
            Err(Refusal::CredentialsMissing)
        }
    }
}

/// The caller that `token` identifies, from the cache or by verifying the token.
async fn resolve_caller<O: Observer>(
    token: RawToken<'_>,
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<Arc<VerifiedCaller>, Refusal> {
    let digest = token.digest();
    let runtime = cx.runtime;
    let cached = runtime.callers().get(&digest, runtime.issuers(), runtime.identity(), cx.response.received_at());
    match cached {
        Some(caller) => Ok(caller),
        // Boxed: an allocation is negligible next to signature verification, and it keeps the
        // future of all other requests small.
        None => Box::pin(verify(token, &digest, routed, cx)).await,
    }
}

async fn verify<O: Observer>(
    token: RawToken<'_>,
    digest: &TokenDigest,
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<Arc<VerifiedCaller>, Refusal> {
    let (client, issuers) = (routed.request().client.ip, cx.runtime.issuers());
    let guard = cx.runtime.failure_guard();
    let allowance = guard.map(|guard| guard.check(client, || issuers.claimed_subject(&token))).transpose();
    let allowance = allowance.map_err(|refused| {
        cx.response.add_limit(&refused.outcome);
        refused.exceeded
    })?;
    let verified = issuers.verify(&token).await;
    if let (Some(guard), Some(allowance)) = (guard, allowance) {
        match &verified {
            Ok(verification) => guard.remember(client, verification.principal.subject_hash()),
            Err(error) if error.is_costly() => guard.count(client, allowance),
            Err(_) => {}
        }
    }
    Ok(cx.runtime.callers().insert(*digest, verified?, cx.runtime.identity()))
}

/// Checks whether the route accepts the issuer and the audiences of a valid token.
fn check_route_accepts<O: Observer>(
    route: &Route,
    principal: &Principal,
    cx: &mut StageContext<'_, O>,
) -> Result<(), Refusal> {
    let settings = route.settings();
    if !settings.accepts_issuer(principal) {
        cx.check(|| {
            let detail = format!("the route does not accept issuer {}", principal.issuer_name());
            Check::failed("issuer", detail).with_key(settings.key("issuers"))
        });
        return Err(Refusal::TokenInvalid(TokenFault::Issuer));
    }
    if !settings.accepts_audience(principal) {
        cx.check(|| {
            Check::failed("audience", "the token is for none of the route's audiences")
                .with_key(settings.key("audiences"))
        });
        return Err(Refusal::TokenInvalid(TokenFault::Audience));
    }
    Ok(())
}

/// Reads the access token in the `Authorization` field (RFC 6750 §2.1). `None` if there is no such
/// field, or if it has another scheme. The scheme is case-insensitive (RFC 9110 §11.1).
///
/// RFC 6750 separates the scheme from the token with spaces. Many servers accept a tab too, so it
/// ends the scheme here as well: what they take for a bearer token is verified.
///
/// # Errors
///
/// [`Refusal::RequestMalformed`] for two fields, no token, several tokens, or a byte that is not
/// allowed in a token; [`TokenFault::TooLong`] above `max_bytes`.
fn read_bearer_token(headers: &HeaderMap, max_bytes: usize) -> Result<Option<RawToken<'_>>, Refusal> {
    let malformed = |what| Err(Refusal::RequestMalformed(what));
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return malformed(CredentialFault::TwoCredentials);
    }
    let field = field.as_bytes();
    let (scheme, rest) =
        field.split_at(field.iter().position(|&byte| matches!(byte, b' ' | b'\t')).unwrap_or(field.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    let token = rest.trim_ascii();
    if token.is_empty() {
        return malformed(CredentialFault::NoToken);
    }
    if token.len() > max_bytes {
        return Err(Refusal::TokenInvalid(TokenFault::TooLong));
    }
    if !is_b64token(token) {
        return malformed(CredentialFault::NotOneToken);
    }
    Ok(Some(RawToken::from_bytes(token)))
}

/// RFC 6750 §2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
#[expect(clippy::needless_bitwise_bool, reason = "without branches the loop is vectorized")]
fn is_b64token(bytes: &[u8]) -> bool {
    let end = bytes.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    // Has no early exit and no branches, so that the compiler can compare sixteen bytes at once.
    let all = bytes[..end].iter().fold(true, |all, &byte| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        // `-`, `.`, `/` and the digits are consecutive in ASCII.
        let digit = byte.wrapping_sub(b'-') < 13;
        all & (letter | digit | (byte == b'_') | (byte == b'~') | (byte == b'+'))
    });
    end > 0 && all
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(fields: &[&str]) -> Result<Option<TokenDigest>, Refusal> {
        let headers =
            fields.iter().map(|f| (header::AUTHORIZATION, HeaderValue::from_bytes(f.as_bytes()).unwrap())).collect();
        read_bearer_token(&headers, 20).map(|token| token.map(|token| token.digest()))
    }

    /// RFC 6750 §2.1 and §3.1; threats J-21 and A67.
    #[test]
    fn the_authorization_field_holds_one_bearer_token_or_is_refused() {
        let malformed = |what| Err(Refusal::RequestMalformed(what));
        let token = |text: &str| Ok(Some(RawToken::new(text).digest()));
        for (name, fields, expected) in [
            ("no field", &[][..], Ok(None)),
            ("a token", &["Bearer abc.d-e_f"], token("abc.d-e_f")),
            ("any case of the scheme", &["bEARER abc"], token("abc")),
            ("several spaces", &["Bearer   abc"], token("abc")),
            ("padding", &["Bearer abc=="], token("abc==")),
            ("every kind of character", &["Bearer aZ09-._~+/="], token("aZ09-._~+/=")),
            ("the neighbours of what is allowed", &["Bearer a,b"], malformed(CredentialFault::NotOneToken)),
            ("a comma at the end", &["Bearer ab,"], malformed(CredentialFault::NotOneToken)),
            ("a comma before the padding", &["Bearer ab,="], malformed(CredentialFault::NotOneToken)),
            ("one character", &["Bearer a"], token("a")),
            ("a colon", &["Bearer a:b"], malformed(CredentialFault::NotOneToken)),
            ("an at sign", &["Bearer a@b"], malformed(CredentialFault::NotOneToken)),
            ("a bracket", &["Bearer a[b"], malformed(CredentialFault::NotOneToken)),
            ("a grave accent", &["Bearer a`b"], malformed(CredentialFault::NotOneToken)),
            ("a brace", &["Bearer a{b"], malformed(CredentialFault::NotOneToken)),
            ("another scheme", &["Basic dXNlcjpwYXNz"], Ok(None)),
            ("a scheme with the same prefix", &["BearerX abc"], Ok(None)),
            ("a tab after the scheme", &["Bearer\tabc"], token("abc")),
            ("a tab and spaces", &["Bearer \t abc\t"], token("abc")),
            ("a tab for a token", &["Bearer\t"], malformed(CredentialFault::NoToken)),
            ("two tokens with a tab between them", &["Bearer\tabc\tdef"], malformed(CredentialFault::NotOneToken)),
            ("a tab before the scheme's end", &["Bea\trer abc"], Ok(None)),
            ("no token", &["Bearer"], malformed(CredentialFault::NoToken)),
            ("spaces for a token", &["Bearer   "], malformed(CredentialFault::NoToken)),
            ("two tokens", &["Bearer abc def"], malformed(CredentialFault::NotOneToken)),
            ("a list", &["Bearer abc, Bearer def"], malformed(CredentialFault::NotOneToken)),
            ("padding in the middle", &["Bearer a=b"], malformed(CredentialFault::NotOneToken)),
            ("padding alone", &["Bearer =="], malformed(CredentialFault::NotOneToken)),
            ("not ASCII", &["Bearer ab\u{e9}"], malformed(CredentialFault::NotOneToken)),
            ("two fields", &["Bearer abc", "Bearer abc"], malformed(CredentialFault::TwoCredentials)),
            (
                "two fields of which one is another scheme",
                &["Basic abc", "Bearer abc"],
                malformed(CredentialFault::TwoCredentials),
            ),
            ("as long as allowed", &["Bearer 12345678901234567890"], token("12345678901234567890")),
            ("longer", &["Bearer 123456789012345678901"], Err(Refusal::TokenInvalid(TokenFault::TooLong))),
        ] {
            assert_eq!(read(fields), expected, "{name}");
        }
    }
}
