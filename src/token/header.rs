//! JOSE header (RFC 7515 §4): which algorithm and which key a token claims to be signed with.
//!
//! Nothing in it is trusted yet. Keys that a header contains (`jwk`, `x5c`) or points to (`jku`,
//! `x5u`) are neither used nor fetched (RFC 8725 §3.10).

use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use super::error::VerifyError;
use super::jwk::MAX_KID_BYTES;
use super::strict_json;

/// The members of a header that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// `alg`.
    pub algorithm: Algorithm,
    /// `kid`: an opaque string.
    pub kid: Option<String>,
    /// `typ`.
    pub token_type: TokenType,
}

/// A header's `typ` (RFC 7515 §4.1.9), compared without regard to case. `application/` may be left
/// out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenType {
    /// `at+jwt` (RFC 9068 §2.1).
    AccessToken,
    /// `JOSE` (RFC 7515 §4.1.9), which says no more than that the token is a compact JWS.
    Jose,
    /// `JWT` (RFC 7519 §5.1).
    Jwt,
    /// Anything else, such as a DPoP proof (RFC 9449 §4.2), a logout token or a security event.
    Other,
    /// No `typ`.
    Absent,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`VerifyError::HeaderMalformed`]; [`VerifyError::CriticalExtension`] for any `crit` or
    /// `b64`; [`VerifyError::Encrypted`] for `enc` or `zip`; [`VerifyError::TokenTypeNotAllowed`]
    /// for a token nested in a token; [`VerifyError::AlgorithmNotAllowed`] for an algorithm that is
    /// not supported.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, VerifyError> {
        let members = strict_json::read_object(bytes).map_err(|_| VerifyError::HeaderMalformed)?;
        let has = |name: &str| members.contains_key(name);
        // No extension is implemented, so a critical one must be refused (RFC 7515 §4.1.11), and so
        // must `b64`, which changes what is signed.
        if has("crit") || has("b64") {
            return Err(VerifyError::CriticalExtension);
        }
        if has("enc") || has("zip") {
            return Err(VerifyError::Encrypted);
        }
        if text(&members, "cty")?.is_some_and(|cty| without_prefix(cty).eq_ignore_ascii_case("jwt")) {
            return Err(VerifyError::TokenTypeNotAllowed);
        }
        let algorithm = text(&members, "alg")?.ok_or(VerifyError::HeaderMalformed)?;
        let algorithm = Algorithm::parse(algorithm).ok_or(VerifyError::AlgorithmNotAllowed)?;
        let kid = text(&members, "kid")?;
        if kid.is_some_and(|kid| kid.len() > MAX_KID_BYTES) {
            return Err(VerifyError::HeaderMalformed);
        }
        Ok(Self { algorithm, kid: kid.map(str::to_owned), token_type: TokenType::of(text(&members, "typ")?) })
    }
}

impl TokenType {
    fn of(typ: Option<&str>) -> Self {
        let Some(typ) = typ else { return Self::Absent };
        let typ = without_prefix(typ);
        if typ.eq_ignore_ascii_case("at+jwt") {
            Self::AccessToken
        } else if typ.eq_ignore_ascii_case("jose") {
            Self::Jose
        } else if typ.eq_ignore_ascii_case("jwt") {
            Self::Jwt
        } else {
            Self::Other
        }
    }
}

fn without_prefix(media_type: &str) -> &str {
    const PREFIX: &str = "application/";
    match media_type.get(..PREFIX.len()) {
        Some(start) if start.eq_ignore_ascii_case(PREFIX) => &media_type[PREFIX.len()..],
        Some(_) | None => media_type,
    }
}

/// A member that must be a string if it is present.
fn text<'a>(members: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, VerifyError> {
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(VerifyError::HeaderMalformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rs256(key: Option<&str>, token_type: TokenType) -> Header {
        Header { algorithm: Algorithm::Rs256, kid: key.map(str::to_owned), token_type }
    }

    /// Threats J-01, J-09 … J-13, J-15, J-17, A09, A19; RFC 7515 §4.
    #[test]
    fn a_header_is_read_strictly() {
        use VerifyError::{AlgorithmNotAllowed, CriticalExtension, Encrypted, HeaderMalformed, TokenTypeNotAllowed};
        for (text, expected) in [
            (r#"{"alg":"RS256"}"#, Ok(rs256(None, TokenType::Absent))),
            (r#"{ "alg" : "RS256", "typ" : "JWT", "kid" : "a/b+c=" }"#, Ok(rs256(Some("a/b+c="), TokenType::Jwt))),
            (r#"{"alg":"RS256","kid":"\u006b1"}"#, Ok(rs256(Some("k1"), TokenType::Absent))),
            (r#"{"alg":"RS256","typ":"at+jwt"}"#, Ok(rs256(None, TokenType::AccessToken))),
            (r#"{"alg":"RS256","typ":"AT+JWT"}"#, Ok(rs256(None, TokenType::AccessToken))),
            (r#"{"alg":"RS256","typ":"Application/AT+jwt"}"#, Ok(rs256(None, TokenType::AccessToken))),
            (r#"{"alg":"RS256","typ":"application/jwt"}"#, Ok(rs256(None, TokenType::Jwt))),
            (r#"{"alg":"RS256","typ":"JOSE"}"#, Ok(rs256(None, TokenType::Jose))),
            (r#"{"alg":"RS256","typ":"JOSE+JSON"}"#, Ok(rs256(None, TokenType::Other))),
            (r#"{"alg":"RS256","typ":"dpop+jwt"}"#, Ok(rs256(None, TokenType::Other))),
            (r#"{"alg":"RS256","typ":"logout+jwt"}"#, Ok(rs256(None, TokenType::Other))),
            (r#"{"alg":"RS256","typ":"secevent+jwt"}"#, Ok(rs256(None, TokenType::Other))),
            (r#"{"alg":"RS256","typ":"application/"}"#, Ok(rs256(None, TokenType::Other))),
            (r#"{"alg":"RS256","typ":"octet-streamat+jwt"}"#, Ok(rs256(None, TokenType::Other))),
            (r#"{"alg":"RS256","typ":""}"#, Ok(rs256(None, TokenType::Other))),
            (
                r#"{"alg":"RS256","cty":"json","gty":["x"],"x5c":["AA"],"jku":"http://127.0.0.1/"}"#,
                Ok(rs256(None, TokenType::Absent)),
            ),
            (r#"{"alg":"RS256","typ":null}"#, Err(HeaderMalformed)),
            (r#"{"alg":"RS256","typ":["JWT"]}"#, Err(HeaderMalformed)),
            (r#"{"alg":"none"}"#, Err(AlgorithmNotAllowed)),
            (r#"{"alg":"HS256"}"#, Err(AlgorithmNotAllowed)),
            (r#"{"alg":"rs256"}"#, Err(AlgorithmNotAllowed)),
            (r#"{"alg":"PBES2-HS256+A128KW","p2c":2147483647}"#, Err(AlgorithmNotAllowed)),
            (r#"{"alg":256}"#, Err(HeaderMalformed)),
            (r#"{"alg":null}"#, Err(HeaderMalformed)),
            (r#"{"alg":["RS256"]}"#, Err(HeaderMalformed)),
            (r#"{"typ":"JWT"}"#, Err(HeaderMalformed)),
            (r#"{"alg":"RS256","kid":7}"#, Err(HeaderMalformed)),
            (r#"{"alg":"RS256","kid":null}"#, Err(HeaderMalformed)),
            (r#"{"alg":"RS256","crit":["exp"]}"#, Err(CriticalExtension)),
            (r#"{"alg":"RS256","crit":[]}"#, Err(CriticalExtension)),
            (r#"{"alg":"RS256","crit":null}"#, Err(CriticalExtension)),
            (r#"{"alg":"RS256","b64":false}"#, Err(CriticalExtension)),
            (r#"{"alg":"RS256","b64":true}"#, Err(CriticalExtension)),
            (r#"{"alg":"RS256","b64":"false"}"#, Err(CriticalExtension)),
            (r#"{"alg":"RS256","zip":"DEF"}"#, Err(Encrypted)),
            (r#"{"alg":"dir","enc":"A256GCM"}"#, Err(Encrypted)),
            (r#"{"alg":"RS256","cty":"JWT"}"#, Err(TokenTypeNotAllowed)),
            (r#"{"alg":"RS256","alg":"RS256"}"#, Err(HeaderMalformed)),
            (r#"{"alg":"RS256","x":1,"x":1}"#, Err(HeaderMalformed)),
            ("[]", Err(HeaderMalformed)),
            ("\"RS256\"", Err(HeaderMalformed)),
            ("1", Err(HeaderMalformed)),
            ("{}", Err(HeaderMalformed)),
            ("", Err(HeaderMalformed)),
            (r#"{"alg":"RS256"}x"#, Err(HeaderMalformed)),
        ] {
            assert_eq!(Header::read(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn a_key_id_is_bounded() {
        let with_kid =
            |bytes: usize| Header::read(format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(bytes)).as_bytes());
        assert!(with_kid(MAX_KID_BYTES).is_ok());
        assert_eq!(with_kid(MAX_KID_BYTES + 1), Err(VerifyError::HeaderMalformed));
    }
}
