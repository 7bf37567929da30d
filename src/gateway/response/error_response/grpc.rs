//! The gRPC form of a refusal: the HTTP status 200, and the status of the call in the only header
//! block of the response, which has no body ("Trailers-Only" in `doc/PROTOCOL-HTTP2.md` of the grpc
//! repository). A gRPC client reads that block as trailers.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{self, HeaderName, HeaderValue};

use super::{Refusal, Representation};
use crate::primitives::grpc::{CONTENT_TYPE, GRPC_MESSAGE, GRPC_RETRY_PUSHBACK, GRPC_STATUS, GrpcStatus};

/// The code of the refusal. The request id is in the same block.
const PORTCULLIS_CODE: HeaderName = HeaderName::from_static("portcullis-code");

impl Refusal {
    /// The status of a call that is refused. It follows `doc/http-grpc-status-mapping.md`, with a
    /// more exact status where that has one for several cases: a limit on rate or size is
    /// `RESOURCE_EXHAUSTED`, as gRPC servers report it, and a timeout `DEADLINE_EXCEEDED`.
    #[must_use]
    pub fn grpc_status(&self) -> GrpcStatus {
        match self {
            Self::CredentialsMissing | Self::TokenInvalid(_) => GrpcStatus::Unauthenticated,
            Self::ScopeInsufficient | Self::AccessDenied(_) | Self::ClientCertRequired(_) => {
                GrpcStatus::PermissionDenied
            }
            Self::RouteNotFound | Self::MethodNotAllowed { .. } => GrpcStatus::Unimplemented,
            Self::RateLimited(_) | Self::BodyTooLarge | Self::HeadTooLarge | Self::UriTooLong => {
                GrpcStatus::ResourceExhausted
            }
            Self::ClientTimeout | Self::UpstreamTimeout => GrpcStatus::DeadlineExceeded,
            Self::KeysUnavailable { .. }
            | Self::TunnelLimit(_)
            | Self::UpstreamBusy
            | Self::UpstreamFailed(_)
            | Self::UpstreamUnavailable { .. }
            | Self::UpstreamUnreachable(_) => GrpcStatus::Unavailable,
            Self::Framing(_)
            | Self::Host(_)
            | Self::Path(_)
            | Self::Misdirected
            | Self::RequestMalformed(_)
            | Self::Internal => GrpcStatus::Internal,
        }
    }

    /// The response to a gRPC call.
    pub(super) fn trailers_only(&self, representation: &Representation) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
        headers.insert(GRPC_STATUS, HeaderValue::from(u16::from(self.grpc_status().code())));
        // The texts need no percent-encoding, which a test checks.
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(representation.detail));
        headers.insert(PORTCULLIS_CODE, HeaderValue::from_static(representation.code));
        if let Some(retry_after) = self.retry_after() {
            headers.insert(GRPC_RETRY_PUSHBACK, HeaderValue::from(pushback_millis(retry_after)));
        }
        response
    }
}

/// `delay` in milliseconds, rounded up. Clients read a 32-bit number.
fn pushback_millis(delay: Duration) -> i32 {
    i32::try_from(delay.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
