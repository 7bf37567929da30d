//! Classes of names in every spelling, and from whom each passes.

use super::*;

const TRUSTED: PeerTrust = PeerTrust::Trusted(ForwardingFamily::XForwarded);

fn name(text: &str) -> HeaderName {
    HeaderName::try_from(text).unwrap()
}

/// CVE-2025-64484 and similar: a backend that folds names treats an alias as the real header.
#[test]
fn a_name_has_its_class_in_every_spelling() {
    for (text, class) in [
        ("x-identity-subject", Class::Identity),
        ("X-IDENTITY-SUBJECT", Class::Identity),
        ("x_identity_subject", Class::Identity),
        ("x.identity-subject", Class::Identity),
        ("x-identity-", Class::Identity),
        ("x-identity", Class::Ordinary),
        ("xidentitysubject", Class::Ordinary),
        ("x_forwarded_for", Class::Forwarding),
        ("x.forwarded.host", Class::Forwarding),
        ("x-forwarded-prefix", Class::ForwardingExtension),
        ("X_Forwarded_Ssl", Class::ForwardingExtension),
        ("X_Original_URL", Class::Override),
        ("CF-Connecting-IP", Class::ProxyOnly),
        ("client_cert", Class::ClientCertificate),
        ("SSL-Client-Verify", Class::ClientCertificate),
        ("Remote_User", Class::ForeignIdentity),
        ("X-WEBAUTH-USER", Class::ForeignIdentity),
        ("SM_USER", Class::ForeignIdentity),
        ("x_http_method_override", Class::Override),
        ("x_request_id", Class::Message),
        ("transfer_encoding", Class::Connection),
        ("proxy_authorization", Class::HopByHop),
        ("x-forwarded", Class::ProxyOnly),
        ("x-other", Class::Ordinary),
        ("accept", Class::Ordinary),
    ] {
        assert_eq!(Class::of(&name(text)), class, "{text}");
    }
}

#[test]
fn an_alias_of_a_special_name_passes_from_no_peer() {
    for (text, untrusted, trusted) in [
        ("x-forwarded-prefix", false, true),
        ("x_forwarded_prefix", false, false),
        ("x-real-ip", false, true),
        ("x-real_ip", false, false),
        ("x-http-method-override", false, false),
        ("x_http_method_override", false, false),
        ("x-original-url", false, false),
        ("ssl-client-verify", false, true),
        ("ssl_client_verify", false, false),
        ("remote-user", false, false),
        ("remote_user", false, false),
        ("content_length", false, false),
        ("x-identity-roles", false, false),
        ("authorization", true, true),
        ("host", true, true),
        ("via", true, true),
        ("x_custom", true, true),
    ] {
        let passes = [PeerTrust::Untrusted, TRUSTED].map(|trust| passes_upstream(&name(text), trust));
        assert_eq!(passes, [untrusted, trusted], "{text}");
    }
}

/// A field of the family that trusted proxies do not write may be the client's. What the
/// gateway writes itself never passes.
#[test]
fn forwarding_fields_pass_only_from_proxies_that_write_their_family() {
    for (text, from_x_forwarded, from_forwarded) in [
        ("forwarded", false, false),
        ("x-forwarded-for", false, false),
        ("x-forwarded-host", false, false),
        ("x-forwarded-port", false, false),
        ("x-forwarded-proto", false, false),
        ("x-forwarded-prefix", true, false),
        ("x-forwarded-ssl", true, false),
        ("x-real-ip", true, true),
    ] {
        let families = [ForwardingFamily::XForwarded, ForwardingFamily::Forwarded];
        let passes = families.map(|family| passes_upstream(&name(text), PeerTrust::Trusted(family)));
        assert_eq!(passes, [from_x_forwarded, from_forwarded], "{text}");
    }
}

#[test]
fn owned_names_are_recognized_in_every_spelling() {
    let owned = OwnedNames::new([name("x-user")]);
    for (text, is_owned) in
        [("x-user", true), ("X-User", true), ("x_user", true), ("x.user", true), ("x-users", false), ("user", false)]
    {
        assert_eq!(owned.contains(&name(text)), is_owned, "{text}");
    }
}
