//! Why a response ends before its body is complete, and how its client learns of it.

use http::{HeaderMap, HeaderValue};

use super::time_limit::TimeLimitSource;
use crate::primitives::grpc::{GRPC_MESSAGE, GRPC_STATUS, GrpcStatus};
use crate::telemetry::metrics::BrokenOff;
use crate::upstream::body::ResponseBodyError;

/// Why a response ends before its body is complete.
#[derive(Clone, Copy, Debug, thiserror::Error)]
pub enum BodyError {
    /// A time limit has passed.
    #[error("the time of the response is over")]
    TimeOver(TimeLimitSource),
    /// The upstream's body failed.
    #[error(transparent)]
    Upstream(#[from] ResponseBodyError),
}

/// How a response is ended before its body is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AbortForm {
    /// The connection or stream is aborted, so that the client does not mistake a truncated body
    /// for a complete one.
    Abort,
    /// The response ends with trailers that state why. A gRPC client believes a response to be
    /// complete only if they state success.
    GrpcTrailers,
}

impl BodyError {
    /// The status of a gRPC call that breaks off.
    #[must_use]
    pub(super) fn grpc_status(self) -> GrpcStatus {
        match self {
            Self::TimeOver(TimeLimitSource::Call | TimeLimitSource::Route) => GrpcStatus::DeadlineExceeded,
            Self::TimeOver(TimeLimitSource::Token) => GrpcStatus::Unauthenticated,
            Self::Upstream(ResponseBodyError::CutOff | ResponseBodyError::Idle) => GrpcStatus::Unavailable,
        }
    }

    /// The trailers of a gRPC call that breaks off.
    #[must_use]
    pub(super) fn grpc_trailers(self) -> HeaderMap {
        let message = match self {
            Self::TimeOver(TimeLimitSource::Call) => "The deadline of the call has passed.",
            Self::TimeOver(TimeLimitSource::Route) => "The call took longer than the gateway allows.",
            Self::TimeOver(TimeLimitSource::Token) => "The access token expired.",
            Self::Upstream(ResponseBodyError::CutOff) => "The service behind this gateway broke off its response.",
            Self::Upstream(ResponseBodyError::Idle) => "The service behind this gateway sent nothing for too long.",
        };
        HeaderMap::from_iter([
            (GRPC_STATUS, HeaderValue::from(u16::from(self.grpc_status().code()))),
            (GRPC_MESSAGE, HeaderValue::from_static(message)),
        ])
    }
}

impl From<BodyError> for BrokenOff {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TimeOver(TimeLimitSource::Call) => Self::CallDeadline,
            BodyError::TimeOver(TimeLimitSource::Route) => Self::TimedOut,
            BodyError::TimeOver(TimeLimitSource::Token) => Self::TokenExpired,
            BodyError::Upstream(ResponseBodyError::CutOff) => Self::UpstreamBrokeOff,
            BodyError::Upstream(ResponseBodyError::Idle) => Self::UpstreamIdle,
        }
    }
}
