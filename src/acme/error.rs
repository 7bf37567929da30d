//! Why a certificate could not be obtained. The texts go to the log, so what the ACME server says
//! is escaped and truncated.

use instant_acme::Problem;

use super::state::StateError;
use crate::outbound::SetupError;
use crate::primitives::escape::escape_for_log;
use crate::tls::challenges::AnswerError;
use crate::tls::files::FileError;

/// The problem type of an ACME server that does not know an account (RFC 8555 §6.7).
const ACCOUNT_UNKNOWN: &str = "urn:ietf:params:acme:error:accountDoesNotExist";

/// The problem type of a limit on the number of orders.
const RATE_LIMITED: &str = "urn:ietf:params:acme:error:rateLimited";

/// The most subproblems of one response that are shown.
const MAX_SUBPROBLEMS: usize = 3;

/// Why a certificate could not be obtained.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AcmeError {
    /// The ACME server has refused a request.
    #[error("the ACME server has refused a request: {0}")]
    Refused(ServerProblem),
    /// The ACME server does not offer the configured challenge for this host.
    #[error("the ACME server offers no {kind} challenge for this host")]
    ChallengeNotOffered {
        /// The name of the challenge.
        kind: &'static str,
    },
    /// The ACME server could not validate the host.
    #[error("the ACME server could not validate the host: {0}")]
    Invalid(ServerProblem),
    /// The ACME server cannot be reached, or what it sends is not ACME.
    #[error("{0}")]
    Protocol(String),
    /// The order took longer than it may.
    #[error("the ACME server has not finished the order within {seconds} s")]
    Timeout {
        /// The longest time that an order may take.
        seconds: u64,
    },
    /// The certificate that the ACME server has issued cannot be used.
    #[error("the certificate that the ACME server has issued cannot be used: {0}")]
    Unusable(String),
    /// The certificate for a challenge cannot be generated.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The client for the ACME server cannot be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The file with the authorities of the ACME server cannot be used.
    #[error(transparent)]
    CaFile(#[from] FileError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a problem document says (RFC 8555 §6.7), escaped and truncated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerProblem {
    text: String,
    is_about_account: bool,
    is_rate_limit: bool,
}

impl ServerProblem {
    fn new(problem: &Problem) -> Self {
        let mut text = one_problem(problem.r#type.as_deref(), problem.detail.as_deref());
        for subproblem in problem.subproblems.iter().take(MAX_SUBPROBLEMS) {
            text.push_str("; ");
            text.push_str(&one_problem(subproblem.r#type.as_deref(), subproblem.detail.as_deref()));
        }
        let is = |kind| problem.r#type.as_deref() == Some(kind);
        Self { text, is_about_account: is(ACCOUNT_UNKNOWN), is_rate_limit: is(RATE_LIMITED) }
    }
}

impl std::fmt::Display for ServerProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

fn one_problem(kind: Option<&str>, detail: Option<&str>) -> String {
    let [kind, detail] = [kind.unwrap_or("about:blank"), detail.unwrap_or("no details")].map(escape_for_log);
    format!("{kind}: {detail}")
}

impl AcmeError {
    /// The ACME server could not validate a host; `problem` is what the challenge says about it.
    pub(super) fn invalid(problem: Option<&Problem>) -> Self {
        let unexplained =
            ServerProblem { text: "no reason given".to_owned(), is_about_account: false, is_rate_limit: false };
        Self::Invalid(problem.map_or(unexplained, ServerProblem::new))
    }

    /// Whether the ACME server does not know the account, such as after it has lost its data.
    #[must_use]
    pub(super) fn is_about_account(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_about_account)
    }
}

impl AcmeError {
    /// Whether the ACME server has had too many orders.
    #[must_use]
    pub(super) fn is_rate_limit(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.is_rate_limit)
    }
}

impl From<instant_acme::Error> for AcmeError {
    fn from(error: instant_acme::Error) -> Self {
        match error {
            instant_acme::Error::Api(problem) => Self::Refused(ServerProblem::new(&problem)),
            // Wraps an error of the gateway's HTTP client, whose text says what happened.
            instant_acme::Error::Other(error) => Self::Protocol(escape_for_log(&error.to_string())),
            instant_acme::Error::Json(error) => Self::Protocol(format!(
                "the ACME server has sent something that is not ACME: {}",
                escape_for_log(&error.to_string())
            )),
            error => Self::Protocol(escape_for_log(&error.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(problem: &str) -> AcmeError {
        instant_acme::Error::Api(serde_json::from_str(problem).unwrap()).into()
    }

    #[test]
    fn a_problem_of_the_server_is_shown_escaped_and_truncated() {
        let error = refused(
            r#"{"type": "urn:ietf:params:acme:error:rateLimited", "detail": "too many\r\n\u001b[31mcertificates"}"#,
        );
        assert_eq!(
            error.to_string(),
            "the ACME server has refused a request: urn:ietf:params:acme:error:rateLimited: too many\\r\\n\\u{1b}[31mcertificates"
        );
        let long = format!(r#"{{"detail": "{}", "subproblems": [{}{{}}]}}"#, "x".repeat(10_000), "{},".repeat(100));
        let text = refused(&long).to_string();
        assert!(text.len() < 500, "{} bytes", text.len());
        assert!(text.contains("xxx…; about:blank: no details"), "{text}");
    }

    #[test]
    fn an_unknown_account_is_recognized_by_its_type() {
        assert!(refused(r#"{"type": "urn:ietf:params:acme:error:accountDoesNotExist"}"#).is_about_account());
        assert!(!refused(r#"{"type": "urn:ietf:params:acme:error:malformed"}"#).is_about_account());
    }
}
