//! The table of header names that the gateway treats specially.

use std::sync::LazyLock;

use super::Class;

/// The names of each class, folded (see [`fold_name`](crate::primitives::field_syntax::fold_name)).
/// `x-a-*` stands for every name that begins with `x-a-` and is not listed itself.
const NAMES: [(Class, &[&str]); 14] = [
    (
        Class::Connection,
        &["connection", "expect", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"],
    ),
    (Class::HopByHop, &["http2-settings", "proxy", "proxy-authenticate", "proxy-authorization"]),
    (Class::Host, &["host"]),
    (Class::Message, &["content-length", "x-request-id"]),
    (Class::Requester, &["authorization", "cookie", "origin"]),
    (Class::Forwarding, &["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"]),
    (Class::ForwardingExtension, &["x-forwarded-*"]),
    (Class::Trace, &["traceparent", "via"]),
    (
        Class::Override,
        &[
            // Methods.
            "x-forwarded-method",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-original-method",
            // Paths.
            "x-envoy-original-path",
            "x-forwarded-path",
            "x-forwarded-uri",
            "x-forwarded-url",
            "x-http-destinationurl",
            "x-http-path-override",
            "x-http-url-override",
            "x-original-path",
            "x-original-uri",
            "x-original-url",
            "x-override-url",
            "x-proxy-url",
            "x-rewrite-url",
            "x-waws-unencoded-url",
            // Hosts.
            "disguised-host",
            "x-envoy-original-host",
            "x-host",
            "x-http-host-override",
            "x-original-host",
            // What Next.js writes for itself (CVE-2025-29927): the route, and that it was checked.
            "x-invoke-*",
            "x-matched-path",
            "x-middleware-*",
        ],
    ),
    (
        Class::ProxyOnly,
        &[
            // Addresses.
            "ali-cdn-real-ip",
            "client-ip",
            "cluster-client-ip",
            "do-connecting-ip",
            "fly-client-ip",
            "forwarded-for",
            "http-client-ip",
            "http-x-forwarded-for",
            "incap-client-ip",
            "proxy-client-ip",
            "remote-addr",
            "true-client-ip",
            "wl-proxy-client-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "x-forward-for",
            "x-forwarded",
            "x-nf-client-connection-ip",
            "x-original-forwarded-for",
            "x-original-remote-addr",
            "x-originating-ip",
            "x-proxyuser-ip",
            "x-real-ip",
            "x-remote-addr",
            "x-remote-ip",
            "x-sucuri-clientip",
            // Schemes.
            "front-end-https",
            "x-arr-ssl",
            "x-scheme",
            "x-url-scheme",
            // What one proxy or content delivery network tells its backends, addresses among it.
            "cf-*",
            "cloudfront-*",
            "fastly-*",
            "fly-forwarded-*",
            "x-accel-*",
            "x-appengine-*",
            "x-azure-*",
            "x-envoy-*",
            "x-sendfile-type",
            "x-vercel-*",
        ],
    ),
    (
        Class::ClientCertificate,
        &[
            "cf-client-cert-*",
            "client-cert",
            "client-cert-*",
            "ssl-client-*",
            "x-amzn-mtls-*",
            "x-arr-clientcert",
            "x-client-cert",
            "x-client-cert-*",
            "x-client-certificate",
            "x-client-verify",
            "x-forwarded-client-cert",
            "x-forwarded-client-cert-*",
            "x-forwarded-tls-client-*",
            "x-ssl-cert",
            "x-ssl-client-*",
            "x-tls-client-*",
        ],
    ),
    (Class::Identity, &["x-identity-*"]),
    (
        Class::ForeignIdentity,
        &[
            // Servers that authenticate for an application behind them.
            "iv-creds",
            "iv-groups",
            "iv-user",
            "mellon-*",
            "oam-remote-user",
            "oidc-access-token",
            "oidc-claim-*",
            "oidc-id-token",
            "remote-email",
            "remote-group",
            "remote-groups",
            "remote-name",
            "remote-user",
            "shib-*",
            "sm-user",
            "sm-userdn",
            "x-remote-email",
            "x-remote-extra-*",
            "x-remote-group",
            "x-remote-groups",
            "x-remote-name",
            "x-remote-uid",
            "x-remote-user",
            "x-webauth-*",
            // Kubernetes: the user that the caller wants to be.
            "impersonate-*",
            // oauth2-proxy and the proxies that share its names.
            "x-auth-email",
            "x-auth-groups",
            "x-auth-request-*",
            "x-auth-roles",
            "x-auth-subject",
            "x-auth-userid",
            "x-auth-username",
            "x-forwarded-access-token",
            "x-forwarded-email",
            "x-forwarded-group",
            "x-forwarded-groups",
            "x-forwarded-preferred-username",
            "x-forwarded-user",
            // Other gateways and clouds.
            "cf-access-*",
            "tailscale-user-*",
            "teleport-jwt-assertion",
            "x-amzn-oidc-*",
            "x-apigateway-api-userinfo",
            "x-authenticated-*",
            "x-authentik-*",
            "x-consumer-*",
            "x-credential-*",
            "x-endpoint-api-userinfo",
            "x-goog-authenticated-user-*",
            "x-goog-iap-*",
            "x-ms-client-principal",
            "x-ms-client-principal-*",
            "x-ms-token-*",
            "x-pomerium-*",
            "x-userinfo",
            "x-vouch-*",
        ],
    ),
    (Class::ResponsePolicy, &["access-control-*", "grpc-message", "grpc-status", "www-authenticate"]),
];

/// One entry of [`NAMES`].
#[derive(Clone, Copy)]
enum Pattern {
    Name(&'static str),
    Prefix(&'static str),
}

impl Pattern {
    fn new(text: &'static str) -> Self {
        text.strip_suffix('*').map_or(Self::Name(text), Self::Prefix)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Name(text) | Self::Prefix(text) => text,
        }
    }

    fn matches(self, name: &str) -> bool {
        match self {
            Self::Name(text) => name == text,
            Self::Prefix(text) => name.starts_with(text),
        }
    }
}

/// The entries of [`NAMES`] by the letter that tells most of them apart, the longest first, so that
/// a listed name comes before the prefix that includes it. Every header of every message is looked
/// up here, and nearly all of them meet a handful of entries.
static INDEX: LazyLock<[Vec<(Pattern, Class)>; 52]> = LazyLock::new(|| {
    let mut index = [const { Vec::new() }; 52];
    for (class, texts) in NAMES {
        for pattern in texts.iter().copied().map(Pattern::new) {
            index[bucket(pattern.text()).expect("every entry has a letter")].push((pattern, class));
        }
    }
    for entries in &mut index {
        entries.sort_by_key(|(pattern, _)| std::cmp::Reverse(pattern.text().len()));
    }
    index
});

/// The place of a name in the index: its first letter, or the one after `x-`.
fn bucket(name: &str) -> Option<usize> {
    let (letter, offset) = match name.as_bytes() {
        [b'x', b'-', letter, ..] => (letter, 26),
        [letter, ..] => (letter, 0),
        [] => return None,
    };
    letter.is_ascii_lowercase().then(|| usize::from(letter - b'a') + offset)
}

/// The class of a folded name.
pub(super) fn class_of(name: &str) -> Class {
    let Some(bucket) = bucket(name) else { return Class::Ordinary };
    INDEX[bucket].iter().find(|(pattern, _)| pattern.matches(name)).map_or(Class::Ordinary, |(_, class)| *class)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::primitives::field_syntax::fold_name;

    /// An entry that is not folded, or that another one hides, would never be found.
    #[test]
    fn every_entry_is_found_under_its_own_class() {
        let mut seen = BTreeSet::new();
        for (class, texts) in NAMES {
            for text in texts {
                assert!(seen.insert(*text), "{text} is listed twice");
                assert_eq!(fold_name(text), *text);
                let name = text.replace('*', "any");
                assert_eq!(class_of(&name), class, "{name}");
            }
        }
    }

    #[test]
    fn a_listed_name_comes_before_the_prefix_that_includes_it() {
        for (name, class) in [
            ("x-forwarded-for", Class::Forwarding),
            ("x-forwarded-fore", Class::ForwardingExtension),
            ("x-forwarded-user", Class::ForeignIdentity),
            ("x-forwarded-users", Class::ForwardingExtension),
            ("cf-access-jwt-assertion", Class::ForeignIdentity),
            ("cf-accessory", Class::ProxyOnly),
            ("x-envoy-original-path", Class::Override),
            ("x-envoy-external-address", Class::ProxyOnly),
            ("x-", Class::Ordinary),
            ("x", Class::Ordinary),
            ("", Class::Ordinary),
            ("1", Class::Ordinary),
            ("x-1", Class::Ordinary),
            ("z-index", Class::Ordinary),
        ] {
            assert_eq!(class_of(name), class, "{name}");
        }
    }

    /// The reference lists what a request loses, so that an operator need not read this file.
    #[test]
    fn the_reference_lists_the_names_that_are_not_forwarded() {
        let reference = include_str!("../../../../docs/configuration.md");
        for (class, texts) in NAMES {
            match class {
                Class::Override | Class::ProxyOnly | Class::ClientCertificate | Class::ForeignIdentity => {}
                Class::Connection
                | Class::HopByHop
                | Class::Host
                | Class::Message
                | Class::Requester
                | Class::Forwarding
                | Class::ForwardingExtension
                | Class::Trace
                | Class::Identity
                | Class::ResponsePolicy
                | Class::Ordinary => continue,
            }
            for text in texts {
                let listed = reference.to_lowercase().contains(&format!("`{text}`"));
                assert!(listed, "{text} is not in docs/configuration.md");
            }
        }
    }
}
