//! Authentication: the access token of a request, and who is calling.
//!
//! Reads the credential (RFC 6750), then asks, cheapest first: is this very token known? has this
//! address sent too many bad ones? and only then: does it verify? A public route looks at no token; a
//! route with optional access accepts no token or a valid one, never a bad one.

use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::StageContext;
use super::rate_limit::refusal;
use super::routing::RoutedRequest;
use crate::gateway::caller_cache::VerifiedCaller;
use crate::gateway::observer::{Check, Observer, Stage};
use crate::gateway::policy::{Access, Route};
use crate::gateway::response::refusal::{Malformed, Refusal, TokenFault};
use crate::token::{Binding, Principal, RawToken, TokenDigest};

/// Who is calling. Not an `Option`, so that no one reads "none" as "allowed".
#[derive(Clone, Debug, Default)]
pub(crate) enum Caller {
    /// No token was given, or none was looked at.
    #[default]
    Anonymous,
    /// The bearer of a verified token.
    Known(Arc<VerifiedCaller>),
}

impl Caller {
    /// Who the token identifies; `None` for an anonymous caller.
    #[must_use]
    pub(crate) fn principal(&self) -> Option<&Principal> {
        match self {
            Self::Anonymous => None,
            Self::Known(caller) => Some(caller.principal()),
        }
    }

    /// The identity headers for the upstream; none of an anonymous caller.
    #[must_use]
    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        match self {
            Self::Anonymous => &[],
            Self::Known(caller) => caller.headers(),
        }
    }
}

/// Finds out who is calling.
///
/// # Errors
///
/// 400 for malformed credentials, 401 for none or bad ones, 429 from the guard, 503 without keys.
pub(crate) async fn authenticate<O: Observer>(
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<Caller, Refusal> {
    cx.enter(Stage::Authenticate);
    let judged = match &routed.route().settings().access {
        Access::Public => {
            cx.check(|| {
                Check::passed("token", "public: no token is looked at").by(routed.route().settings().key("access"))
            });
            return Ok(Caller::Anonymous);
        }
        Access::Optional | Access::Token(_) => identify(routed, cx).await,
    };
    routed.enforce(judged, cx)
}

async fn identify<O: Observer>(routed: &RoutedRequest, cx: &mut StageContext<'_, O>) -> Result<Caller, Refusal> {
    let caller = match cx.observer.assumed_claims() {
        Some(claims) => {
            let principal = cx.runtime.issuers().check_claims(claims)?;
            Some(cx.runtime.callers().render(principal, cx.runtime.identity()))
        }
        None => match bearer(&routed.request().headers, cx.runtime.settings().max_token_size)? {
            Some(token) => Some(bearer_of(token, routed, cx).await?),
            None => None,
        },
    };
    let Some(caller) = caller else { return anonymous(routed.route(), cx) };
    cx.response.record().set_caller(&caller);
    accept_on_route(routed.route(), caller.principal(), cx)?;
    Ok(Caller::Known(caller))
}

/// A request without a token.
fn anonymous<O: Observer>(route: &Route, cx: &mut StageContext<'_, O>) -> Result<Caller, Refusal> {
    let settings = route.settings();
    match &settings.access {
        Access::Optional | Access::Public => {
            cx.check(|| Check::passed("token", "none given, none required").by(settings.key("access")));
            Ok(Caller::Anonymous)
        }
        Access::Token(_) => {
            cx.check(|| Check::failed("token", "none given, and the route requires one").by(settings.key("access")));
            Err(Refusal::CredentialsMissing)
        }
    }
}

/// The bearer of `token`: known from an earlier request, or verified now.
async fn bearer_of<O: Observer>(
    token: RawToken<'_>,
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<Arc<VerifiedCaller>, Refusal> {
    let digest = token.digest();
    let runtime = cx.runtime;
    let known = runtime.callers().get(&digest, runtime.issuers(), runtime.identity(), cx.response.received_at());
    match known {
        Some(caller) => Ok(caller),
        // Boxed: an allocation is negligible next to signature verification, and this keeps the future
        // of every other request small.
        None => Box::pin(verify(token, &digest, routed, cx)).await,
    }
}

async fn verify<O: Observer>(
    token: RawToken<'_>,
    digest: &TokenDigest,
    routed: &RoutedRequest,
    cx: &mut StageContext<'_, O>,
) -> Result<Arc<VerifiedCaller>, Refusal> {
    let client = routed.request().client.ip;
    let guard = cx.runtime.failure_guard();
    if let Some(guard) = guard {
        let judgement = guard.judge(client);
        refusal(&judgement).inspect_err(|_| cx.response.add_limit(&judgement))?;
    }
    match cx.runtime.issuers().verify(&token).await {
        Ok(verification) => Ok(cx.runtime.callers().insert(*digest, verification, cx.runtime.identity())),
        Err(error) => {
            if let Some(guard) = guard
                && error.is_costly()
            {
                guard.count(client);
            }
            cx.response.record().token_refused(&error);
            Err(error.into())
        }
    }
}

/// Whether a valid token is accepted on this route.
fn accept_on_route<O: Observer>(
    route: &Route,
    principal: &Principal,
    cx: &mut StageContext<'_, O>,
) -> Result<(), Refusal> {
    let settings = route.settings();
    cx.check(|| {
        let detail = format!("valid: {} of issuer {}", principal.subject(), principal.issuer_name());
        Check::passed("token", detail).by(format!("issuers.{}", principal.issuer_name()))
    });
    match principal.binding() {
        // A bearer token is valid for whoever sends it.
        Binding::Bearer => {}
    }
    if !settings.accepts_issuer(principal) {
        cx.check(|| {
            let detail = format!("the route does not accept issuer {}", principal.issuer_name());
            Check::failed("issuer", detail).by(settings.key("issuers"))
        });
        return Err(Refusal::TokenInvalid(TokenFault::Issuer));
    }
    if !settings.accepts_audience(principal) {
        cx.check(|| {
            Check::failed("audience", "the token is for none of the route's audiences").by(settings.key("audiences"))
        });
        return Err(Refusal::TokenInvalid(TokenFault::Audience));
    }
    Ok(())
}

/// The access token in the `Authorization` field (RFC 6750 §2.1). `None` if there is no such field or it has another scheme.
///
/// The scheme is compared without regard to case (RFC 9110 §11.1).
///
/// # Errors
///
/// [`Refusal::RequestMalformed`] for two fields, no token, more than one, or a byte that no token has; [`TokenFault::TooLong`] above
/// `max_bytes`.
fn bearer(headers: &HeaderMap, max_bytes: usize) -> Result<Option<RawToken<'_>>, Refusal> {
    let malformed = |what| Err(Refusal::RequestMalformed(what));
    let mut fields = headers.get_all(header::AUTHORIZATION).iter();
    let Some(field) = fields.next() else { return Ok(None) };
    if fields.next().is_some() {
        return malformed(Malformed::TwoCredentials);
    }
    let field = field.as_bytes();
    let (scheme, rest) = field.split_at(field.iter().position(|&byte| byte == b' ').unwrap_or(field.len()));
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(None);
    }
    let token = rest.trim_ascii();
    if token.is_empty() {
        return malformed(Malformed::NoToken);
    }
    if token.len() > max_bytes {
        return Err(Refusal::TokenInvalid(TokenFault::TooLong));
    }
    if !is_b64token(token) {
        return malformed(Malformed::NotOneToken);
    }
    Ok(Some(RawToken::from_bytes(token)))
}

/// RFC 6750 §2.1: `b64token = 1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
#[expect(clippy::needless_bitwise_bool, reason = "without branches the loop is vectorized")]
fn is_b64token(bytes: &[u8]) -> bool {
    let unpadded = bytes.trim_ascii_end();
    let end = unpadded.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    // Without an early exit, and without branches, so that the compiler compares sixteen bytes at once.
    let all = unpadded[..end].iter().fold(true, |all, &byte| {
        let letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        // `-`, `.`, `/` and the digits follow each other.
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
        bearer(&headers, 20).map(|token| token.map(|token| token.digest()))
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
            ("another scheme", &["Basic dXNlcjpwYXNz"], Ok(None)),
            ("a scheme that only begins alike", &["BearerX abc"], Ok(None)),
            ("no token", &["Bearer"], malformed(Malformed::NoToken)),
            ("spaces for a token", &["Bearer   "], malformed(Malformed::NoToken)),
            ("two tokens", &["Bearer abc def"], malformed(Malformed::NotOneToken)),
            ("a list", &["Bearer abc, Bearer def"], malformed(Malformed::NotOneToken)),
            ("padding in the middle", &["Bearer a=b"], malformed(Malformed::NotOneToken)),
            ("padding alone", &["Bearer =="], malformed(Malformed::NotOneToken)),
            ("not ASCII", &["Bearer ab\u{e9}"], malformed(Malformed::NotOneToken)),
            ("two fields", &["Bearer abc", "Bearer abc"], malformed(Malformed::TwoCredentials)),
            (
                "two fields of which one is another scheme",
                &["Basic abc", "Bearer abc"],
                malformed(Malformed::TwoCredentials),
            ),
            ("as long as allowed", &["Bearer 12345678901234567890"], token("12345678901234567890")),
            ("longer", &["Bearer 123456789012345678901"], Err(Refusal::TokenInvalid(TokenFault::TooLong))),
        ] {
            assert_eq!(read(fields), expected, "{name}");
        }
    }
}
