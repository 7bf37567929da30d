//! The fixture of most tests: the gateway between an identity provider and an origin, with a clock
//! that the test controls.

use std::sync::Arc;
use std::time::Duration;

use portcullis::app::StartError;
use portcullis::clock::ManualClock;

use super::client::{self, Conn, Response};
use super::config::Config;
use super::gateway::Gateway;
use super::idp::Idp;
use super::origin::Origin;
use super::token::TokenBuilder;

/// Where a fixture's clock starts, in seconds since the Unix epoch: 2027-01-15T08:00:00Z.
pub(crate) const NOW: u64 = 1_800_000_000;

#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) idp: Idp,
    pub(crate) origin: Origin,
    pub(crate) gateway: Gateway,
    pub(crate) clock: ManualClock,
}

impl Fixture {
    pub(crate) async fn start(config: Config) -> Self {
        Self::with_idp(Idp::start().await, config).await
    }

    /// Like [`start`](Self::start), with an identity provider that the test has prepared, or that
    /// does not listen yet.
    pub(crate) async fn with_idp(idp: Idp, config: Config) -> Self {
        let origin = Origin::start().await;
        let clock = ManualClock::at(NOW);
        let gateway = Gateway::start(&config.to_toml(&idp.issuer(), origin.addr()), clock.clock()).await;
        Self { idp, origin, gateway, clock }
    }

    /// Like [`start`](Self::start), and looks at files for changes at this interval.
    pub(crate) async fn start_watching(config: Config, interval: Duration) -> Self {
        let (idp, origin) = (Idp::start().await, Origin::start().await);
        let clock = ManualClock::at(NOW);
        let toml = config.to_toml(&idp.issuer(), origin.addr());
        let gateway = Gateway::start_watching(&toml, clock.clock(), interval).await;
        Self { idp, origin, gateway, clock }
    }

    /// Replaces the configuration and reloads.
    ///
    /// # Panics
    ///
    /// If the gateway rejects the configuration.
    pub(crate) async fn reload(&self, config: Config) {
        self.try_reload(config).await.unwrap_or_else(|error| panic!("the gateway rejects the reload: {error}"));
    }

    /// Like [`reload`](Self::reload), for a configuration that the gateway should reject.
    pub(crate) async fn try_reload(&self, config: Config) -> Result<(), Arc<StartError>> {
        self.gateway.rewrite(&config.to_toml(&self.idp.issuer(), self.origin.addr()));
        self.gateway.reload().await
    }

    /// A good token at the fixture's time, to be changed and signed.
    pub(crate) fn token(&self) -> TokenBuilder {
        TokenBuilder::at(&self.idp.issuer(), self.clock.clock().now().seconds())
    }

    /// A good token, signed with `k1`, which the identity provider publishes unless the test
    /// changes its keys.
    pub(crate) fn good_token(&self) -> String {
        self.token().to_jwt()
    }

    /// The value of `Authorization` with a good token of `subject`.
    pub(crate) fn bearer(&self, subject: &str) -> String {
        self.token().claim("sub", subject).to_bearer()
    }

    /// `GET` on a connection of its own.
    pub(crate) async fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        client::get(self.gateway.addr(), target, headers).await
    }

    /// `GET` with this bearer token.
    pub(crate) async fn get_with_token(&self, target: &str, token: &str) -> Response {
        self.get(target, &[("Authorization", &format!("Bearer {token}"))]).await
    }

    /// A request on a connection of its own.
    pub(crate) async fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        client::request(self.gateway.addr(), method, target, headers, body).await
    }

    /// An HTTP/1.1 connection to the gateway.
    pub(crate) async fn connect(&self) -> Conn {
        Conn::open(self.gateway.addr()).await
    }

    /// How many verifications of tokens of the issuer `main` had this `result` (`accepted`,
    /// `refused` or `keys_unavailable`) and this `cache` (`hit` or `miss`).
    pub(crate) async fn verifications(&self, result: &str, cache: &str) -> u64 {
        let labels = format!("issuer=\"main\",result=\"{result}\",cache=\"{cache}\"");
        self.gateway.count(&format!("portcullis_token_verifications_total{{{labels}}}")).await
    }

    /// Sends each token to `target`. `Ok` expects 200. `Err` expects 401, this reason in the access
    /// log, and no request at the origin. The reason matters because a token that is refused for
    /// another fault than the one under test shows nothing.
    pub(crate) async fn assert_verdicts<'a>(
        &self,
        target: &str,
        rows: impl IntoIterator<Item = (&'a str, String, Result<(), &'a str>)>,
    ) {
        let before = self.origin.requests().len();
        let mut accepted = 0;
        for (name, token, expected) in rows {
            let response = self.get_with_token(target, &token).await;
            let line = self.gateway.access_line_of(&response).await;
            let reason = line["reason"].as_str();
            match expected {
                Ok(()) => {
                    accepted += 1;
                    assert_eq!((response.status, reason), (200, None), "{name}");
                }
                Err(expected) => {
                    assert_eq!((response.status, reason), (401, Some(expected)), "{name}");
                    assert_eq!(line["code"], "token_invalid", "{name}");
                }
            }
            assert_eq!(self.origin.requests().len(), before + accepted, "{name}: requests at the origin");
        }
    }
}
