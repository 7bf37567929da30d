//! Where an issuer's tokens carry their claims: settings for what real providers do.

use serde_json::json;

use crate::support::config::Config;
use crate::support::fixture::Fixture;

/// Cognito puts no audience into its access tokens, only the client's id; Okta calls the client
/// `cid`.
#[tokio::test]
async fn reads_audience_and_client_from_the_configured_claims() {
    let keys = "audience_claim = \"client_id\"\nclient_claim = [\"cid\", \"azp\"]";
    let fixture = Fixture::start(Config::minimal().add("issuers.main", keys)).await;
    let good = || fixture.token().without("aud").claim("client_id", "api").claim("azp", "second");
    for (name, token, status, client) in [
        ("the first configured client claim", good().claim("cid", "first"), 200, Some("first")),
        ("the second client claim", good(), 200, Some("second")),
        ("another client's", good().claim("client_id", "other"), 401, None),
        (
            "an audience in a claim that is not configured",
            fixture.token().without("client_id").claim("aud", "api"),
            401,
            None,
        ),
        ("a client that is not a string", good().claim("cid", json!(7)), 401, None),
    ] {
        let before = fixture.origin.requests().len();
        let response = fixture.get("/token/a", &[("authorization", &token.to_bearer())]).await;
        assert_eq!(response.status, status, "{name}: {}", response.text());
        let seen = fixture.origin.requests();
        assert_eq!(seen.len() - before, usize::from(status == 200), "{name}");
        if let Some(client) = client {
            assert_eq!(seen[before].header("x-identity-client"), Some(client), "{name}");
        }
    }
}
