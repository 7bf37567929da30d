//! Replay: a copy of a request that may be sent twice.

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Uri};
use http_body::Body as _;

use crate::upstream::body::RequestBody;

/// A copy of a request that may be sent twice: its method is idempotent, and it has no body or a
/// buffered one.
pub(in crate::upstream) struct ReplayableRequest {
    method: Method,
    target: Uri,
    headers: HeaderMap,
    /// `None` without a body.
    body: Option<Bytes>,
}

impl ReplayableRequest {
    /// `None` if the request may not be sent twice (RFC 9110 §9.2.2).
    pub(in crate::upstream) fn copy_of(request: &Request<RequestBody>) -> Option<Box<Self>> {
        let body = request.body().buffered();
        let is_replayable = request.method().is_idempotent() && (request.body().is_end_stream() || body.is_some());
        is_replayable.then(|| {
            Box::new(Self {
                method: request.method().clone(),
                target: request.uri().clone(),
                headers: request.headers().clone(),
                body: body.cloned(),
            })
        })
    }

    pub(super) fn into_request(self) -> Request<RequestBody> {
        let mut request = Request::new(self.body.map_or_else(RequestBody::empty, RequestBody::from_bytes));
        *request.method_mut() = self.method;
        *request.uri_mut() = self.target;
        *request.headers_mut() = self.headers;
        request
    }
}
