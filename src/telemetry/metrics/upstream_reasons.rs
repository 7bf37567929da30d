//! Reasons that the metrics of upstreams have as labels.

/// Why a further attempt followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryReason {
    /// The server had no connection to spare.
    Busy,
    /// The server closed the connection before it answered.
    Closed,
    /// The server could not be connected to.
    Connect,
    /// The server reset the connection or the stream.
    Reset,
    /// The server had just closed the connection that was reused.
    Stale,
    /// The server answered 502.
    Status502,
    /// The server answered 503.
    Status503,
    /// The server answered 504.
    Status504,
}

impl RetryReason {
    /// Every reason, in the order of their declaration.
    pub(super) const ALL: [Self; 8] = [
        Self::Busy,
        Self::Closed,
        Self::Connect,
        Self::Reset,
        Self::Stale,
        Self::Status502,
        Self::Status503,
        Self::Status504,
    ];

    /// The metric's label.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Stale => "stale",
            Self::Status502 => "502",
            Self::Status503 => "503",
            Self::Status504 => "504",
        }
    }
}

/// Why a response that had begun did not reach its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokenOff {
    /// The deadline that the client has given its gRPC call passed.
    CallDeadline,
    /// The client closed its connection, cancelled the request, or did not read for so long that
    /// the gateway closed the connection.
    ClientLeft,
    /// The route's `timeout` passed.
    TimedOut,
    /// The token expired, and `stream_after_expiry` passed.
    TokenExpired,
    /// The upstream closed its connection early, or its framing is invalid.
    UpstreamBrokeOff,
    /// The upstream sent nothing for too long.
    UpstreamIdle,
}

impl BrokenOff {
    /// Every cause, in the order of their declaration.
    pub(super) const ALL: [Self; 6] = [
        Self::CallDeadline,
        Self::ClientLeft,
        Self::TimedOut,
        Self::TokenExpired,
        Self::UpstreamBrokeOff,
        Self::UpstreamIdle,
    ];

    /// The reason in the access log, and the metric's label.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::CallDeadline => "deadline of the call",
            Self::ClientLeft => "client left",
            Self::TimedOut => "route timeout",
            Self::TokenExpired => "the token has expired",
            Self::UpstreamBrokeOff => "upstream broke off",
            Self::UpstreamIdle => "upstream idle",
        }
    }
}
