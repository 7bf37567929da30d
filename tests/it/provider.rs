//! A certified third-party OpenID provider: checks our reading of the standards against real
//! documents, keys and tokens.
//!
//! Skipped, with a note on stderr, where Node.js or the provider's packages are missing; never in
//! CI.

use std::time::Duration;

use portcullis::clock::{Clock, ManualClock};
use serde_json::json;

use crate::support::client::{self, Response};
use crate::support::config::Config;
use crate::support::gateway::Gateway;
use crate::support::origin::Origin;
use crate::support::provider::Provider;

/// The provider, and the gateway before an origin. The provider uses the system clock; the
/// gateway's clock starts at the same time and only the test moves it.
struct ProviderFixture {
    provider: Provider,
    origin: Origin,
    gateway: Gateway,
    clock: ManualClock,
}

impl ProviderFixture {
    async fn start(config: Config) -> Option<Self> {
        let provider = Provider::start().await?;
        let origin = Origin::start().await;
        let clock = ManualClock::at(Clock::system().now().seconds());
        let gateway = Gateway::start(&config.to_toml(provider.issuer(), origin.addr()), clock.clock()).await;
        Some(Self { provider, origin, gateway, clock })
    }

    async fn token(&self) -> String {
        self.provider.token("orders:read", Provider::RESOURCE).await
    }

    async fn get(&self, target: &str, token: &str) -> Response {
        client::get(self.gateway.addr(), target, &[("Authorization", &format!("Bearer {token}"))]).await
    }

    async fn assert_refused(&self, name: &str, token: &str, reason: &str) {
        let response = self.get("/scope/x", token).await;
        assert_eq!((response.status, &response.json()["code"]), (401, &json!("token_invalid")), "{name}");
        assert_eq!(self.gateway.access_line_of(&response).await["reason"], reason, "{name}");
    }
}

/// With the audience of the resource whose tokens are JWTs.
fn config() -> Config {
    Config::minimal().replace("issuers.main", &format!("audiences = [\"{}\"]", Provider::RESOURCE))
}

/// OpenID Connect Discovery §4, RFC 7517, RFC 8707, RFC 9068: discovery, keys and a JWT access
/// token of the provider, with both profiles.
#[tokio::test]
async fn accepts_access_tokens_of_a_certified_provider_and_forwards_the_identity() {
    for lines in ["profile = \"default\"", "profile = \"rfc9068\""] {
        let Some(fixture) = ProviderFixture::start(config().add("issuers.main", lines)).await else { return };
        let response = fixture.get("/scope/x", &fixture.token().await).await;
        assert_eq!(response.status, 200, "{lines}: {}", response.text());
        let seen = fixture.origin.requests().pop().expect("a request at the origin");
        for (name, value) in [
            ("x-identity-subject", "svc"),
            ("x-identity-client", "svc"),
            ("x-identity-issuer", fixture.provider.issuer()),
            ("x-identity-scopes", "orders:read"),
            ("x-identity-roles", "reader"),
        ] {
            assert_eq!(seen.header(name), Some(value), "{lines}: {name}");
        }
        assert_eq!(seen.header("authorization"), None, "{lines}");
        assert_eq!(fixture.provider.jwks_fetches().await, 1, "{lines}");
    }
}

/// RFC 6750 §3.1: the scopes that the provider granted are the ones that the gateway checks.
#[tokio::test]
async fn authorizes_by_the_scopes_and_roles_the_provider_granted() {
    let Some(fixture) = ProviderFixture::start(config()).await else { return };
    let other_scope = fixture.provider.token("orders:write", Provider::RESOURCE).await;
    let both = fixture.provider.token("orders:read orders:write", Provider::RESOURCE).await;
    for (name, target, token, status, code) in [
        ("any token", "/token/x", &other_scope, 200, None),
        ("another scope", "/scope/x", &other_scope, 403, Some("scope_insufficient")),
        ("both scopes", "/scope/x", &both, 200, None),
        ("another role", "/admin/x", &both, 403, Some("access_denied")),
    ] {
        let response = fixture.get(target, token).await;
        assert_eq!(response.status, status, "{name}");
        if let Some(code) = code {
            assert_eq!(response.json()["code"], code, "{name}");
        }
    }
}

/// Tokens of the provider that are not JWTs, carry another token's signature, or have expired.
#[tokio::test]
async fn refuses_opaque_forged_and_expired_tokens_of_the_provider() {
    let Some(fixture) = ProviderFixture::start(config()).await else { return };
    let opaque = fixture.provider.token("orders:read", Provider::OPAQUE_RESOURCE).await;
    fixture.assert_refused("opaque", &opaque, "not a JWT").await;
    let token = fixture.token().await;
    let (signed, _) = token.rsplit_once('.').expect("a JWT");
    let (_, other) = {
        let another = fixture.provider.token("orders:write", Provider::RESOURCE).await;
        let parts = another.rsplit_once('.').expect("a JWT");
        (parts.0.to_owned(), parts.1.to_owned())
    };
    fixture.assert_refused("with another token's signature", &format!("{signed}.{other}"), "signature invalid").await;
    fixture.clock.advance(Duration::from_secs(300 + 31));
    fixture.assert_refused("expired", &token, "expired").await;
    assert!(fixture.origin.requests().is_empty());
}

/// OpenID Connect Core §10.1.1; threats J-69, J-71: the provider rotates its keys while the gateway
/// runs. First the old key stays published, then it is withdrawn.
#[tokio::test]
async fn follows_the_providers_key_rotation() {
    let Some(fixture) = ProviderFixture::start(config().add("issuers.main", "leeway = \"5m\"")).await else { return };
    let first = fixture.token().await;
    assert_eq!(fixture.get("/scope/x", &first).await.status, 200);

    fixture.provider.rotate(false).await;
    fixture.clock.advance(Duration::from_secs(31));
    let second = fixture.token().await;
    assert_eq!(fixture.get("/scope/x", &second).await.status, 200, "the new key is fetched for its first token");
    assert_eq!(fixture.get("/scope/x", &first).await.status, 200, "the old one is still published");
    assert_eq!(fixture.provider.jwks_fetches().await, 2);

    fixture.provider.rotate(true).await;
    assert_eq!(fixture.get("/scope/x", &first).await.status, 200, "no refresh yet");
    fixture.clock.advance(Duration::from_secs(31));
    let third = fixture.token().await;
    assert_eq!(fixture.get("/scope/x", &third).await.status, 200);
    fixture.assert_refused("by the first key", &first, "key unknown").await;
    fixture.assert_refused("by the second key", &second, "key unknown").await;
    assert_eq!(fixture.provider.jwks_fetches().await, 3);
}

/// Threat J-70: a scheduled refresh notices a rotation without a token that needs it.
#[tokio::test]
async fn a_scheduled_refresh_drops_a_withdrawn_key() {
    let Some(fixture) =
        ProviderFixture::start(config().add("issuers.main", "leeway = \"5m\"\njwks_refresh = \"2m\"")).await
    else {
        return;
    };
    let old = fixture.token().await;
    assert_eq!(fixture.get("/scope/x", &old).await.status, 200);
    fixture.provider.rotate(true).await;
    fixture.clock.advance(Duration::from_secs(120));
    let refreshes = "portcullis_jwks_refreshes_total{issuer=\"main\",result=\"success\"}";
    fixture.gateway.wait_for_metric(refreshes, 2.0).await;
    fixture.assert_refused("by the dropped key", &old, "key unknown").await;
    assert_eq!(fixture.get("/scope/x", &fixture.token().await).await.status, 200);
}
