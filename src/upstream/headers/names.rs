//! Header names with a meaning of their own: one table, one class per name.
//!
//! Whether a header may be forwarded, removed by `Connection`, set by a route or filled by
//! `[identity]` are questions about its class. A name that is not in the table is
//! [`Class::Ordinary`], and travels as it came.

use http::HeaderName;

use crate::primitives::field_syntax::{fold_name, fold_name_byte};

/// What a header is about, and who may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// About one connection or the framing of one message (RFC 9110 §7.6.1): never forwarded, and
    /// written by the gateway alone.
    Connection,
    /// About one connection as well, or harmful when passed on: `Proxy` becomes the variable
    /// `HTTP_PROXY` in CGI programs, `HTTP2-Settings` belongs to an upgrade that is never made.
    /// Never forwarded, but a route may set it for its upstream.
    HopByHop,
    /// `Host`: judged in normalization and written from what was judged.
    Host,
    /// Written anew on each message: how long it is, and which request it belongs to.
    Message,
    /// What a request is judged by. `Connection` may not remove it, or the upstream would see
    /// another request than the one that was judged.
    Judged,
    /// `Forwarded` and `X-Forwarded-*`: believed from trusted proxies, rewritten by the gateway.
    Forwarding,
    /// The way of the request: `Via` and `traceparent`, which the gateway continues.
    Path,
    /// Tells a backend another path, scheme or address than the request has; passes from trusted
    /// proxies only. A route's rules judged nothing that it says.
    ProxyOnly,
    /// Tells a backend another method than the one that was judged: passes from nobody.
    MethodOverride,
    /// `X-Identity-*`: belongs to the gateway, configured or not.
    Identity,
    /// On responses: what the gateway says about credentials and to browsers.
    ResponsePolicy,
    /// Any other name.
    Ordinary,
}

impl Class {
    /// The class of a name, in the spelling in which a backend may read it: see [`fold_name`].
    #[must_use]
    pub(crate) fn of(name: &HeaderName) -> Self {
        Self::of_folded(&fold_name(name.as_str()))
    }

    fn of_folded(name: &str) -> Self {
        match name {
            "connection" | "expect" | "keep-alive" | "proxy-connection" | "te" | "trailer" | "transfer-encoding"
            | "upgrade" => Self::Connection,
            "http2-settings" | "proxy" | "proxy-authenticate" | "proxy-authorization" => Self::HopByHop,
            "host" => Self::Host,
            "content-length" | "x-request-id" => Self::Message,
            "authorization" | "cookie" | "origin" => Self::Judged,
            "forwarded" => Self::Forwarding,
            "traceparent" | "via" => Self::Path,
            "client-cert" | "client-cert-chain" | "true-client-ip" => Self::ProxyOnly,
            "www-authenticate" => Self::ResponsePolicy,
            _ if name.starts_with("x-") => Self::of_extension(name),
            _ if name.starts_with("access-control-") => Self::ResponsePolicy,
            _ => Self::Ordinary,
        }
    }

    fn of_extension(name: &str) -> Self {
        match name {
            "x-client-ip"
            | "x-cluster-client-ip"
            | "x-original-host"
            | "x-original-method"
            | "x-original-uri"
            | "x-original-url"
            | "x-real-ip"
            | "x-rewrite-url" => Self::ProxyOnly,
            "x-http-method" | "x-http-method-override" | "x-method-override" => Self::MethodOverride,
            _ if name.starts_with("x-forwarded-") => Self::Forwarding,
            _ if name.starts_with("x-accel-") || name.starts_with("x-envoy-") => Self::ProxyOnly,
            _ if name.starts_with("x-identity-") => Self::Identity,
            _ => Self::Ordinary,
        }
    }

    /// Whether it is about one connection, so that it is never forwarded in either direction.
    #[must_use]
    pub(crate) fn is_hop_by_hop(self) -> bool {
        match self {
            Self::Connection | Self::HopByHop => true,
            Self::Host
            | Self::Message
            | Self::Judged
            | Self::Forwarding
            | Self::Path
            | Self::ProxyOnly
            | Self::MethodOverride
            | Self::Identity
            | Self::ResponsePolicy
            | Self::Ordinary => false,
        }
    }

    /// Whether `Connection` may name it, to have it removed (RFC 9110 §7.6.1).
    #[must_use]
    pub(crate) fn may_be_removed_by_connection(self) -> bool {
        match self {
            Self::Host | Self::Message | Self::Judged => false,
            Self::Connection
            | Self::HopByHop
            | Self::Forwarding
            | Self::Path
            | Self::ProxyOnly
            | Self::MethodOverride
            | Self::Identity
            | Self::ResponsePolicy
            | Self::Ordinary => true,
        }
    }

    /// Whether a route may set or remove it, on requests or responses.
    #[must_use]
    pub(crate) fn is_configurable(self) -> bool {
        match self {
            Self::Connection | Self::Host | Self::Message => false,
            Self::HopByHop
            | Self::Judged
            | Self::Forwarding
            | Self::Path
            | Self::ProxyOnly
            | Self::MethodOverride
            | Self::Identity
            | Self::ResponsePolicy
            | Self::Ordinary => true,
        }
    }

    /// Whether it may carry an identity: it must have no other meaning for a backend.
    #[must_use]
    pub(crate) fn may_carry_identity(self) -> bool {
        match self {
            Self::Judged | Self::Forwarding | Self::Path => false,
            Self::Connection | Self::Host | Self::Message => self.is_configurable(),
            Self::HopByHop
            | Self::ProxyOnly
            | Self::MethodOverride
            | Self::Identity
            | Self::ResponsePolicy
            | Self::Ordinary => true,
        }
    }

    /// Whether it goes on to the upstream as the client sent it. `Host` does, since it was judged.
    #[must_use]
    pub(crate) fn passes_from(self, peers: Peers) -> bool {
        match self {
            Self::Connection | Self::HopByHop | Self::Message | Self::MethodOverride | Self::Identity => false,
            Self::Forwarding | Self::ProxyOnly => peers == Peers::Trusted,
            Self::Host | Self::Judged | Self::Path | Self::ResponsePolicy | Self::Ordinary => true,
        }
    }
}

/// Whether the peer's word on earlier hops is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peers {
    /// The peer is one of `trusted_proxies`.
    Trusted,
    /// Any other peer.
    Untrusted,
}

/// Whether a request header goes on to the upstream as the peer sent it.
///
/// A spelling with `_` or `.` of a name that has a meaning passes from no peer: a backend may take it
/// for that name, and no proxy writes it so.
#[must_use]
pub(crate) fn passes(name: &HeaderName, peers: Peers) -> bool {
    if !is_alias(name.as_str()) {
        return Class::of_folded(name.as_str()).passes_from(peers);
    }
    match Class::of(name) {
        Class::Ordinary | Class::ResponsePolicy => true,
        Class::Connection
        | Class::HopByHop
        | Class::Host
        | Class::Message
        | Class::Judged
        | Class::Forwarding
        | Class::Path
        | Class::ProxyOnly
        | Class::MethodOverride
        | Class::Identity => false,
    }
}

/// Header names that the gateway owns beside those of the table, compared as a backend may read them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OwnedNames(Box<[HeaderName]>);

impl OwnedNames {
    /// Owns `names`.
    #[must_use]
    pub(crate) fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Whether `name` is one of them, in any spelling.
    #[must_use]
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|owned| is_same(owned.as_str(), name.as_str()))
    }
}

fn is_alias(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'_' | b'.'))
}

fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).all(|(one, other)| fold_name_byte(one) == fold_name_byte(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> HeaderName {
        HeaderName::try_from(text).unwrap()
    }

    /// CVE-2025-64484 and its relatives: a backend that folds names sees an alias as the real header.
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
            ("X_Original_URL", Class::ProxyOnly),
            ("client_cert", Class::ProxyOnly),
            ("x_http_method_override", Class::MethodOverride),
            ("x_request_id", Class::Message),
            ("transfer_encoding", Class::Connection),
            ("proxy_authorization", Class::HopByHop),
            ("x-forwarded", Class::Ordinary),
            ("x-other", Class::Ordinary),
            ("accept", Class::Ordinary),
        ] {
            assert_eq!(Class::of(&name(text)), class, "{text}");
        }
    }

    #[test]
    fn an_alias_of_a_name_with_a_meaning_passes_from_no_peer() {
        for (text, untrusted, trusted) in [
            ("x-forwarded-for", false, true),
            ("x_forwarded_for", false, false),
            ("x-real-ip", false, true),
            ("x-real_ip", false, false),
            ("x-http-method-override", false, false),
            ("x_http_method_override", false, false),
            ("content_length", false, false),
            ("x-identity-roles", false, false),
            ("authorization", true, true),
            ("host", true, true),
            ("via", true, true),
            ("x_custom", true, true),
        ] {
            let passing = (passes(&name(text), Peers::Untrusted), passes(&name(text), Peers::Trusted));
            assert_eq!(passing, (untrusted, trusted), "{text}");
        }
    }

    #[test]
    fn owned_names_are_recognized_in_every_spelling() {
        let owned = OwnedNames::new([name("x-user")]);
        for (text, is_owned) in [
            ("x-user", true),
            ("X-User", true),
            ("x_user", true),
            ("x.user", true),
            ("x-users", false),
            ("user", false),
        ] {
            assert_eq!(owned.contains(&name(text)), is_owned, "{text}");
        }
    }
}
