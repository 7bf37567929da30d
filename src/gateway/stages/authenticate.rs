//! Authentication: the access token of a request, and who it says is calling.
//!
//! Stage 5 of [`Gateway::handle`](super::Gateway::handle). Reads the credential (RFC 6750), then asks, cheapest first: is the verdict on this
//! very token known? has this address sent too many bad ones? and only then: does it verify? A public route is not looked at, a route
//! with optional access takes no token or a good one, never a bad one.

use std::sync::Arc;

use http::HeaderMap;
use http::header;

use crate::gateway::response::refusal::{Malformed, Refusal, TokenFault};
use crate::gateway::stages::rate_limit::FailureGuard;
use crate::gateway::stages::routing::{Access, RoutedRequest};
use crate::gateway::{ResponseContext, Runtime};
use crate::token::{Principal, RawToken, TokenDigest, VerifyError};

/// Who is calling. Not an `Option`: nobody shall read "none" as "allowed".
#[derive(Clone, Debug)]
pub enum Caller {
    /// No token was given, or none was looked at.
    Anonymous,
    /// The bearer of a verified token.
    Known(Arc<Principal>),
}

/// Finds out who is calling.
///
/// # Errors
///
/// 400 for malformed credentials, 401 for none or bad ones, 429 from the guard, 503 without keys.
pub async fn caller(
    runtime: &Runtime,
    routed: &RoutedRequest,
    context: &mut ResponseContext,
) -> Result<Caller, Refusal> {
    let rules = routed.route().rules();
    match &rules.access {
        Access::Public => return Ok(Caller::Anonymous),
        Access::Optional | Access::Token(_) => {}
    }
    let Some(token) = bearer(&routed.request().headers, runtime.settings().max_token_size)? else {
        return match &rules.access {
            Access::Optional | Access::Public => Ok(Caller::Anonymous),
            Access::Token(_) => Err(Refusal::CredentialsMissing),
        };
    };
    let digest = token.digest();
    let principal = match runtime.issuers().cached(&digest, context.arrived()) {
        Some(principal) => principal,
        // Beside a public-key operation an allocation is nothing; in here it would make every request's future larger.
        None => Box::pin(verified(runtime, token, &digest, routed, context)).await?,
    };
    context.record().caller(&principal);
    if !rules.takes_issuer(&principal) {
        return Err(Refusal::TokenInvalid(TokenFault::Issuer));
    }
    if !rules.takes_audience(&principal) {
        return Err(Refusal::TokenInvalid(TokenFault::Audience));
    }
    Ok(Caller::Known(principal))
}

async fn verified(
    runtime: &Runtime,
    token: RawToken<'_>,
    digest: &TokenDigest,
    routed: &RoutedRequest,
    context: &mut ResponseContext,
) -> Result<Arc<Principal>, Refusal> {
    let client = routed.request().client.ip;
    if let Some(guard) = runtime.failure_guard() {
        guard.check(client, context)?;
    }
    match runtime.issuers().verify(&token, digest).await {
        Ok(principal) => Ok(principal),
        Err(error) => {
            if let Some(guard) = runtime.failure_guard()
                && error.spent_work()
            {
                FailureGuard::count(guard, client);
            }
            context.record().token_refused(&error);
            Err(refusal_of(error))
        }
    }
}

/// What a token that does not verify means for its request: 401, or 503 where the fault is not the caller's.
#[must_use]
pub fn refusal_of(error: VerifyError) -> Refusal {
    match error.keys_unavailable() {
        Some(retry_after) => Refusal::KeysUnavailable { retry_after },
        None => Refusal::TokenInvalid(TokenFault::Verify(error)),
    }
}

/// The access token in the `Authorization` field (RFC 6750 §2.1). `None` if there is no such field or it has another scheme.
///
/// The scheme is compared without regard to case (RFC 9110 §11.1).
///
/// # Errors
///
/// [`Refusal::RequestMalformed`] for two fields, no token, more than one, or a byte that no token has; [`TokenFault::TooLong`] above
/// `max_bytes`.
pub fn bearer(headers: &HeaderMap, max_bytes: usize) -> Result<Option<RawToken<'_>>, Refusal> {
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
#[expect(clippy::needless_bitwise_bool, reason = "see the comment within")]
fn is_b64token(bytes: &[u8]) -> bool {
    let unpadded = bytes.trim_ascii_end();
    let end = unpadded.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    // Without a way out in the middle, and without branches, so that the compiler makes one comparison of sixteen bytes.
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

    fn read(fields: &[&str]) -> Result<Option<String>, Refusal> {
        let headers =
            fields.iter().map(|f| (header::AUTHORIZATION, HeaderValue::from_bytes(f.as_bytes()).unwrap())).collect();
        bearer(&headers, 20).map(|token| token.map(|token| String::from_utf8_lossy(token.bytes()).into_owned()))
    }

    /// RFC 6750 §2.1 and §3.1; threats J-21 and A67.
    #[test]
    fn the_authorization_field_holds_one_bearer_token_or_is_refused() {
        let malformed = |what| Err(Refusal::RequestMalformed(what));
        let token = |text: &str| Ok(Some(text.to_owned()));
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
