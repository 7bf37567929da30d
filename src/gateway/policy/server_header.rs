//! The `Server` field of responses (RFC 9110 §10.2.4).

use http::header::{HeaderMap, HeaderValue, SERVER};

/// What the `Server` field of a response says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerHeader {
    /// What the upstream says. The gateway's own responses have none.
    Upstream,
    /// Nothing: responses have no such field.
    Off,
    /// This text, on every response.
    Value(HeaderValue),
}

impl ServerHeader {
    /// Applies it to the headers of a response.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        match self {
            Self::Upstream => {}
            Self::Off => {
                headers.remove(SERVER);
            }
            Self::Value(value) => {
                headers.insert(SERVER, value.clone());
            }
        }
    }
}
