//! An identity provider, an upstream and the gateway between them, in one value, with a clock that only the test moves.

use std::time::Duration;

use portcullis::primitives::clock::ManualClock;

use super::client::{self, Answer};
use super::gateway::{Gateway, Surroundings, minimal};
use super::idp::Idp;
use super::origin::Origin;
use super::token::{TestKey, TokenBuilder};

/// When the tests of a [`Site`] begin, in seconds since the Unix epoch.
pub(crate) const NOW: u64 = 1_800_000_000;

/// What most tests stand on. The configuration is [`minimal`] with what the test adds.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) idp: Idp,
    pub(crate) origin: Origin,
    pub(crate) gateway: Gateway,
    pub(crate) clock: ManualClock,
    base: String,
}

impl Site {
    /// `more` comes after the minimal configuration: further tables and routes.
    pub(crate) async fn start(more: &str) -> Self {
        Self::start_with("", more).await
    }

    /// Like [`start`](Self::start), with further keys of `[server]`; one that the minimal configuration has is replaced.
    pub(crate) async fn start_with(server_keys: &str, more: &str) -> Self {
        Self::start_in(server_keys, "", more, Surroundings::default()).await
    }

    /// Like [`start_with`](Self::start_with), with further keys of the issuer, and surroundings whose clock is replaced.
    pub(crate) async fn start_in(server_keys: &str, issuer_keys: &str, more: &str, surroundings: Surroundings) -> Self {
        let (idp, origin) = (Idp::start().await, Origin::start().await);
        let clock = ManualClock::at(NOW);
        let base = with_keys("server", server_keys, &minimal(&idp.issuer(), origin.addr()));
        let base = with_keys("issuers.main", issuer_keys, &base);
        let surroundings = Surroundings { clock: clock.clock(), ..surroundings };
        let gateway = Gateway::start_in(&format!("{base}{more}"), surroundings).await;
        Self { idp, origin, gateway, clock, base }
    }

    /// The configuration with other additions, for a reload.
    pub(crate) fn toml(&self, more: &str) -> String {
        format!("{}{more}", self.base)
    }

    /// Replaces the additions and reloads.
    ///
    /// # Panics
    ///
    /// If the gateway does not take the configuration.
    pub(crate) async fn reload(&self, more: &str) {
        self.gateway.rewrite(&self.toml(more));
        self.gateway.reload().await.unwrap_or_else(|error| panic!("not taken: {error}"));
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// A good token as of the site's clock, to be changed and [signed](TokenBuilder::sign).
    pub(crate) fn token(&self) -> TokenBuilder {
        TokenBuilder::at(&self.idp.issuer(), self.clock.clock().now().seconds())
    }

    /// The value of `Authorization` for a good token of `subject`.
    pub(crate) fn bearer(&self, subject: &str) -> String {
        format!("Bearer {}", self.token().claim("sub", subject).sign(&TestKey::rsa("k1")))
    }

    /// `GET` on a connection of its own.
    pub(crate) async fn get(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        client::get(self.gateway.addr(), path, headers).await
    }
}

/// Adds `keys`, one a line, to a table; a key that stands anywhere in `toml` is taken out there.
pub(crate) fn with_keys(table: &str, keys: &str, toml: &str) -> String {
    let names: Vec<_> = keys.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim()).collect();
    let is_replaced = |line: &str| line.split_once('=').is_some_and(|(name, _)| names.contains(&name.trim()));
    let head = format!("[{table}]");
    let mut text = String::new();
    for line in toml.lines().filter(|line| !is_replaced(line)) {
        text.push_str(line);
        text.push('\n');
        if line == head {
            text.push_str(keys);
            text.push('\n');
        }
    }
    text
}
