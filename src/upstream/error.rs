//! Why an exchange with an upstream brings no response, and whose fault that is.
//!
//! The client's faults and the upstream's are separate types, so that neither can be reported as
//! the other. Each fault has a reason for the log, one of a fixed set of texts.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::body::RequestBodyFault;
use super::server::Server;
use super::stream::ServerSpeaksTls;
use super::tls_fault::TlsFault;

/// Why an upstream returned no response.
#[derive(Debug)]
pub struct ExchangeError {
    /// Whose fault it is, and what happened.
    pub cause: Fault,
    /// The server of the last attempt; `None` if there was no attempt.
    pub server: Option<Arc<Server>>,
}

/// Whose fault it is that there is no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The client did not complete the request's body.
    Client(RequestBodyFault),
    /// The upstream did not respond.
    Upstream(UpstreamError),
}

impl Fault {
    /// Whether another server could do better with a request that was not sent.
    pub(super) fn is_of_one_server(self) -> bool {
        match self {
            Self::Upstream(UpstreamError::Unreachable(fault)) => fault != ConnectFault::LocalResources,
            Self::Upstream(UpstreamError::Busy | UpstreamError::Failed(_)) => true,
            // The time is over, no server may be tried, or the request is incomplete.
            Self::Upstream(
                UpstreamError::DeadlineExceeded | UpstreamError::Timeout | UpstreamError::Unavailable { .. },
            )
            | Self::Client(_) => false,
        }
    }
}

impl From<UpstreamError> for Fault {
    fn from(error: UpstreamError) -> Self {
        Self::Upstream(error)
    }
}

/// What an upstream did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// All connections are in use, and the queue is full or the wait was too long.
    #[error("all connections are in use, and the queue is full or the wait was too long")]
    Busy,
    /// Connected, but there was no usable response.
    #[error("{}", .0.reason())]
    Failed(ResponseFault),
    /// The time limit of the exchange, which the route or the client sets, has passed. Not the
    /// server's fault.
    #[error("the exchange timed out")]
    DeadlineExceeded,
    /// No response head within `response_timeout`.
    #[error("the response timed out")]
    Timeout,
    /// No server is up, and another request is trying whether one has recovered.
    #[error("no server is up")]
    Unavailable {
        /// When to send the request again.
        retry_after: Duration,
    },
    /// Name resolution or connecting failed or timed out.
    #[error("{}", .0.reason())]
    Unreachable(ConnectFault),
}

/// Why there is no connection to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFault {
    /// No process listens on the port.
    Refused,
    /// No answer within `connect_timeout`.
    TimedOut,
    /// The name has no address, or no name server could be asked.
    NameNotResolved,
    /// There is no route to the server's network or host.
    NoRoute,
    /// There is no file with the name of the Unix socket.
    NoSocket,
    /// The operating system forbids it: this process may not write to the Unix socket, or a filter
    /// rejects the connection.
    NotPermitted,
    /// The server accepted the connection and closed it before the protocol had started.
    Closed,
    /// This process or machine lacks what a connection needs, such as a file descriptor or a port.
    LocalResources,
    /// The server can be reached, but not with TLS.
    Tls(TlsFault),
    /// Any other error of the operating system.
    Other,
}

/// Why a connected server's response is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseFault {
    /// The server reset the connection or the stream.
    Reset,
    /// The server closed the connection before the head of the response was complete.
    Closed,
    /// What it sent is not valid HTTP, or the head is larger than the limit.
    Malformed,
    /// It answered in TLS, although its URL in the configuration begins with `http://`.
    SpeaksTls,
    /// The length of the body is stated in a way that recipients read differently.
    AmbiguousLength,
    /// It switched protocols although the request did not ask for that.
    UnexpectedUpgrade,
    /// It did not complete the handshake of a WebSocket: it responded with success and did not
    /// switch protocols, or its proof is not that of the key.
    WebSocketHandshake,
}

impl ConnectFault {
    /// The reason for the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::TimedOut => "connect timeout",
            Self::NameNotResolved => "name not resolved",
            Self::NoRoute => "no route to the server",
            Self::NoSocket => "the socket does not exist",
            Self::NotPermitted => "connecting is not permitted",
            Self::Closed => "closed while connecting",
            Self::LocalResources => "out of file descriptors or ports",
            Self::Tls(fault) => fault.reason(),
            Self::Other => "cannot connect",
        }
    }
}

impl From<&io::Error> for ConnectFault {
    fn from(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::NoRoute,
            io::ErrorKind::NotFound => Self::NoSocket,
            io::ErrorKind::PermissionDenied => Self::NotPermitted,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Self::Closed,
            io::ErrorKind::AddrNotAvailable | io::ErrorKind::AddrInUse => Self::LocalResources,
            _ if is_out_of_descriptors(error) => Self::LocalResources,
            _ => Self::Other,
        }
    }
}

/// `EMFILE` or `ENFILE`, which have no [`io::ErrorKind`]. The numbers are the same on all systems
/// that the gateway is built for.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

impl ResponseFault {
    /// The reason for the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Reset => "reset",
            Self::Closed => "closed before answering",
            Self::Malformed => "malformed response",
            Self::SpeaksTls => "the server speaks TLS, but its URL is http",
            Self::AmbiguousLength => "ambiguous length of the response",
            Self::UnexpectedUpgrade => "unexpected switch of protocols",
            Self::WebSocketHandshake => "invalid WebSocket handshake",
        }
    }

    /// Classifies hyper's error for a response that did not arrive.
    pub(super) fn of(error: &hyper::Error) -> Self {
        let source = std::error::Error::source(error);
        if let Some(error) = source.and_then(|source| source.downcast_ref::<h2::Error>()) {
            return match error.get_io() {
                Some(io) => Self::of_io(io),
                None if error.is_remote() => Self::Reset,
                None => Self::Malformed,
            };
        }
        if let Some(io) = source.and_then(|source| source.downcast_ref::<io::Error>()) {
            return Self::of_io(io);
        }
        // Only these remain when the bytes that arrived were of no use; everything else means that
        // no complete head arrived.
        if error.is_parse() || error.is_parse_too_large() { Self::Malformed } else { Self::Closed }
    }

    fn of_io(error: &io::Error) -> Self {
        if error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<ServerSpeaksTls>) {
            return Self::SpeaksTls;
        }
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
                Self::Reset
            }
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::Malformed,
            _ => Self::Closed,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[test]
    fn an_error_of_a_socket_has_a_reason_for_the_operator() {
        use ConnectFault::{Closed, LocalResources, NoRoute, Other, Refused, TimedOut};
        for (error, expected) in [
            (ErrorKind::ConnectionRefused.into(), Refused),
            (ErrorKind::TimedOut.into(), TimedOut),
            (ErrorKind::HostUnreachable.into(), NoRoute),
            (ErrorKind::NetworkUnreachable.into(), NoRoute),
            (ErrorKind::ConnectionReset.into(), Closed),
            (ErrorKind::ConnectionAborted.into(), Closed),
            (ErrorKind::AddrNotAvailable.into(), LocalResources),
            (ErrorKind::AddrInUse.into(), LocalResources),
            (io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error()), LocalResources),
            (io::Error::from_raw_os_error(rustix::io::Errno::NFILE.raw_os_error()), LocalResources),
            (io::Error::from_raw_os_error(rustix::io::Errno::NOMEM.raw_os_error()), Other),
            (ErrorKind::PermissionDenied.into(), ConnectFault::NotPermitted),
            (ErrorKind::Unsupported.into(), Other),
        ] {
            assert_eq!(ConnectFault::from(&error), expected, "{error:?}");
        }
    }

    #[test]
    fn an_error_while_the_response_is_read_has_a_reason_for_the_operator() {
        use ResponseFault::{Closed, Malformed, Reset};
        for (kind, expected) in [
            (ErrorKind::ConnectionReset, Reset),
            (ErrorKind::BrokenPipe, Reset),
            (ErrorKind::ConnectionAborted, Reset),
            (ErrorKind::InvalidData, Malformed),
            (ErrorKind::InvalidInput, Malformed),
            (ErrorKind::UnexpectedEof, Closed),
            (ErrorKind::TimedOut, Closed),
        ] {
            assert_eq!(ResponseFault::of_io(&kind.into()), expected, "{kind:?}");
        }
    }
}
