//! The built-in issuer: an OAuth 2.0 authorization server for demos, with the client credentials
//! grant only.
//!
//! Has one ES256 key, which it generates at the start and never stores. [`LocalIssuer::respond`]
//! maps a request to a response without any I/O; the caller owns the listener.

mod endpoints;
mod tokens;

pub(crate) use endpoints::IssuerRequest;
pub(crate) use tokens::KeyGenerationError;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::primitives::clock::Clock;
use tokens::SigningKey;

/// Settings of the built-in issuer.
#[derive(Clone, Debug)]
pub(crate) struct LocalIssuerSettings {
    /// `iss`, and the base of its URLs. Without a trailing slash.
    pub issuer: String,
    /// `aud` of its tokens.
    pub audience: String,
    /// Lifetime of a token.
    pub lifetime: Duration,
    /// The clients that may request tokens.
    pub clients: Vec<Client>,
}

/// A client that may request tokens.
#[derive(Clone)]
pub(crate) struct Client {
    /// `client_id`; also the subject of its tokens.
    pub id: &'static str,
    /// `client_secret`.
    pub secret: &'static str,
    /// The scopes that it may request. It gets all of them unless it requests fewer.
    pub scopes: &'static [&'static str],
    /// Additional claims in its tokens.
    pub claims: Map<String, Value>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("id", &self.id).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

/// The built-in issuer.
#[derive(Debug)]
pub(crate) struct LocalIssuer {
    settings: LocalIssuerSettings,
    clock: Clock,
    key: SigningKey,
}

impl LocalIssuer {
    /// Generates a key, which takes about a second.
    ///
    /// # Errors
    ///
    /// [`KeyGenerationError`].
    pub(crate) fn new(settings: LocalIssuerSettings, clock: Clock) -> Result<Self, KeyGenerationError> {
        Ok(Self { settings, clock, key: SigningKey::generate()? })
    }

    /// A token for a client, with all its scopes. `None` if there is no such client.
    #[must_use]
    pub(crate) fn token(&self, client: &str) -> Option<String> {
        let client = self.settings.clients.iter().find(|known| known.id == client)?;
        Some(self.issue(client, client.scopes, self.clock.now().seconds()))
    }

    /// Like [`token`](Self::token), but issued so long ago that it has expired.
    #[must_use]
    pub(crate) fn expired_token(&self, client: &str) -> Option<String> {
        let client = self.settings.clients.iter().find(|known| known.id == client)?;
        let long_ago = self.clock.now().seconds().saturating_sub(2 * self.settings.lifetime.as_secs() + 3600);
        Some(self.issue(client, client.scopes, long_ago))
    }

    fn issue(&self, client: &Client, scopes: &[&str], issued_at: u64) -> String {
        let mut claims = client.claims.clone();
        let standard_claims = [
            ("iss", Value::from(self.settings.issuer.clone())),
            ("sub", Value::from(client.id)),
            ("client_id", Value::from(client.id)),
            ("aud", Value::from(self.settings.audience.clone())),
            ("iat", Value::from(issued_at)),
            ("exp", Value::from(issued_at + self.settings.lifetime.as_secs())),
            ("jti", Value::from(crate::primitives::random::hex(&crate::primitives::random::bytes::<16>()))),
            ("scope", Value::from(scopes.join(" "))),
        ];
        claims.extend(standard_claims.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self.key.sign(&claims)
    }
}
