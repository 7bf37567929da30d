//! The demo's sample upstream: responds with the request that it received.

use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::{Map, Value, json};

use super::serve::BufferedRequest;

/// The received request as JSON. Identity headers are separate, because the demo is about them.
pub(super) fn echo(request: &BufferedRequest) -> Response<Bytes> {
    let (mut identity, mut others) = (Map::new(), Map::new());
    for (name, value) in &request.parts.headers {
        let target = if name.as_str().starts_with("x-identity-") { &mut identity } else { &mut others };
        target.insert(name.to_string(), Value::from(String::from_utf8_lossy(value.as_bytes())));
    }
    let text = json!({
        "the_upstream_received": {
            "method": request.parts.method.as_str(),
            "target": request.parts.uri.to_string(),
            "identity": identity,
            "other_headers": others,
            "body_bytes": request.body.len(),
        }
    });
    let mut response = Response::new(Bytes::from(format!("{text:#}\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
