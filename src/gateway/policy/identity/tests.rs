//! Which names are owned, and how values are encoded.

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
