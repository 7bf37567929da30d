//! Header names that the gateway treats specially: one class per name.
//!
//! The class of a header decides whether it is forwarded, whether `Connection` may remove it, and
//! whether a route or `[identity]` may set it. A name that is not in the [`table`] is
//! [`Class::Ordinary`] and is forwarded unchanged.

mod table;

use http::HeaderName;

use crate::primitives::field_syntax::{fold_name, fold_name_byte};

/// What a header describes, and who may write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Describes one connection or the framing of one message (RFC 9110 §7.6.1). Never forwarded,
    /// and written only by the gateway.
    Connection,
    /// Describes one connection as well, or is harmful if forwarded: `Proxy` becomes the variable
    /// `HTTP_PROXY` in CGI programs, and `HTTP2-Settings` belongs to an upgrade that the gateway
    /// does not pass on. Never forwarded, but a route may set it for its upstream.
    HopByHop,
    /// `Host`: checked in normalization, and written from the result.
    Host,
    /// Describes one message: its length and its request id. The gateway writes both for each
    /// message.
    Message,
    /// Identifies the caller or the web page that sends the request. `Connection` may not remove
    /// it, because the upstream would then receive a different request than the gateway decided on.
    Requester,
    /// `Forwarded`, `X-Forwarded-For`, `-Proto`, `-Host` and `-Port`: read from trusted proxies,
    /// and written by the gateway. Never forwarded as received, so that they cannot contradict each
    /// other.
    Forwarding,
    /// Every other `X-Forwarded-*`. Forwarded from trusted proxies that write this family.
    ForwardingExtension,
    /// Traces the request across hops: `Via`, which the gateway continues, and `traceparent`, which
    /// passes if it is valid.
    Trace,
    /// Tells a backend an address or a scheme other than the connection's, or what else a proxy
    /// tells its backends. Forwarded from trusted proxies only.
    ProxyOnly,
    /// Tells a backend a path, method or host other than the request's, which no route has checked.
    /// Never forwarded, since proxies pass these on as clients send them.
    Override,
    /// The certificate that a client has shown to a TLS proxy. Forwarded from trusted proxies only.
    ClientCertificate,
    /// `X-Identity-*`: written only by the gateway, even those that are not configured.
    Identity,
    /// Tells backends of other systems who the caller is. Not forwarded, except from trusted
    /// proxies under a name that the configuration lists.
    ForeignIdentity,
    /// Controls browsers and clients in responses: `WWW-Authenticate`, `Access-Control-*`, and the
    /// status of a gRPC call.
    ResponsePolicy,
    /// Any other name.
    Ordinary,
}

impl Class {
    /// The class of a name. Spellings that a backend may treat as one name have one class: see
    /// [`fold_name`].
    #[must_use]
    pub(crate) fn of(name: &HeaderName) -> Self {
        table::class_of(&fold_name(name.as_str()))
    }

    /// Whether the header describes one connection, so that it is not forwarded in either
    /// direction.
    #[must_use]
    pub(crate) fn is_hop_by_hop(self) -> bool {
        match self {
            Self::Connection | Self::HopByHop => true,
            Self::Host
            | Self::Message
            | Self::Requester
            | Self::Forwarding
            | Self::ForwardingExtension
            | Self::Trace
            | Self::ProxyOnly
            | Self::Override
            | Self::ClientCertificate
            | Self::Identity
            | Self::ForeignIdentity
            | Self::ResponsePolicy
            | Self::Ordinary => false,
        }
    }

    /// Whether `Connection` may remove the header by naming it (RFC 9110 §7.6.1). Headers that
    /// describe the connection are removed in any case, after they have been looked at.
    #[must_use]
    pub(crate) fn may_be_removed_by_connection(self) -> bool {
        match self {
            Self::Connection | Self::Host | Self::Message | Self::Requester => false,
            Self::HopByHop
            | Self::Forwarding
            | Self::ForwardingExtension
            | Self::Trace
            | Self::ProxyOnly
            | Self::Override
            | Self::ClientCertificate
            | Self::Identity
            | Self::ForeignIdentity
            | Self::ResponsePolicy
            | Self::Ordinary => true,
        }
    }

    /// Whether a route may set or remove the header, on requests or on responses.
    #[must_use]
    pub(crate) fn is_configurable(self) -> bool {
        match self {
            Self::Connection | Self::Host | Self::Message => false,
            Self::HopByHop
            | Self::Requester
            | Self::Forwarding
            | Self::ForwardingExtension
            | Self::Trace
            | Self::ProxyOnly
            | Self::Override
            | Self::ClientCertificate
            | Self::Identity
            | Self::ForeignIdentity
            | Self::ResponsePolicy
            | Self::Ordinary => true,
        }
    }

    /// Whether the header may be an identity header. It must have no other meaning for a backend.
    #[must_use]
    pub(crate) fn may_carry_identity(self) -> bool {
        match self {
            Self::Connection
            | Self::Host
            | Self::Message
            | Self::Requester
            | Self::Forwarding
            | Self::ForwardingExtension
            | Self::Trace
            | Self::Override => false,
            Self::HopByHop
            | Self::ProxyOnly
            | Self::ClientCertificate
            | Self::Identity
            | Self::ForeignIdentity
            | Self::ResponsePolicy
            | Self::Ordinary => true,
        }
    }

    /// Whether the gateway forwards the header to the upstream as the peer sent it.
    #[must_use]
    pub(crate) fn passes_from(self, trust: PeerTrust) -> bool {
        match self {
            Self::Connection
            | Self::HopByHop
            | Self::Message
            | Self::Forwarding
            | Self::Override
            | Self::Identity
            | Self::ForeignIdentity => false,
            Self::ForwardingExtension => trust == PeerTrust::Trusted(ForwardingFamily::XForwarded),
            Self::ProxyOnly | Self::ClientCertificate => trust != PeerTrust::Untrusted,
            Self::Host | Self::Requester | Self::Trace | Self::ResponsePolicy | Self::Ordinary => true,
        }
    }
}

/// Whether the gateway believes what the peer states about earlier hops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerTrust {
    /// The peer is one of `trusted_proxies`, which write this family of forwarding fields.
    Trusted(ForwardingFamily),
    /// Any other peer.
    Untrusted,
}

/// The family of forwarding fields that trusted proxies write. Proxies commonly pass the other
/// family on as the client sent it, so the gateway reads only one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ForwardingFamily {
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// `X-Forwarded-*`.
    #[default]
    XForwarded,
}

/// Whether the gateway forwards a request header to the upstream as the peer sent it.
///
/// An alias, which is a special name spelled with `_` or `.`, is not forwarded even from a trusted
/// proxy: a backend may treat it as that name, and no proxy writes it like that.
#[must_use]
pub(crate) fn passes_upstream(name: &HeaderName, trust: PeerTrust) -> bool {
    if !is_alias(name.as_str()) {
        return table::class_of(name.as_str()).passes_from(trust);
    }
    match Class::of(name) {
        Class::Ordinary | Class::ResponsePolicy => true,
        Class::Connection
        | Class::HopByHop
        | Class::Host
        | Class::Message
        | Class::Requester
        | Class::Forwarding
        | Class::ForwardingExtension
        | Class::Trace
        | Class::ProxyOnly
        | Class::Override
        | Class::ClientCertificate
        | Class::Identity
        | Class::ForeignIdentity => false,
    }
}

/// Whether the gateway forwards the header as received from some peer under some configuration.
#[must_use]
pub(crate) fn may_pass(name: &HeaderName) -> bool {
    let passes = |family| passes_upstream(name, PeerTrust::Trusted(family));
    Class::of(name) == Class::ForeignIdentity
        || [ForwardingFamily::Forwarded, ForwardingFamily::XForwarded].into_iter().any(passes)
}

/// The configured names that only the gateway may write. All spellings that a backend may treat as
/// one of them count as that name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OwnedNames(Box<[HeaderName]>);

impl OwnedNames {
    /// Owns `names`.
    #[must_use]
    pub(crate) fn new(names: impl IntoIterator<Item = HeaderName>) -> Self {
        Self(names.into_iter().collect())
    }

    /// Whether `name` is an owned name, in any spelling.
    #[must_use]
    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|owned| is_same(owned.as_str(), name.as_str()))
    }
}

/// Whether `name` may be another spelling of a name with `-`. A [`HeaderName`] is always lower
/// case.
fn is_alias(name: &str) -> bool {
    name.bytes().any(|byte| matches!(byte, b'_' | b'.'))
}

/// Whether a backend that folds names reads both as one name. Both are in lower case.
#[must_use]
pub(crate) fn is_same(one: &str, other: &str) -> bool {
    one.len() == other.len()
        && one.bytes().zip(other.bytes()).all(|(one, other)| fold_name_byte(one) == fold_name_byte(other))
}

#[cfg(test)]
mod tests;
