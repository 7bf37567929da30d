//! Access: who may use a route.

use super::demand::Demand;

/// Who may use a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// Anonymous callers, and callers with a valid token.
    Optional,
    /// Everyone. Tokens are ignored.
    Public,
    /// Callers with a valid token who meet all of these demands. Demands for scopes come first,
    /// because a client can ask its issuer for a missing scope.
    Token(Vec<Demand>),
}

/// Whether a route requires a client certificate, in addition to its [`Access`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertRule {
    /// It does not.
    Optional,
    /// The client must have presented one on this connection, and it must be valid.
    Required,
}

impl Access {
    /// The demands on a caller with a valid token.
    #[must_use]
    pub fn demands(&self) -> &[Demand] {
        match self {
            Self::Optional | Self::Public => &[],
            Self::Token(demands) => demands,
        }
    }
}
