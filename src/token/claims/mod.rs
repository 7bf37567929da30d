//! Claims (RFC 7519 §4): checks what a token says against the issuer's settings and the time.
//!
//! These checks run before the signature is verified, so no claim can be trusted yet. A claim that
//! is null counts as absent. A claim with another wrong type makes the token invalid and never
//! counts as absent, except for scopes and roles.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::claim_path::ClaimPath;
use super::error::VerifyError;
use super::header::TokenType;
use super::principal::Binding;
use super::strict_json;
use super::{IssuerSettings, Profile};
use crate::primitives::clock::WallTime;

/// Which claims provide the parts of a [`Principal`](super::Principal).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSources {
    /// The first path that is present counts.
    pub subject: Vec<ClaimPath>,
    /// The scopes of all paths are combined.
    pub scopes: Vec<ClaimPath>,
    /// The roles of all paths are combined.
    pub roles: Vec<ClaimPath>,
    /// The first path that is present counts.
    pub audience: Vec<ClaimPath>,
    /// The first path that is present counts.
    pub client: Vec<ClaimPath>,
}

/// The content of claims that passed every check in this module. Proves nothing without the
/// signature.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ValidatedClaims {
    /// Never empty.
    pub subject: String,
    /// The client the token was issued to.
    pub client: Option<String>,
    /// Sorted, without duplicates.
    pub scopes: Vec<Box<str>>,
    /// Sorted, without duplicates.
    pub roles: Vec<Box<str>>,
    /// In the order of the token.
    pub audiences: Vec<String>,
    /// When the token becomes valid, the leeway included.
    pub valid_from: WallTime,
    /// When the token stops being valid, the leeway included.
    pub expires_at: WallTime,
    /// The `exp` of the token.
    pub exp: WallTime,
    /// What the sender must prove besides.
    pub binding: Binding,
}

impl Default for ClaimSources {
    /// `sub`; `scope` and `scp`; no roles; `aud`; `client_id` or `azp`.
    fn default() -> Self {
        let paths = |names: &[&str]| {
            names.iter().map(|name| ClaimPath::parse(name).expect("a plain name is a valid path")).collect::<Vec<_>>()
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

/// Parses a payload: one JSON object with unique members. Members that are null are removed, so
/// that whatever reads a claim sees them as absent.
///
/// # Errors
///
/// [`VerifyError::ClaimsMalformed`].
pub(crate) fn read(payload: &[u8]) -> Result<Map<String, Value>, VerifyError> {
    let mut claims = strict_json::read_object(payload).map_err(|_| VerifyError::ClaimsMalformed)?;
    strict_json::remove_nulls(&mut claims);
    Ok(claims)
}

/// The `iss` claim: a string (RFC 7519 §4.1.1). An array is refused even if one element matches.
///
/// # Errors
///
/// [`VerifyError::IssuerMissing`].
pub(crate) fn issuer(claims: &Map<String, Value>) -> Result<&str, VerifyError> {
    claims.get("iss").and_then(Value::as_str).ok_or(VerifyError::IssuerMissing)
}

/// Checks that the profile allows the header's `typ` (RFC 9068 §4, RFC 8725 §3.11).
///
/// # Errors
///
/// [`VerifyError::TokenTypeNotAllowed`].
pub(crate) fn check_token_type(token_type: TokenType, profile: Profile) -> Result<(), VerifyError> {
    let is_allowed = match (profile, token_type) {
        (Profile::Default, TokenType::AccessToken | TokenType::Jose | TokenType::Jwt | TokenType::Absent)
        | (Profile::IdToken, TokenType::Jwt | TokenType::Absent)
        | (Profile::Rfc9068, TokenType::AccessToken) => true,
        (Profile::Default, TokenType::Other)
        | (Profile::IdToken, TokenType::AccessToken | TokenType::Jose | TokenType::Other)
        | (Profile::Rfc9068, TokenType::Jose | TokenType::Jwt | TokenType::Other | TokenType::Absent) => false,
    };
    if is_allowed { Ok(()) } else { Err(VerifyError::TokenTypeNotAllowed) }
}

/// Checks `claims` against `settings` at the time `now`: every rule except those on header and
/// signature. `token_type` is what the header says, which counts when the claims alone do not show
/// the kind of token.
///
/// # Errors
///
/// The first rule that is broken, in this order: issuer, kind of token, sender constraint, times,
/// audience, subject, client, profile.
pub(crate) fn check(
    claims: &Map<String, Value>,
    token_type: TokenType,
    settings: &IssuerSettings,
    now: WallTime,
) -> Result<ValidatedClaims, VerifyError> {
    // Compared as bytes: after URL normalization, `https://idp/` and `https://idp` would be the
    // same issuer (OpenID Connect Discovery §4.3).
    if issuer(claims)? != &*settings.issuer {
        return Err(VerifyError::UnknownIssuer);
    }
    check_is_access_token(claims, token_type, settings.profile)?;
    let binding = binding(claims)?;
    let validity = ValidityPeriod::read(claims)?;
    validity.check(settings, now)?;
    let audiences = audiences(claims, &settings.claims.audience)?;
    if !audiences.iter().any(|audience| settings.audiences.contains(audience)) {
        return Err(VerifyError::AudienceMismatch);
    }
    let subject = subject(claims, &settings.claims.subject)?;
    let client = client(claims, &settings.claims.client)?;
    if settings.profile == Profile::Rfc9068 {
        check_rfc_9068_claims(claims)?;
    }
    let leeway = settings.leeway.as_secs();
    Ok(ValidatedClaims {
        subject,
        client,
        scopes: collect_names(claims, &settings.claims.scopes),
        roles: collect_names(claims, &settings.claims.roles),
        audiences,
        valid_from: WallTime::from_seconds(validity.start().saturating_sub(leeway)),
        expires_at: WallTime::from_seconds(validity.expires.saturating_add(leeway)),
        exp: WallTime::from_seconds(validity.expires),
        binding,
    })
}

/// What the sender of the token must prove. A token that is bound to a key (RFC 7800 §3.1) requires
/// proof of possession of that key; accepting it as a bearer token would defeat the binding (RFC
/// 9449 §7.2, RFC 8705 §3). The gateway can check one kind of proof: the client's certificate.
fn binding(claims: &Map<String, Value>) -> Result<Binding, VerifyError> {
    let Some(confirmation) = claims.get("cnf") else { return Ok(Binding::Bearer) };
    // Another member beside it would be another key, and require a proof of its own.
    let only_member = confirmation.as_object().filter(|members| members.len() == 1);
    let thumbprint = only_member.and_then(|members| members.get("x5t#S256")?.as_str());
    let thumbprint = thumbprint.and_then(|text| URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok());
    thumbprint.map(Binding::Certificate).ok_or(VerifyError::SenderConstrained)
}

/// Refuses tokens that the same issuer signs with the same keys for another purpose (RFC 8725 §2.8,
/// RFC 9068 §5).
fn check_is_access_token(
    claims: &Map<String, Value>,
    token_type: TokenType,
    profile: Profile,
) -> Result<(), VerifyError> {
    let refused = |claim| Err(VerifyError::NotAnAccessToken { claim });
    let is_one_of = |claim: &str, values: &[&str]| {
        let text = claims.get(claim).and_then(Value::as_str);
        text.is_some_and(|text| values.iter().any(|value| text.eq_ignore_ascii_case(value)))
    };
    // No profile accepts refresh tokens, logout tokens or security events. Only the latter two have
    // `events` (OpenID Connect Back-Channel Logout §2.4, RFC 8417 §2.2).
    if is_one_of("typ", &["Refresh", "Offline", "Logout"]) {
        return refused("typ");
    }
    if claims.contains_key("events") {
        return refused("events");
    }
    match profile {
        Profile::IdToken => Ok(()),
        Profile::Default | Profile::Rfc9068 if is_one_of("typ", &["ID"]) => refused("typ"),
        Profile::Default | Profile::Rfc9068 if is_one_of("token_use", &["id"]) => refused("token_use"),
        Profile::Default | Profile::Rfc9068 => {
            // Only ID tokens have these (OpenID Connect Core §3.1.3.6, §3.3.2.11).
            if let Some(claim) = ["at_hash", "c_hash"].into_iter().find(|claim| claims.contains_key(*claim)) {
                return refused(claim);
            }
            // Several issuers copy `nonce` into access tokens as well, so a sign of an access token
            // outweighs it. Empty ones say nothing.
            let has_nonce = claims.get("nonce").is_some_and(|nonce| nonce != "");
            let is_access_token = token_type == TokenType::AccessToken
                || is_one_of("typ", &["Bearer"])
                || is_one_of("token_use", &["access"])
                || ["scope", "scp"].iter().any(|claim| claims.get(*claim).is_some_and(grants_a_scope));
            if has_nonce && !is_access_token { refused("nonce") } else { Ok(()) }
        }
    }
}

/// Whether the claim's value names a scope: text, or an array with some.
fn grants_a_scope(value: &Value) -> bool {
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    is_text(value) || value.as_array().is_some_and(|elements| elements.iter().any(is_text))
}

/// `exp`, `nbf` and `iat`, in whole seconds. Fractions are rounded so that the period gets shorter.
struct ValidityPeriod {
    expires: u64,
    not_before: Option<u64>,
    issued: Option<u64>,
}

impl ValidityPeriod {
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
        // A token is invalid "on or after" `exp` (RFC 7519 §4.1.4).
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
        // Within the leeway, a token may still be valid although its `iat` is after its `exp`. With
        // a bound on the lifetime, the times must be consistent. Without `iat`, the lifetime is
        // unknown and counts as too long.
        if self.not_before.is_some_and(|start| self.expires <= start) || self.issued > Some(self.expires) {
            return Err(VerifyError::InconsistentTimes);
        }
        match self.issued {
            Some(issued) if self.expires - issued <= longest.as_secs() => Ok(()),
            Some(_) | None => Err(VerifyError::LifetimeTooLong),
        }
    }

    fn start(&self) -> u64 {
        self.not_before.unwrap_or(0).max(self.issued.unwrap_or(0))
    }
}

/// A `NumericDate` (RFC 7519 §2): a number that is not negative. `round` removes the fraction. A
/// number beyond 64 bits becomes the largest one.
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
            reason = "the number is not negative, and `as` saturates"
        )]
        Some(number) if number.is_finite() && number >= 0.0 => Ok(Some(round(number) as u64)),
        Some(_) | None => Err(VerifyError::ClaimType { claim }),
    }
}

/// The audience: a string, or a non-empty array of strings (RFC 7519 §4.1.3).
fn audiences(claims: &Map<String, Value>, sources: &[ClaimPath]) -> Result<Vec<String>, VerifyError> {
    match first_present(claims, sources).ok_or(VerifyError::AudienceMissing)? {
        Value::String(one) => Ok(vec![one.clone()]),
        Value::Array(items) if items.is_empty() => Err(VerifyError::AudienceMissing),
        Value::Array(items) => items
            .iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or(VerifyError::AudienceMalformed))
            .collect::<Result<_, _>>(),
        Value::Bool(_) | Value::Null | Value::Number(_) | Value::Object(_) => Err(VerifyError::AudienceMalformed),
    }
}

/// Longest subject, in bytes: bounds the size of an identity header. OpenID Connect Core §2 allows
/// 255 characters.
const MAX_SUBJECT_BYTES: usize = 4 * 1024;

fn subject(claims: &Map<String, Value>, sources: &[ClaimPath]) -> Result<String, VerifyError> {
    let subject = first_present(claims, sources).ok_or(VerifyError::SubjectMissing)?;
    let subject = subject.as_str().ok_or(VerifyError::SubjectNotAString)?;
    if subject.is_empty() || subject.len() > MAX_SUBJECT_BYTES || subject.chars().any(char::is_control) {
        return Err(VerifyError::SubjectMissing);
    }
    Ok(subject.to_owned())
}

fn client(claims: &Map<String, Value>, sources: &[ClaimPath]) -> Result<Option<String>, VerifyError> {
    match first_present(claims, sources) {
        None => Ok(None),
        Some(Value::String(client)) => Ok((!client.is_empty()).then(|| client.clone())),
        Some(_) => Err(VerifyError::ClaimType { claim: "client" }),
    }
}

/// Checks that the claims required by RFC 9068 §2.2 are present. `iss` and `exp` have been checked
/// already. `sub` and `aud` are checked again, because the settings may name other claims for them.
fn check_rfc_9068_claims(claims: &Map<String, Value>) -> Result<(), VerifyError> {
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

fn first_present<'a>(claims: &'a Map<String, Value>, sources: &[ClaimPath]) -> Option<&'a Value> {
    sources.iter().find_map(|path| path.find(claims))
}

/// The names in all the claims, sorted and without duplicates. A string is split at spaces (RFC
/// 6749 §3.3), an array contributes its strings, and an object its keys. Any other type contributes
/// nothing: a malformed claim must not grant anything.
fn collect_names(claims: &Map<String, Value>, sources: &[ClaimPath]) -> Vec<Box<str>> {
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

/// Longest time that a verdict is cached, whatever `exp` says: keeps later arithmetic within safe
/// bounds.
pub(super) const MAX_VERDICT_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

#[cfg(test)]
mod tests;
