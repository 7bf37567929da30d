//! Discovery (OpenID Connect Discovery 1.0 §4, RFC 8414 §3): from an issuer's metadata to the address of its keys.
//!
//! Only two members are read. The document decides where keys come from, so that address is held against rules before anything is sent
//! there: an issuer, or who speaks for it, must not make the gateway call machines behind it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::Value;
use url::{Host, Url};

use super::error::{KeyError, shown};
use super::strict_json;

/// Where an issuer publishes its metadata: its own address with the well-known path behind it (OpenID Connect Discovery §4).
///
/// `None` if the issuer is no URL that can have a path.
#[must_use]
pub fn well_known(issuer: &str) -> Option<Url> {
    // One slash between the two, whether or not the issuer ends with one (§4.1).
    let address = format!("{}/.well-known/openid-configuration", issuer.strip_suffix('/').unwrap_or(issuer));
    Url::parse(&address).ok().filter(Url::has_host)
}

/// Whether keys may be fetched from there: by https, or by http from the machine itself.
#[must_use]
pub fn is_secure(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => Reach::of(url) == Reach::Loopback,
        _ => false,
    }
}

/// Reads the document that `source` gave for `issuer`, and returns the address of its keys.
///
/// # Errors
///
/// [`KeyError::DiscoveryMalformed`], [`KeyError::IssuerDiffers`] unless `issuer` in it is the same byte for byte (RFC 8414 §3.3),
/// [`KeyError::JwksUriRefused`].
pub fn jwks_uri(document: &[u8], issuer: &str, source: &Url) -> Result<Url, KeyError> {
    let document = strict_json::read_object(document).map_err(|_| KeyError::DiscoveryMalformed)?;
    let text = |member: &str| document.get(member).and_then(Value::as_str).ok_or(KeyError::DiscoveryMalformed);
    let found = text("issuer")?;
    if found != issuer {
        let only_slash = found.strip_suffix('/') == Some(issuer) || issuer.strip_suffix('/') == Some(found);
        return Err(KeyError::IssuerDiffers { found: shown(found), only_slash });
    }
    let refused = |why| Err(KeyError::JwksUriRefused { why });
    let Ok(uri) = Url::parse(text("jwks_uri")?) else { return refused("it is no URL") };
    if !is_secure(&uri) {
        return refused("it is not https");
    }
    if !uri.username().is_empty() || uri.password().is_some() {
        return refused("it has a user name or a password in it");
    }
    let reach = Reach::of(&uri);
    if uri.host() != source.host() && reach != Reach::Public && reach != Reach::of(source) {
        return refused("it leads to an internal address");
    }
    Ok(uri)
}

/// From where an address can be reached, as far as its text tells. A name in the DNS may lead anywhere, but then a certificate for that name
/// is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The local segment; also where cloud providers put the metadata of a machine.
    LinkLocal,
    /// The machine itself.
    Loopback,
    /// Private networks.
    Private,
    /// Everywhere.
    Public,
    /// No address of one machine.
    Special,
}

impl Reach {
    fn of(url: &Url) -> Self {
        match url.host() {
            Some(Host::Domain(name)) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                // RFC 6761 §6.3.
                if name == "localhost" || name.ends_with(".localhost") { Self::Loopback } else { Self::Public }
            }
            Some(Host::Ipv4(address)) => Self::of_v4(address),
            Some(Host::Ipv6(address)) => match IpAddr::V6(address).to_canonical() {
                IpAddr::V4(address) => Self::of_v4(address),
                IpAddr::V6(address) => Self::of_v6(address),
            },
            None => Self::Special,
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [first, second, ..] = address.octets();
        // RFC 6598: 100.64.0.0/10 is shared behind a provider's translation.
        let is_shared = first == 100 && second & 0xc0 == 64;
        if address.is_loopback() {
            Self::Loopback
        } else if address.is_link_local() {
            Self::LinkLocal
        } else if address.is_private() || is_shared {
            Self::Private
        } else if first == 0 || address.is_multicast() || address.is_broadcast() {
            Self::Special
        } else {
            Self::Public
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_loopback() {
            Self::Loopback
        } else if address.is_unicast_link_local() {
            Self::LinkLocal
        } else if address.is_unique_local() {
            Self::Private
        } else if address.is_unspecified() || address.is_multicast() {
            Self::Special
        } else {
            Self::Public
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://idp.test/realms/shop";

    fn read(issuer: &str, source: &str, document: &str) -> Result<String, KeyError> {
        jwks_uri(document.as_bytes(), issuer, &Url::parse(source).unwrap()).map(String::from)
    }

    /// OpenID Connect Discovery §4.
    #[test]
    fn the_document_is_below_the_issuer() {
        for (issuer, expected) in [
            ("https://idp.test", Some("https://idp.test/.well-known/openid-configuration")),
            ("https://idp.test/", Some("https://idp.test/.well-known/openid-configuration")),
            (ISSUER, Some("https://idp.test/realms/shop/.well-known/openid-configuration")),
            ("http://127.0.0.1:81/a/", Some("http://127.0.0.1:81/a/.well-known/openid-configuration")),
            ("acme.com", None),
            ("", None),
        ] {
            assert_eq!(well_known(issuer).map(String::from).as_deref(), expected, "{issuer}");
        }
    }

    /// Threat J-66; RFC 8414 §3.3.
    #[test]
    fn a_document_of_another_issuer_is_not_used() {
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
            "",
            "[]",
            "{}",
            r#"{"issuer":7,"jwks_uri":"https://idp.test/keys"}"#,
            r#"{"issuer":"https://idp.test/realms/shop"}"#,
            r#"{"issuer":"https://idp.test/realms/shop","jwks_uri":["https://idp.test/keys"]}"#,
            r#"{"issuer":"https://evil.test","issuer":"https://idp.test/realms/shop","jwks_uri":"https://idp.test/keys"}"#,
        ] {
            assert_eq!(read(ISSUER, source, malformed), Err(KeyError::DiscoveryMalformed), "{malformed}");
        }
    }

    /// Threat A36: an address in a document must not lead the gateway to machines that only it can reach.
    #[test]
    fn keys_come_from_where_they_may() {
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
            ("https://10.0.0.1/", "https://10.0.0.1/keys", true),
            ("https://10.0.0.1/", "https://10.0.0.2/keys", true),
            ("https://10.0.0.1/", "https://127.0.0.1/keys", false),
        ] {
            let document = format!(r#"{{"issuer":"{ISSUER}","jwks_uri":"{uri}"}}"#);
            assert_eq!(read(ISSUER, source, &document).is_ok(), accepted, "{source} → {uri}");
        }
    }
}
