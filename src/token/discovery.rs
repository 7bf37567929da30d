//! Discovery (OpenID Connect Discovery 1.0 §4, RFC 8414 §3): from an issuer to the URL of its keys.
//!
//! Reads only two members of the discovery document. The document decides where keys come from, so
//! its `jwks_uri` must pass several rules before anything is sent there: neither an issuer nor
//! someone who impersonates it may make the gateway call internal machines.

use serde_json::Value;
use url::Url;

use super::error::KeyError;
use super::provider_document::{self, DocumentFault};
use crate::outbound::{AddressScope, UrlPolicy};
use crate::primitives::escape::escape_for_log;

/// Where an issuer publishes its discovery document: the issuer with the well-known path appended
/// (OpenID Connect Discovery §4). Exactly one slash separates the two, whether or not the issuer
/// ends with one (§4.1).
#[must_use]
pub(crate) fn document_url(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer))
}

/// Reads the discovery document of `issuer`, fetched from `source`, and returns the URL of its
/// keys, which `url_policy` allows.
///
/// # Errors
///
/// [`KeyError::DiscoveryMalformed`]; [`KeyError::IssuerDiffers`] unless the document's `issuer` is
/// the same, byte for byte (RFC 8414 §3.3); [`KeyError::JwksUriRefused`].
pub(crate) fn jwks_uri(document: &[u8], issuer: &str, source: &Url, url_policy: UrlPolicy) -> Result<Url, KeyError> {
    let document = provider_document::read(document).map_err(KeyError::DiscoveryMalformed)?;
    let malformed = KeyError::DiscoveryMalformed(DocumentFault::Members);
    let text = |member: &str| document.get(member).and_then(Value::as_str).ok_or_else(|| malformed.clone());
    let found = text("issuer")?;
    if found != issuer {
        let only_slash = found.strip_suffix('/') == Some(issuer) || issuer.strip_suffix('/') == Some(found);
        return Err(KeyError::IssuerDiffers { found: escape_for_log(found), only_slash });
    }
    let refused = |reason| Err(KeyError::JwksUriRefused { reason });
    let Ok(uri) = Url::parse(text("jwks_uri")?) else { return refused("it is not a URL") };
    if !url_policy.allows(&uri) {
        return refused("it is not https");
    }
    if !uri.username().is_empty() || uri.password().is_some() {
        return refused("it contains a user name or password");
    }
    // An issuer in a private network may have its keys there too, but a public one may not.
    let scope = AddressScope::of(&uri);
    if uri.host() != source.host() && scope != AddressScope::Public && scope != AddressScope::of(source) {
        return refused("it is an internal address");
    }
    Ok(uri)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://idp.test/realms/shop";

    fn read(issuer: &str, source: &str, document: &str) -> Result<String, KeyError> {
        let source = Url::parse(source).unwrap();
        jwks_uri(document.as_bytes(), issuer, &source, UrlPolicy::of(&source, true).unwrap()).map(String::from)
    }

    /// OpenID Connect Discovery §4.
    #[test]
    fn the_document_is_below_the_issuer() {
        for (issuer, expected) in [
            ("https://idp.test", "https://idp.test/.well-known/openid-configuration"),
            ("https://idp.test/", "https://idp.test/.well-known/openid-configuration"),
            (ISSUER, "https://idp.test/realms/shop/.well-known/openid-configuration"),
            ("http://127.0.0.1:81/a/", "http://127.0.0.1:81/a/.well-known/openid-configuration"),
        ] {
            assert_eq!(document_url(issuer), expected, "{issuer}");
        }
    }

    /// Threat J-66; RFC 8414 §3.3.
    #[test]
    fn refuses_the_document_of_another_issuer() {
        let document = |issuer: &str| format!(r#"{{"issuer":"{issuer}","jwks_uri":"https://idp.test/keys"}}"#);
        let source = "https://idp.test/realms/shop/.well-known/openid-configuration";
        assert_eq!(read(ISSUER, source, &document(ISSUER)), Ok("https://idp.test/keys".to_owned()));
        for (found, only_slash) in [
            ("https://idp.test/realms/shop/", true),
            ("https://idp.test/realms/SHOP", false),
            ("https://IDP.test/realms/shop", false),
            ("https://idp.test:443/realms/shop", false),
            ("http://idp.test/realms/shop", false),
            ("https://idp.test/realms", false),
            ("", false),
        ] {
            let expected = KeyError::IssuerDiffers { found: found.to_owned(), only_slash };
            assert_eq!(read(ISSUER, source, &document(found)), Err(expected), "{found}");
        }
        for malformed in [
            "{}",
            r#"{"issuer":7,"jwks_uri":"https://idp.test/keys"}"#,
            r#"{"issuer":"https://idp.test/realms/shop"}"#,
            r#"{"issuer":"https://idp.test/realms/shop","jwks_uri":["https://idp.test/keys"]}"#,
            r#"{"issuer":null,"jwks_uri":"https://idp.test/keys"}"#,
        ] {
            let expected = Err(KeyError::DiscoveryMalformed(DocumentFault::Members));
            assert_eq!(read(ISSUER, source, malformed), expected, "{malformed}");
        }
        for malformed in [
            "",
            "[]",
            r#"{"issuer":"https://evil.test","issuer":"https://idp.test/realms/shop","jwks_uri":"https://idp.test/keys"}"#,
        ] {
            let expected = Err(KeyError::DiscoveryMalformed(DocumentFault::NotAnObject));
            assert_eq!(read(ISSUER, source, malformed), expected, "{malformed}");
        }
    }

    /// Threat A36: a discovery document must not make the gateway call machines that only it can
    /// reach.
    #[test]
    fn refuses_a_jwks_uri_that_is_internal_or_insecure() {
        let public = "https://idp.test/";
        for (source, uri, accepted) in [
            (public, "https://idp.test/keys", true),
            (public, "https://idp.test:8443/keys", true),
            (public, "https://keys.example/certs", true),
            (public, "https://203.0.113.7/keys", true),
            (public, "http://idp.test/keys", false),
            (public, "http://127.0.0.1/keys", false),
            (public, "https://127.0.0.1/keys", false),
            (public, "https://localhost/keys", false),
            (public, "https://x.localhost./keys", false),
            (public, "https://[::1]/keys", false),
            (public, "https://[::ffff:127.0.0.1]/keys", false),
            (public, "https://2130706433/keys", false),
            (public, "https://0x7f.1/keys", false),
            (public, "https://0.0.0.0/keys", false),
            (public, "https://169.254.169.254/latest", false),
            (public, "https://[fe80::1]/keys", false),
            (public, "https://10.1.2.3/keys", false),
            (public, "https://172.16.0.1/keys", false),
            (public, "https://192.168.0.1/keys", false),
            (public, "https://100.64.0.1/keys", false),
            (public, "https://[fd00::1]/keys", false),
            (public, "https://user@idp.test/keys", false),
            (public, "https://user:pass@idp.test/keys", false),
            (public, "file:///etc/passwd", false),
            (public, "data:application/json,{}", false),
            (public, "/keys", false),
            ("http://127.0.0.1:81/", "http://127.0.0.1:82/keys", true),
            ("http://127.0.0.1:81/", "http://localhost:82/keys", true),
            ("http://127.0.0.1:81/", "http://10.0.0.1/keys", false),
            ("http://127.0.0.1:81/", "https://169.254.169.254/keys", false),
            ("http://keycloak:8080/", "http://keycloak:8080/keys", true),
            ("http://keycloak:8080/", "http://keys:8080/keys", true),
            ("http://keycloak:8080/", "https://keycloak/keys", true),
            ("http://keycloak:8080/", "http://127.0.0.1/keys", false),
            ("http://keycloak:8080/", "http://169.254.169.254/keys", false),
            ("http://keycloak:8080/", "ftp://keycloak/keys", false),
            ("https://10.0.0.1/", "https://10.0.0.1/keys", true),
            ("https://10.0.0.1/", "http://10.0.0.1/keys", false),
            ("https://10.0.0.1/", "https://10.0.0.2/keys", true),
            ("https://10.0.0.1/", "https://127.0.0.1/keys", false),
            ("https://10.0.0.1/", "https://keys.example/certs", true),
        ] {
            let document = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{uri}"}}"#);
            assert_eq!(read(ISSUER, source, &document).is_ok(), accepted, "{source} → {uri}");
        }
    }
}
