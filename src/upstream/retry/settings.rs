//! Settings of retries, from `retries`, `retry_on` and `retry_body_size`.

use http::Request;
use http_body::Body as _;

use crate::upstream::body::RequestBody;

/// When a request is sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    /// How many further times a request is sent that a server may have received already.
    pub max_retries: u32,
    /// The failures after which another server is tried.
    pub on: Vec<RetryCondition>,
    /// The largest request body that is buffered so that it can be sent again, in bytes; 0: none.
    pub max_body_bytes: u64,
}

/// A failure after which another server is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCondition {
    /// The server closed the connection, or reset it or the stream, before any byte of a response.
    Closed,
    /// The request could not be sent: no connection could be opened, or none became free.
    Connect,
    /// The server answered 502.
    BadGateway,
    /// The server answered 503.
    Unavailable,
    /// The server answered 504.
    GatewayTimeout,
}

impl RetryCondition {
    /// The condition that a response with this status fulfils.
    pub(super) fn of_status(status: u16) -> Option<Self> {
        match status {
            502 => Some(Self::BadGateway),
            503 => Some(Self::Unavailable),
            504 => Some(Self::GatewayTimeout),
            _ => None,
        }
    }
}

impl RetrySettings {
    /// Without any retry.
    pub(in crate::upstream) fn off() -> Self {
        Self { max_retries: 0, on: Vec::new(), max_body_bytes: 0 }
    }

    /// Whether another server is tried after `condition`.
    pub(in crate::upstream) fn has(&self, condition: RetryCondition) -> bool {
        self.on.contains(&condition)
    }

    /// The length of the body of `request`, in bytes, if it is to be buffered: it is small, as its
    /// length says, and the request could be sent again.
    pub(in crate::upstream) fn buffered_length(&self, request: &Request<RequestBody>) -> Option<u64> {
        if self.max_body_bytes == 0 || !self.may_resend() || !request.method().is_idempotent() {
            return None;
        }
        request.body().size_hint().exact().filter(|length| (1..=self.max_body_bytes).contains(length))
    }

    /// Whether a request may be sent again that a server may have received already.
    pub(super) fn may_resend(&self) -> bool {
        self.max_retries > 0 && self.on.iter().any(|condition| *condition != RetryCondition::Connect)
    }
}

#[cfg(test)]
impl RetrySettings {
    /// The defaults of the configuration.
    pub(crate) fn defaults() -> Self {
        Self { max_retries: 1, on: vec![RetryCondition::Connect, RetryCondition::Closed], max_body_bytes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    #[test]
    fn a_body_is_buffered_only_for_a_request_that_could_be_sent_again() {
        let settings = RetrySettings { max_body_bytes: 4, ..RetrySettings::defaults() };
        let only_connect = RetrySettings { on: vec![RetryCondition::Connect], ..settings.clone() };
        for (name, settings, method, body, expected) in [
            ("small", settings.clone(), Method::PUT, "1234", Some(4)),
            ("large", settings.clone(), Method::PUT, "12345", None),
            ("not idempotent", settings.clone(), Method::POST, "1234", None),
            ("without retries", RetrySettings { max_retries: 0, ..settings.clone() }, Method::PUT, "1234", None),
            ("only if it was not sent", only_connect, Method::PUT, "1234", None),
            ("without the setting", RetrySettings::defaults(), Method::PUT, "1234", None),
        ] {
            let mut request = Request::new(RequestBody::from_bytes(body.into()));
            *request.method_mut() = method;
            assert_eq!(settings.buffered_length(&request), expected, "{name}");
        }
        let bodiless = Request::new(RequestBody::empty());
        assert_eq!(settings.buffered_length(&bodiless), None);
    }
}
