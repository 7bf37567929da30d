//! Claims (RFC 7519 §4): what a token says, held against the issuer's settings and the time.
//!
//! Everything here comes before the signature is looked at, so nothing here may be believed; and nothing is taken for absent because it has
//! the wrong type: a claim that is there and malformed refuses the token.

use std::time::Duration;

use serde_json::{Map, Value};

use super::claim_path::ClaimPath;
use super::error::VerifyError;
use super::header::Kind;
use super::strict_json;
use super::{IssuerSettings, Profile};
use crate::primitives::clock::WallTime;

/// Where to read what a [`Principal`](super::Principal) is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSources {
    /// The first that is there counts.
    pub subject: Vec<ClaimPath>,
    /// United.
    pub scopes: Vec<ClaimPath>,
    /// United.
    pub roles: Vec<ClaimPath>,
    /// The first that is there counts.
    pub audience: Vec<ClaimPath>,
    /// The first that is there counts.
    pub client: Vec<ClaimPath>,
}

/// What claims that passed say. Not yet proof of anything: the signature is another matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// Never empty.
    pub subject: String,
    /// The client the token was issued to.
    pub client: Option<String>,
    /// Sorted, each once.
    pub scopes: Vec<Box<str>>,
    /// Sorted, each once.
    pub roles: Vec<Box<str>>,
    /// As in the token.
    pub audiences: Vec<String>,
    /// The token counts from then on, the leeway included.
    pub valid_from: WallTime,
    /// The token is over at that moment, the leeway included.
    pub expires_at: WallTime,
}

impl Default for ClaimSources {
    /// `sub`; `scope` and `scp`; no roles; `aud`; `client_id` or `azp`.
    fn default() -> Self {
        let paths = |names: &[&str]| {
            names.iter().map(|name| ClaimPath::parse(name).expect("plain names are paths")).collect::<Vec<_>>()
        };
        Self {
            subject: paths(&["sub"]),
            scopes: paths(&["scope", "scp"]),
            roles: Vec::new(),
            audience: paths(&["aud"]),
            client: paths(&["client_id", "azp"]),
        }
    }
}

/// Reads a payload: one JSON object with unique members.
///
/// # Errors
///
/// [`VerifyError::ClaimsMalformed`].
pub fn read(payload: &[u8]) -> Result<Map<String, Value>, VerifyError> {
    strict_json::read_object(payload).map_err(|_| VerifyError::ClaimsMalformed)
}

/// `iss`: one string (RFC 7519 §4.1.1). An array, of which one element fits, is none.
///
/// # Errors
///
/// [`VerifyError::IssuerMissing`].
pub fn issuer(claims: &Map<String, Value>) -> Result<&str, VerifyError> {
    claims.get("iss").and_then(Value::as_str).ok_or(VerifyError::IssuerMissing)
}

/// Whether the header's `typ` fits the profile (RFC 9068 §4, RFC 8725 §3.11).
///
/// # Errors
///
/// [`VerifyError::TokenType`].
pub fn check_kind(kind: Kind, profile: Profile) -> Result<(), VerifyError> {
    let fits = match (profile, kind) {
        (Profile::Default, Kind::AccessToken | Kind::Jwt | Kind::Unstated)
        | (Profile::IdToken, Kind::Jwt | Kind::Unstated)
        | (Profile::Rfc9068, Kind::AccessToken) => true,
        (Profile::Default, Kind::Other)
        | (Profile::IdToken, Kind::AccessToken | Kind::Other)
        | (Profile::Rfc9068, Kind::Jwt | Kind::Other | Kind::Unstated) => false,
    };
    if fits { Ok(()) } else { Err(VerifyError::TokenType) }
}

/// Holds `claims` against `settings` at the time `now`. All rules but those of header and signature.
///
/// # Errors
///
/// The first rule that is broken, in the order: issuer, kind of token, sender constraint, times, audience, subject, client, profile.
pub fn check(claims: &Map<String, Value>, settings: &IssuerSettings, now: WallTime) -> Result<Accepted, VerifyError> {
    // Compared as bytes: URL normalisation would let `https://idp/` and `https://idp` be one issuer (OpenID Connect Discovery §4.3).
    if issuer(claims)? != &*settings.issuer {
        return Err(VerifyError::UnknownIssuer);
    }
    check_is_access_token(claims, settings.profile)?;
    // A token bound to a key (RFC 7800 §3.1) is worth nothing without proof of that key: taking it as a plain bearer token would undo the
    // binding (RFC 9449 §7.2, RFC 8705 §3).
    if claims.contains_key("cnf") {
        return Err(VerifyError::SenderConstrained);
    }
    let times = Times::read(claims)?;
    times.check(settings, now)?;
    let audiences = audiences(claims, &settings.claims.audience)?;
    if !audiences.iter().any(|audience| settings.audiences.contains(audience)) {
        return Err(VerifyError::AudienceOther);
    }
    let subject = subject(claims, &settings.claims.subject)?;
    let client = client(claims, &settings.claims.client)?;
    if settings.profile == Profile::Rfc9068 {
        check_has_all_of_rfc_9068(claims)?;
    }
    let leeway = settings.leeway.as_secs();
    Ok(Accepted {
        subject,
        client,
        scopes: united(claims, &settings.claims.scopes),
        roles: united(claims, &settings.claims.roles),
        audiences,
        valid_from: WallTime::from_seconds(times.starts().saturating_sub(leeway)),
        expires_at: WallTime::from_seconds(times.expires.saturating_add(leeway)),
    })
}

/// Refuses what the same issuer signs with the same keys, but for another purpose (RFC 8725 §2.8, RFC 9068 §5).
fn check_is_access_token(claims: &Map<String, Value>, profile: Profile) -> Result<(), VerifyError> {
    let says = |claim: &str, wanted: &[&str]| {
        let said = claims.get(claim).and_then(Value::as_str);
        said.is_some_and(|said| wanted.iter().any(|wanted| said.eq_ignore_ascii_case(wanted)))
    };
    // Whatever the profile: refresh tokens, and logout tokens and security events, which alone have `events` (OpenID Connect Back-Channel
    // Logout §2.4, RFC 8417 §2.2).
    if says("typ", &["Refresh", "Offline", "Logout"]) || claims.contains_key("events") {
        return Err(VerifyError::IdToken);
    }
    match profile {
        Profile::IdToken => Ok(()),
        Profile::Default | Profile::Rfc9068 => {
            let of_id_tokens_only = ["nonce", "at_hash", "c_hash"];
            let is_id_token = says("typ", &["ID"])
                || says("token_use", &["id"])
                || of_id_tokens_only.iter().any(|claim| claims.contains_key(*claim));
            if is_id_token { Err(VerifyError::IdToken) } else { Ok(()) }
        }
    }
}

/// Times of a token, in whole seconds, rounded to the stricter side.
struct Times {
    expires: u64,
    not_before: Option<u64>,
    issued: Option<u64>,
}

impl Times {
    fn read(claims: &Map<String, Value>) -> Result<Self, VerifyError> {
        Ok(Self {
            expires: seconds(claims, "exp", f64::floor)?.ok_or(VerifyError::RequiredClaimMissing { claim: "exp" })?,
            not_before: seconds(claims, "nbf", f64::ceil)?,
            issued: seconds(claims, "iat", f64::ceil)?,
        })
    }

    fn check(&self, settings: &IssuerSettings, now: WallTime) -> Result<(), VerifyError> {
        let leeway = settings.leeway.as_secs();
        let latest_start = now.seconds().saturating_add(leeway);
        // "On or after" `exp` is too late (RFC 7519 §4.1.4).
        if now.seconds() >= self.expires.saturating_add(leeway) {
            return Err(VerifyError::Expired { ago_seconds: now.seconds().saturating_sub(self.expires) });
        }
        if self.not_before.is_some_and(|not_before| not_before > latest_start) {
            return Err(VerifyError::NotYetValid);
        }
        if self.issued.is_some_and(|issued| issued > latest_start) {
            return Err(VerifyError::IssuedInFuture);
        }
        let Some(longest) = settings.max_lifetime else { return Ok(()) };
        // A token may be over by its own account and live on in the leeway, with an `iat` behind its `exp`. Where lifetimes are bounded, times
        // have to make sense among themselves; and without `iat` nobody can tell the lifetime, which is then too long.
        if self.not_before.is_some_and(|start| self.expires <= start) || self.issued > Some(self.expires) {
            return Err(VerifyError::TimesContradict);
        }
        match self.issued {
            Some(issued) if self.expires - issued <= longest.as_secs() => Ok(()),
            Some(_) | None => Err(VerifyError::LifetimeTooLong),
        }
    }

    fn starts(&self) -> u64 {
        self.not_before.unwrap_or(0).max(self.issued.unwrap_or(0))
    }
}

/// A `NumericDate` (RFC 7519 §2): a number, not negative. A fraction is rounded as told; what is beyond 64 bits becomes the last second
/// there is.
fn seconds(
    claims: &Map<String, Value>,
    claim: &'static str,
    round: fn(f64) -> f64,
) -> Result<Option<u64>, VerifyError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    if let Some(whole) = value.as_u64() {
        return Ok(Some(whole));
    }
    match value.as_f64() {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and `as` stops at the bounds"
        )]
        Some(number) if number.is_finite() && number >= 0.0 => Ok(Some(round(number) as u64)),
        Some(_) | None => Err(VerifyError::ClaimType { claim }),
    }
}

/// RFC 7519 §4.1.3: a string or an array of strings, and at least one.
fn audiences(claims: &Map<String, Value>, sources: &[ClaimPath]) -> Result<Vec<String>, VerifyError> {
    match first(claims, sources).ok_or(VerifyError::AudienceMissing)? {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(items) if items.is_empty() => Err(VerifyError::AudienceMissing),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or(VerifyError::AudienceMalformed))
            .collect::<Result<_, _>>(),
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::Object(_) => Err(VerifyError::AudienceMalformed),
    }
}

/// Longest subject, in bytes: what an identity header can hold. OpenID Connect Core §2 allows 255 characters.
const MAX_SUBJECT_BYTES: usize = 4 * 1024;

fn subject(claims: &Map<String, Value>, sources: &[ClaimPath]) -> Result<String, VerifyError> {
    let subject = first(claims, sources).and_then(Value::as_str).ok_or(VerifyError::SubjectMissing)?;
    if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES || subject.chars().any(char::is_control) {
        return Err(VerifyError::SubjectMissing);
    }
    Ok(subject.to_owned())
}

fn client(claims: &Map<String, Value>, sources: &[ClaimPath]) -> Result<Option<String>, VerifyError> {
    match first(claims, sources) {
        None => Ok(None),
        Some(Value::String(client)) => Ok((!client.is_empty()).then(|| client.clone())),
        Some(_) => Err(VerifyError::ClaimType { claim: "client" }),
    }
}

/// RFC 9068 §2.2; `iss`, `exp` and `sub` are looked at elsewhere, which may have been told to read another claim.
fn check_has_all_of_rfc_9068(claims: &Map<String, Value>) -> Result<(), VerifyError> {
    for claim in ["aud", "iat"] {
        if !claims.contains_key(claim) {
            return Err(VerifyError::RequiredClaimMissing { claim });
        }
    }
    for claim in ["sub", "client_id", "jti"] {
        match claims.get(claim) {
            None => return Err(VerifyError::RequiredClaimMissing { claim }),
            Some(Value::String(text)) if !text.is_empty() => {}
            Some(_) => return Err(VerifyError::ClaimType { claim }),
        }
    }
    Ok(())
}

fn first<'a>(claims: &'a Map<String, Value>, sources: &[ClaimPath]) -> Option<&'a Value> {
    sources.iter().find_map(|path| path.find(claims))
}

/// All names that the claims hold: a string is split at spaces (RFC 6749 §3.3), an array gives its strings, an object its keys. Anything else
/// gives nothing, which is never more than it should.
fn united(claims: &Map<String, Value>, sources: &[ClaimPath]) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for value in sources.iter().filter_map(|path| path.find(claims)) {
        match value {
            Value::String(text) => names.extend(text.split(' ').map(Box::from)),
            Value::Array(items) => names.extend(items.iter().filter_map(Value::as_str).map(Box::from)),
            Value::Object(members) => names.extend(members.keys().map(|name| Box::from(name.as_str()))),
            Value::Bool(_) | Value::Null | Value::Number(_) => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names.sort_unstable();
    names.dedup();
    names
}

/// The longest that a verdict may be kept, whatever `exp` says: bounds what arithmetic on foreign numbers can do.
pub(super) const MAX_TRUST: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
