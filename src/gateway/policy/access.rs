//! Access: who may use a route.

use super::demand::Demand;

/// Who may use a route.
#[derive(Clone, Debug, PartialEq)]
pub enum Access {
    /// Callers without a token, or with a valid one.
    Optional,
    /// Everyone; no token is looked at.
    Public,
    /// Callers with a valid token that meets all of these demands. Scopes come first: a missing scope
    /// is what a client can mend by itself.
    Token(Vec<Demand>),
}

impl Access {
    /// What is asked of a caller with a token, beyond that it is valid.
    #[must_use]
    pub fn demands(&self) -> &[Demand] {
        match self {
            Self::Optional | Self::Public => &[],
            Self::Token(demands) => demands,
        }
    }
}
