//! Endpoints of the built-in issuer: discovery, keys, and `POST /token` for client credentials (RFC
//! 6749 §4.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::{Client, LocalIssuer};

/// A request with its body.
#[derive(Debug)]
pub(crate) struct IssuerRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path.
    pub path: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body. The caller bounds its size.
    pub body: &'a [u8],
}

/// An error of the token endpoint (RFC 6749 §5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenError {
    InvalidClient,
    InvalidRequest,
    InvalidScope,
    UnsupportedGrantType,
}

impl TokenError {
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
    /// Responds to a request.
    #[must_use]
    pub(crate) fn respond(&self, request: &IssuerRequest<'_>) -> Response<Bytes> {
        match (request.method.as_str(), request.path) {
            ("GET", "/.well-known/openid-configuration") => document(StatusCode::OK, &self.discovery()),
            ("GET", "/jwks") => document(StatusCode::OK, &json!({ "keys": [self.key.public_jwk()] })),
            ("POST", "/token") => match self.grant(request) {
                Ok(granted) => document(StatusCode::OK, &granted),
                Err(error) => {
                    let mut refusal = document(error.status(), &json!({ "error": error.code() }));
                    if error == TokenError::InvalidClient {
                        let challenge = HeaderValue::from_static("Basic realm=\"token\"");
                        refusal.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
                    }
                    refusal
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

    fn grant(&self, request: &IssuerRequest<'_>) -> Result<Value, TokenError> {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(request.body).into_owned().collect();
        let field = |name: &str| {
            let mut found = form.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
            // A repeated parameter is an error (RFC 6749 §3.2).
            match (found.next(), found.next()) {
                (value, None) => Ok(value),
                (_, Some(_)) => Err(TokenError::InvalidRequest),
            }
        };
        let client = self.client(request.headers, field("client_id")?, field("client_secret")?)?;
        match field("grant_type")? {
            Some("client_credentials") => {}
            Some(_) => return Err(TokenError::UnsupportedGrantType),
            None => return Err(TokenError::InvalidRequest),
        }
        let requested: Vec<&str> =
            field("scope")?.unwrap_or_default().split(' ').filter(|scope| !scope.is_empty()).collect();
        if requested.iter().any(|scope| !client.scopes.contains(scope)) {
            return Err(TokenError::InvalidScope);
        }
        let scopes = if requested.is_empty() { client.scopes } else { &requested };
        Ok(json!({
            "access_token": self.issue(client, scopes, self.clock.now().seconds()),
            "token_type": "Bearer",
            "expires_in": self.settings.lifetime.as_secs(),
            "scope": scopes.join(" "),
        }))
    }

    /// Authenticates the client by HTTP Basic or by form fields (RFC 6749 §2.3.1).
    fn client(&self, headers: &HeaderMap, id: Option<&str>, secret: Option<&str>) -> Result<&Client, TokenError> {
        let (id, secret) = match headers.get(header::AUTHORIZATION) {
            Some(field) => basic(field).ok_or(TokenError::InvalidClient)?,
            None => {
                (id.ok_or(TokenError::InvalidClient)?.to_owned(), secret.ok_or(TokenError::InvalidClient)?.to_owned())
            }
        };
        let known = self.settings.clients.iter().find(|client| client.id == id).ok_or(TokenError::InvalidClient)?;
        let is_correct =
            aws_lc_rs::constant_time::verify_slices_are_equal(known.secret.as_bytes(), secret.as_bytes()).is_ok();
        if is_correct { Ok(known) } else { Err(TokenError::InvalidClient) }
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
    use crate::local_issuer::LocalIssuerSettings;
    use crate::primitives::clock::ManualClock;

    static ISSUER: LazyLock<LocalIssuer> = LazyLock::new(|| {
        let client = Client { id: "reader", secret: "s3", scopes: &["a", "b"], claims: Map::new() };
        let settings = LocalIssuerSettings {
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
        let request = IssuerRequest { method: &Method::POST, path: "/token", headers: &headers, body: body.as_bytes() };
        let response = ISSUER.respond(&request);
        assert_eq!(response.headers()["cache-control"], "no-store");
        (response.status().as_u16(), serde_json::from_slice(response.body()).unwrap())
    }

    /// RFC 6749 §4.4 and §5.2.
    #[test]
    fn the_token_endpoint_grants_only_allowed_scopes() {
        let valid = Some("Basic cmVhZGVyOnMz"); // reader:s3
        let grant = "grant_type=client_credentials";
        for (name, authorization, body, status, expected) in [
            ("all scopes", valid, grant.to_owned(), 200, "a b"),
            ("fewer scopes", valid, format!("{grant}&scope=b"), 200, "b"),
            ("by form", None, format!("{grant}&client_id=reader&client_secret=s3"), 200, "a b"),
            ("more scopes", valid, format!("{grant}&scope=a+c"), 400, "invalid_scope"),
            ("wrong secret", Some("Basic cmVhZGVyOng="), grant.to_owned(), 401, "invalid_client"),
            ("no client", None, grant.to_owned(), 401, "invalid_client"),
            ("unknown client", None, format!("{grant}&client_id=x&client_secret=s3"), 401, "invalid_client"),
            ("another grant", valid, "grant_type=password".to_owned(), 400, "unsupported_grant_type"),
            ("no grant", valid, String::new(), 400, "invalid_request"),
            ("two scopes fields", valid, format!("{grant}&scope=a&scope=b"), 400, "invalid_request"),
        ] {
            let (got, body) = post(authorization, &body);
            let actual = if status == 200 { &body["scope"] } else { &body["error"] };
            assert_eq!((got, actual), (status, &Value::from(expected)), "{name}");
        }
    }

    #[test]
    fn the_discovery_document_names_the_key_set() {
        let headers = HeaderMap::new();
        let get = |path| {
            let response = ISSUER.respond(&IssuerRequest { method: &Method::GET, path, headers: &headers, body: b"" });
            (response.status().as_u16(), serde_json::from_slice::<Value>(response.body()).unwrap())
        };
        let (status, discovery) = get("/.well-known/openid-configuration");
        assert_eq!((status, &discovery["jwks_uri"]), (200, &Value::from("http://127.0.0.1:8081/jwks")));
        assert_eq!(get("/jwks").1["keys"].as_array().map(Vec::len), Some(1));
        assert_eq!(get("/nothing").0, 404);
    }
}
