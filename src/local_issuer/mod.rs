//! The built-in issuer: an OAuth 2.0 authorisation server for trying things out, with client credentials and nothing else.
//!
//! Holds one RS256 key, made at the start and gone with the process. [`LocalIssuer::answer`] is plain data in, plain data out; who listens
//! is not its business.

mod endpoints;
mod tokens;

pub use endpoints::Question;
pub use tokens::KeyError;

use std::time::Duration;

use serde_json::{Map, Value};

use crate::primitives::clock::Clock;
use tokens::SigningKey;

/// What the issuer is called and whom it knows.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `iss`, and the base of its addresses; no slash at the end.
    pub issuer: String,
    /// `aud` of its tokens.
    pub audience: String,
    /// How long a token lives.
    pub lifetime: Duration,
    /// Who may ask for tokens.
    pub clients: Vec<Client>,
}

/// A client that may ask for tokens.
#[derive(Clone)]
pub struct Client {
    /// `client_id`; also the subject of its tokens.
    pub id: &'static str,
    /// Its password.
    pub secret: &'static str,
    /// What it may have; all of it unless it asks for less.
    pub scopes: &'static [&'static str],
    /// Further claims of its tokens.
    pub claims: Map<String, Value>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").field("id", &self.id).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

/// The issuer itself.
#[derive(Debug)]
pub struct LocalIssuer {
    settings: Settings,
    clock: Clock,
    key: SigningKey,
}

impl LocalIssuer {
    /// Makes a key, which takes a moment.
    ///
    /// # Errors
    ///
    /// [`KeyError`] if the crypto library gives none.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, KeyError> {
        Ok(Self { settings, clock, key: SigningKey::generate()? })
    }

    /// A token for a client with all its scopes; `None` if there is no such client.
    #[must_use]
    pub fn token(&self, client: &str) -> Option<String> {
        let client = self.settings.clients.iter().find(|known| known.id == client)?;
        Some(self.issue(client, client.scopes, self.clock.now().seconds()))
    }

    /// The same, issued so long ago that it has run out.
    #[must_use]
    pub fn expired_token(&self, client: &str) -> Option<String> {
        let client = self.settings.clients.iter().find(|known| known.id == client)?;
        let long_ago = self.clock.now().seconds().saturating_sub(2 * self.settings.lifetime.as_secs() + 3600);
        Some(self.issue(client, client.scopes, long_ago))
    }

    fn issue(&self, client: &Client, scopes: &[&str], issued_at: u64) -> String {
        let mut claims = client.claims.clone();
        let own = [
            ("iss", Value::from(self.settings.issuer.clone())),
            ("sub", Value::from(client.id)),
            ("client_id", Value::from(client.id)),
            ("aud", Value::from(self.settings.audience.clone())),
            ("iat", Value::from(issued_at)),
            ("exp", Value::from(issued_at + self.settings.lifetime.as_secs())),
            ("jti", Value::from(crate::primitives::random::hex(&crate::primitives::random::bytes::<16>()))),
            ("scope", Value::from(scopes.join(" "))),
        ];
        claims.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self.key.sign(&claims)
    }
}
