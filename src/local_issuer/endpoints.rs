//! Endpoints of the built-in issuer: discovery, keys, and `POST /token` for client credentials (RFC 6749 §4.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{Client, LocalIssuer};

/// A request, body and all.
#[derive(Debug)]
pub struct Question<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path.
    pub path: &'a str,
    /// Its header.
    pub headers: &'a HeaderMap,
    /// Its body, which whoever listens has bounded.
    pub body: &'a [u8],
}

/// An error of the token endpoint (RFC 6749 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    InvalidClient,
    InvalidRequest,
    InvalidScope,
    UnsupportedGrantType,
}

impl Fault {
    fn code(self) -> &'static str {
        match self {
            Self::InvalidClient => "invalid_client",
            Self::InvalidRequest => "invalid_request",
            Self::InvalidScope => "invalid_scope",
            Self::UnsupportedGrantType => "unsupported_grant_type",
        }
    }

    fn status(self) -> StatusCode {
        match self {
            Self::InvalidClient => StatusCode::UNAUTHORIZED,
            Self::InvalidRequest | Self::InvalidScope | Self::UnsupportedGrantType => StatusCode::BAD_REQUEST,
        }
    }
}

impl LocalIssuer {
    /// Answers a request.
    #[must_use]
    pub fn answer(&self, question: &Question<'_>) -> Response<Bytes> {
        match (question.method.as_str(), question.path) {
            ("GET", "/.well-known/openid-configuration") => document(StatusCode::OK, &self.discovery()),
            ("GET", "/jwks") => document(StatusCode::OK, &json!({ "keys": [self.key.public_jwk()] })),
            ("POST", "/token") => match self.grant(question) {
                Ok(granted) => document(StatusCode::OK, &granted),
                Err(fault) => {
                    let mut refused = document(fault.status(), &json!({ "error": fault.code() }));
                    if fault == Fault::InvalidClient {
                        let challenge = HeaderValue::from_static("Basic realm=\"token\"");
                        refused.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                    }
                    refused
                }
            },
            _ => document(StatusCode::NOT_FOUND, &json!({ "error": "not_found" })),
        }
    }

    fn discovery(&self) -> Value {
        let issuer = &self.settings.issuer;
        json!({
            "issuer": issuer,
            "jwks_uri": format!("{issuer}/jwks"),
            "token_endpoint": format!("{issuer}/token"),
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        })
    }

    fn grant(&self, question: &Question<'_>) -> Result<Value, Fault> {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(question.body).into_owned().collect();
        let field = |name: &str| {
            let mut found = form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
            // A parameter that is there twice is an error (RFC 6749 §3.2).
            match (found.next(), found.next()) {
                (value, None) => Ok(value),
                (_, Some(_)) => Err(Fault::InvalidRequest),
            }
        };
        let client = self.client(question.headers, field("client_id")?, field("client_secret")?)?;
        match field("grant_type")? {
            Some("client_credentials") => {}
            Some(_) => return Err(Fault::UnsupportedGrantType),
            None => return Err(Fault::InvalidRequest),
        }
        let asked: Vec<&str> =
            field("scope")?.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()).collect();
        if asked.iter().any(|scope| !client.scopes.contains(scope)) {
            return Err(Fault::InvalidScope);
        }
        let scopes = if asked.is_empty() { client.scopes } else { &asked };
        Ok(json!({
            "access_token": self.issue(client, scopes, self.clock.now().seconds()),
            "token_type": "Bearer",
            "expires_in": self.settings.lifetime.as_secs(),
            "scope": scopes.join(" "),
        }))
    }

    /// The client, by HTTP Basic or by form fields (RFC 6749 §2.3.1).
    fn client(&self, headers: &HeaderMap, id: Option<&str>, secret: Option<&str>) -> Result<&Client, Fault> {
        let (id, secret) = match headers.get(header::AUTHORIZATION) {
            Some(field) => basic(field).ok_or(Fault::InvalidClient)?,
            None => (id.ok_or(Fault::InvalidClient)?.to_owned(), secret.ok_or(Fault::InvalidClient)?.to_owned()),
        };
        let known = self.settings.clients.iter().find(|client| client.id == id).ok_or(Fault::InvalidClient)?;
        let right =
            aws_lc_rs::constant_time::verify_slices_are_equal(known.secret.as_bytes(), secret.as_bytes()).is_ok();
        if right { Ok(known) } else { Err(Fault::InvalidClient) }
    }
}

fn basic(field: &HeaderValue) -> Option<(String, String)> {
    let (scheme, credentials) = field.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(credentials.trim()).ok()?).ok()?;
    let (id, secret) = text.split_once(':')?;
    Some((id.to_owned(), secret.to_owned()))
}

fn document(status: StatusCode, content: &Value) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(content.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;
    use std::time::Duration;

    use serde_json::Map;

    use super::*;
    use crate::local_issuer::Settings;
    use crate::primitives::clock::ManualClock;

    static ISSUER: LazyLock<LocalIssuer> = LazyLock::new(|| {
        let client = Client { id: "reader", secret: "s3", scopes: &["a", "b"], claims: Map::new() };
        let settings = Settings {
            issuer: "http://127.0.0.1:8081".to_owned(),
            audience: "demo".to_owned(),
            lifetime: Duration::from_secs(60),
            clients: vec![client],
        };
        LocalIssuer::new(settings, ManualClock::at(1_000).clock()).unwrap()
    });

    fn post(authorization: Option<&str>, body: &str) -> (u16, Value) {
        let headers = authorization
            .map(|text| (header::AUTHORIZATION, HeaderValue::try_from(text).unwrap()))
            .into_iter()
            .collect();
        let question = Question { method: &Method::POST, path: "/token", headers: &headers, body: body.as_bytes() };
        let answer = ISSUER.answer(&question);
        assert_eq!(answer.headers()["cache-control"], "no-store");
        (answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap())
    }

    /// RFC 6749 §4.4 and §5.2.
    #[test]
    fn the_token_endpoint_grants_what_the_client_may_have() {
        let right = Some("Basic cmVhZGVyOnMz"); // reader:s3
        let grant = "grant_type=client_credentials";
        for (name, authorization, body, status, expected) in [
            ("all scopes", right, grant.to_owned(), 200, "a b"),
            ("fewer scopes", right, format!("{grant}&scope=b"), 200, "b"),
            ("by form", None, format!("{grant}&client_id=reader&client_secret=s3"), 200, "a b"),
            ("more scopes", right, format!("{grant}&scope=a+c"), 400, "invalid_scope"),
            ("wrong secret", Some("Basic cmVhZGVyOng="), grant.to_owned(), 401, "invalid_client"),
            ("no client", None, grant.to_owned(), 401, "invalid_client"),
            ("unknown client", None, format!("{grant}&client_id=x&client_secret=s3"), 401, "invalid_client"),
            ("another grant", right, "grant_type=password".to_owned(), 400, "unsupported_grant_type"),
            ("no grant", right, String::new(), 400, "invalid_request"),
            ("two scopes fields", right, format!("{grant}&scope=a&scope=b"), 400, "invalid_request"),
        ] {
            let (got, body) = post(authorization, &body);
            let told = if status == 200 { &body["scope"] } else { &body["error"] };
            assert_eq!((got, told), (status, &Value::from(expected)), "{name}");
        }
    }

    #[test]
    fn discovery_names_the_keys() {
        let headers = HeaderMap::new();
        let get = |path| {
            let answer = ISSUER.answer(&Question { method: &Method::GET, path, headers: &headers, body: b"" });
            (answer.status().as_u16(), serde_json::from_slice::<Value>(answer.body()).unwrap())
        };
        let (status, discovery) = get("/.well-known/openid-configuration");
        assert_eq!((status, &discovery["jwks_uri"]), (200, &Value::from("http://127.0.0.1:8081/jwks")));
        assert_eq!(get("/jwks").1["keys"].as_array().map(Vec::len), Some(1));
        assert_eq!(get("/nothing").0, 404);
    }
}
