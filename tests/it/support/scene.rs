//! The usual scene: a gateway between an identity provider and an upstream, with a clock that the test moves.

use std::net::SocketAddr;

use portcullis::primitives::clock::ManualClock;

use super::client::{self, Answer};
use super::gateway::{Gateway, Surroundings, minimal};
use super::idp::Idp;
use super::origin::Origin;
use super::token::{TestKey, TokenBuilder};

/// When a scene begins, in seconds since the Unix epoch: 2027-01-15T08:00:00Z.
pub(crate) const NOW: u64 = 1_800_000_000;

/// All that stands around a gateway, and the gateway.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) idp: Idp,
    pub(crate) origin: Origin,
    pub(crate) gateway: Gateway,
    pub(crate) clock: ManualClock,
}

impl Scene {
    /// With the [`minimal`] configuration.
    pub(crate) async fn start() -> Self {
        Self::with(minimal).await
    }

    /// With what `write` makes of the issuer and the upstream's address.
    pub(crate) async fn with(write: impl FnOnce(&str, SocketAddr) -> String) -> Self {
        Self::between(Idp::start().await, write).await
    }

    /// With an identity provider that is prepared already, or does not listen yet.
    pub(crate) async fn between(idp: Idp, write: impl FnOnce(&str, SocketAddr) -> String) -> Self {
        let origin = Origin::start().await;
        let clock = ManualClock::at(NOW);
        let toml = write(&idp.issuer(), origin.addr());
        let gateway = Gateway::start_in(&toml, Surroundings { clock: clock.clock(), ..Surroundings::default() }).await;
        Self { idp, origin, gateway, clock }
    }

    /// A good token as of the clock's time, to be signed with a key of the issuer's.
    pub(crate) fn token(&self) -> TokenBuilder {
        TokenBuilder::at(&self.idp.issuer(), self.clock.clock().now().seconds())
    }

    /// A good token, signed with the key that is published unless the test says otherwise.
    pub(crate) fn good_token(&self) -> String {
        self.token().sign(&TestKey::rsa("k1"))
    }

    /// `GET` with this bearer token.
    pub(crate) async fn get(&self, target: &str, token: &str) -> Answer {
        self.get_with(target, token, &[]).await
    }

    /// `GET` with this bearer token and further headers.
    pub(crate) async fn get_with(&self, target: &str, token: &str, headers: &[(&str, &str)]) -> Answer {
        let credentials = format!("Bearer {token}");
        let headers: Vec<_> = headers.iter().copied().chain([("Authorization", &*credentials)]).collect();
        client::get(self.gateway.addr(), target, &headers).await
    }

    /// How many tokens of the issuer `main` ended so: `result` is `accepted`, `refused` or `keys_unavailable`, `cache` is `hit` or `miss`.
    pub(crate) async fn verifications(&self, result: &str, cache: &str) -> u64 {
        let labels = format!("issuer=\"main\",result=\"{result}\",cache=\"{cache}\"");
        self.gateway.count(&format!("portcullis_token_verifications_total{{{labels}}}")).await
    }

    /// Sends each token to `target`: `Ok` is 200; `Err` is 401 for exactly that reason, as the access log tells it, and the upstream must not
    /// have seen it. The reason is compared because a token that is refused for another fault than the one under test shows nothing.
    pub(crate) async fn hold_tokens<'a>(
        &self,
        target: &str,
        rows: impl IntoIterator<Item = (&'a str, String, Result<(), &'a str>)>,
    ) {
        let before = self.origin.requests().len();
        let mut accepted = 0;
        for (name, token, expected) in rows {
            let answer = self.get(target, &token).await;
            let line = self.gateway.access_line_of(&answer).await;
            let reason = line["reason"].as_str();
            match expected {
                Ok(()) => {
                    accepted += 1;
                    assert_eq!((answer.status, reason), (200, None), "{name}");
                }
                Err(why) => {
                    assert_eq!((answer.status, reason), (401, Some(why)), "{name}");
                    assert_eq!(line["code"], "token_invalid", "{name}");
                }
            }
            assert_eq!(self.origin.requests().len(), before + accepted, "{name}: what the upstream saw");
        }
    }
}

/// A configuration with further lines in one of its tables, which is there already.
///
/// # Panics
///
/// If it is not there exactly once.
pub(crate) fn add_to(toml: &str, table: &str, lines: &str) -> String {
    replaced(toml, &format!("[{table}]\n"), &format!("[{table}]\n{lines}\n"))
}

/// A configuration with one piece replaced.
///
/// # Panics
///
/// If it is not there exactly once: a test that changes nothing shows nothing.
pub(crate) fn replaced(toml: &str, from: &str, to: &str) -> String {
    assert_eq!(toml.matches(from).count(), 1, "{from:?} once in:\n{toml}");
    toml.replace(from, to)
}

/// A route of its own for `/NAME/*` to the upstream `main`, with these lines.
pub(crate) fn route(name: &str, lines: &str) -> String {
    format!("\n[[routes]]\nname = \"{name}\"\npath = \"/{name}/*\"\nupstream = \"main\"\n{lines}\n")
}
