//! Retries: which failed attempts are followed by another one, and on which server.

use http::Method;

use super::*;
use crate::primitives::clock::Clock;
use crate::upstream::balance::Balance;
use crate::upstream::body::RequestBodyFault;
use crate::upstream::tests::upstream;
use crate::upstream::{ConnectFault, UpstreamSettings};

fn request(method: Method) -> Request<RequestBody> {
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = method;
    request
}

fn picked(upstream: &Upstream, candidates: &Candidates) -> Arc<Server> {
    Arc::clone(upstream.pick(candidates, None).expect("a candidate is left").in_flight.server())
}

fn failed_attempt(fault: Fault, connection: AttemptConnection, unsent: Option<Method>) -> FailedAttempt {
    let failure =
        SendFailure { fault, unsent: unsent.map(|method| Box::new(request(method))), ..SendFailure::from(fault) };
    FailedAttempt {
        failure,
        connection,
        replay: None,
        options: AttemptOptions {
            candidates: Candidates::default(),
            reuse: Reuse::Allowed,
            connect_time: Duration::from_secs(2),
            retries_left: 1,
            is_replay: false,
        },
    }
}

const FAILED: Fault = Fault::Upstream(UpstreamError::Failed(ResponseFault::Closed));
const REFUSED: Fault = Fault::Upstream(UpstreamError::Unreachable(ConnectFault::Refused));

#[test]
fn a_stale_connection_and_a_harmless_request_allow_a_retry_on_the_same_server() {
    use AttemptConnection::{New, Reused};
    let upstream = upstream(Balance::RoundRobin, &[1]);
    for (name, connection, method, is_unsent, may_be_unprocessed, retries) in [
        ("stale, idempotent", Reused, Method::GET, false, true, true),
        ("stale, not idempotent", Reused, Method::POST, false, true, false),
        ("stale, not idempotent, not written", Reused, Method::POST, true, true, true),
        ("not written, for another reason", Reused, Method::POST, true, false, true),
        ("not stale", Reused, Method::GET, false, false, false),
        ("a new connection to the only server", New, Method::GET, true, true, false),
    ] {
        let mut attempt = failed_attempt(FAILED, connection, is_unsent.then(|| method.clone()));
        attempt.replay = ReplayableRequest::copy_of(&request(method.clone()));
        attempt.failure.may_be_unprocessed = may_be_unprocessed;
        match (attempt.outcome(&upstream.servers()[0], &upstream), retries) {
            (AttemptOutcome::Retry(next, _), true) => {
                assert_eq!(next.request.method(), method, "{name}");
                assert_eq!(next.options.reuse, Reuse::Forbidden, "{name}: or there would be no last attempt");
                assert_eq!(picked(&upstream, &next.options.candidates).id(), upstream.servers()[0].id(), "{name}");
            }
            (AttemptOutcome::Failed(fault), false) => assert_eq!(fault, FAILED, "{name}"),
            (AttemptOutcome::Response(_) | AttemptOutcome::Retry(..) | AttemptOutcome::Failed(_), _) => {
                panic!("{name}: expected {}", if retries { "a retry" } else { "a failure" })
            }
        }
    }
}

/// A server that dies closes its idle connections, and may still accept a new one before it is
/// gone.
#[test]
fn a_stale_connection_uses_up_no_retry() {
    let upstream = upstream(Balance::RoundRobin, &[1, 2]);
    (0..5).for_each(|_| upstream.retry_budget.note_request());
    let first = &upstream.servers()[0];
    let mut stale = failed_attempt(FAILED, AttemptConnection::Reused, None);
    stale.failure.may_be_unprocessed = true;
    stale.replay = ReplayableRequest::copy_of(&request(Method::GET));
    let AttemptOutcome::Retry(again, RetryReason::Stale) = stale.outcome(first, &upstream) else {
        panic!("it is sent again");
    };
    let mut failed = failed_attempt(FAILED, AttemptConnection::New, None);
    failed.replay = ReplayableRequest::copy_of(&again.request);
    failed.options = again.options;
    let AttemptOutcome::Retry(elsewhere, RetryReason::Closed) = failed.outcome(first, &upstream) else {
        panic!("the other server has it too");
    };
    assert_ne!(picked(&upstream, &elsewhere.options.candidates).id(), first.id());
    assert_eq!(elsewhere.options.retries_left, 0);
}

#[test]
fn a_request_that_was_not_sent_goes_to_each_other_server_once() {
    let upstream = upstream(Balance::LeastRequest, &[1, 2, 3]);
    let busy = Fault::Upstream(UpstreamError::Busy);
    for (fault, connection) in
        [(REFUSED, AttemptConnection::None), (busy, AttemptConnection::None), (FAILED, AttemptConnection::New)]
    {
        let mut attempt = failed_attempt(fault, connection, Some(Method::POST));
        let mut tried = Vec::new();
        loop {
            let server = picked(&upstream, &attempt.options.candidates);
            tried.push(server.address().port());
            match attempt.outcome(&server, &upstream) {
                AttemptOutcome::Retry(next, _) => {
                    assert_eq!(next.request.method(), Method::POST, "the request is as it was");
                    let options = next.options;
                    attempt = FailedAttempt { options, ..failed_attempt(fault, connection, Some(Method::POST)) };
                }
                AttemptOutcome::Failed(last) => {
                    assert_eq!(last, fault);
                    break;
                }
                AttemptOutcome::Response(_) => panic!("nothing was sent"),
            }
        }
        tried.sort_unstable();
        assert_eq!(tried, [1, 2, 3], "{fault:?}");
    }
}

#[test]
fn a_server_that_has_closed_a_connection_and_now_refuses_one_loses_the_request_to_another() {
    let upstream = upstream(Balance::RoundRobin, &[1, 2]);
    let [first, second] = &upstream.servers()[..] else { panic!("two servers") };
    let stale = failed_attempt(FAILED, AttemptConnection::Reused, Some(Method::POST));
    let AttemptOutcome::Retry(next, _) = stale.outcome(first, &upstream) else { panic!("a retry") };
    let refused = FailedAttempt::without_connection(UpstreamError::Unreachable(ConnectFault::Refused), *next);
    let AttemptOutcome::Retry(next, _) = refused.outcome(first, &upstream) else { panic!("another server") };
    assert_eq!(picked(&upstream, &next.options.candidates).id(), second.id());
}

#[test]
fn a_fault_of_the_client_or_of_all_servers_allows_no_retry() {
    let upstream = upstream(Balance::RoundRobin, &[1, 2]);
    for fault in [
        Fault::Client(RequestBodyFault::Abandoned),
        Fault::Upstream(UpstreamError::Timeout),
        Fault::Upstream(UpstreamError::Unreachable(ConnectFault::LocalResources)),
    ] {
        let attempt = failed_attempt(fault, AttemptConnection::None, Some(Method::GET));
        assert!(matches!(attempt.outcome(&upstream.servers()[0], &upstream), AttemptOutcome::Failed(_)), "{fault:?}");
    }
}

/// A request that a server has received, with a copy if it may be sent twice.
fn received(fault: Fault, connection: AttemptConnection, method: Method) -> FailedAttempt {
    let replay = ReplayableRequest::copy_of(&request(method));
    FailedAttempt { replay, ..failed_attempt(fault, connection, None) }
}

fn settings(max_retries: u32, on: &[RetryCondition]) -> RetrySettings {
    RetrySettings { max_retries, on: on.to_vec(), max_body_bytes: 0 }
}

/// Two servers, of an upstream with these settings.
fn two_servers(retry: RetrySettings) -> Upstream {
    let template = upstream(Balance::RoundRobin, &[1, 2]);
    let settings = UpstreamSettings { retry, ..template.settings().clone() };
    Upstream::new(settings, None, template.metrics().clone(), Clock::system())
}

#[tokio::test(start_paused = true)]
async fn a_request_that_a_server_may_have_received_goes_to_another_one_if_it_is_harmless() {
    use AttemptConnection::{New, Reused};
    use RetryCondition::{Closed, Connect};
    const RESET: Fault = Fault::Upstream(UpstreamError::Failed(ResponseFault::Reset));
    const MALFORMED: Fault = Fault::Upstream(UpstreamError::Failed(ResponseFault::Malformed));
    const TIMEOUT: Fault = Fault::Upstream(UpstreamError::Timeout);
    for (name, fault, connection, method, on, retried) in [
        ("closed", FAILED, New, Method::GET, &[Closed][..], Some(RetryReason::Closed)),
        ("reset", RESET, New, Method::PUT, &[Closed], Some(RetryReason::Reset)),
        ("a stream that is reset", RESET, Reused, Method::DELETE, &[Closed], Some(RetryReason::Reset)),
        ("not idempotent", FAILED, New, Method::POST, &[Closed], None),
        ("not wanted", FAILED, New, Method::GET, &[Connect], None),
        ("malformed", MALFORMED, New, Method::GET, &[Closed], None),
        ("too slow", TIMEOUT, New, Method::GET, &[Closed], None),
    ] {
        let upstream = two_servers(settings(1, on));
        let [first, second] = &upstream.servers()[..] else { panic!("two servers") };
        match (received(fault, connection, method.clone()).outcome(first, &upstream), retried) {
            (AttemptOutcome::Retry(next, reason), Some(expected)) => {
                assert_eq!((reason, next.request.method()), (expected, &method), "{name}");
                assert_eq!((next.options.retries_left, next.options.is_replay), (0, true), "{name}");
                assert_eq!(picked(&upstream, &next.options.candidates).id(), second.id(), "{name}");
            }
            (AttemptOutcome::Failed(last), None) => assert_eq!(last, fault, "{name}"),
            (AttemptOutcome::Response(_) | AttemptOutcome::Retry(..) | AttemptOutcome::Failed(_), _) => {
                panic!("{name}: expected {retried:?}")
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_again_only_while_retries_servers_and_budget_are_left() {
    let is_retried = |upstream: &Upstream, retries_left: u32| {
        let mut attempt = received(FAILED, AttemptConnection::New, Method::GET);
        attempt.options.retries_left = retries_left;
        matches!(attempt.outcome(&upstream.servers()[0], upstream), AttemptOutcome::Retry(..))
    };
    let upstream = two_servers(RetrySettings::defaults());
    assert!(is_retried(&upstream, 1));
    assert!(!is_retried(&upstream, 0), "no retry is left to the request");
    upstream.servers()[1].note_connect::<()>(&Err(ConnectFault::Refused));
    assert!(!is_retried(&upstream, 1), "the other server is not up");
    upstream.servers()[1].note_connect(&Ok(()));
    let retries = (0..100).filter(|_| is_retried(&upstream, 1)).count();
    assert_eq!(retries, 9, "of the reserve of ten, one was used above");
    (0..5).for_each(|_| upstream.retry_budget.note_request());
    assert!(is_retried(&upstream, 1) && !is_retried(&upstream, 1), "five requests earn a retry");
}

/// A stale connection says nothing against the server, so it needs no budget; but it is a retry.
#[tokio::test(start_paused = true)]
async fn a_retry_on_a_stale_connection_uses_up_no_budget() {
    let upstream = two_servers(RetrySettings::defaults());
    for _ in 0..50 {
        let mut stale = received(FAILED, AttemptConnection::Reused, Method::GET);
        stale.failure.may_be_unprocessed = true;
        let AttemptOutcome::Retry(next, RetryReason::Stale) = stale.outcome(&upstream.servers()[0], &upstream) else {
            panic!("a retry on the same server")
        };
        assert_eq!((next.options.retries_left, next.options.is_replay), (1, true));
        assert_eq!(picked(&upstream, &next.options.candidates).id(), upstream.servers()[0].id());
    }
}

#[test]
fn a_response_with_a_configured_status_sends_the_request_elsewhere() {
    use RetryCondition::{BadGateway, Closed, Connect, GatewayTimeout, Unavailable};
    let all = [Closed, Connect, BadGateway, Unavailable, GatewayTimeout];
    for (status, method, on, reason) in [
        (502, Method::GET, &all[..], Some(RetryReason::Status502)),
        (503, Method::GET, &all, Some(RetryReason::Status503)),
        (504, Method::GET, &all, Some(RetryReason::Status504)),
        (503, Method::POST, &all, None),
        (503, Method::GET, &[Closed, Connect, GatewayTimeout], None),
        (200, Method::GET, &all, None),
        (500, Method::GET, &all, None),
        (429, Method::GET, &all, None),
    ] {
        let upstream = two_servers(settings(1, on));
        let first = &upstream.servers()[0];
        let replay = ReplayableRequest::copy_of(&request(method));
        let options = failed_attempt(FAILED, AttemptConnection::New, None).options;
        let next = after_response(status, replay, options, first, &upstream);
        assert_eq!(next.as_ref().map(|(_, reason)| *reason), reason, "{status}");
        if let Some((next, _)) = next {
            assert_eq!(picked(&upstream, &next.options.candidates).id(), upstream.servers()[1].id(), "{status}");
        }
    }
}

#[test]
fn a_request_is_copied_only_if_it_could_be_sent_again() {
    use AttemptConnection::{New, Reused};
    let defaults = RetrySettings::defaults;
    for (name, retry, connection, retries_left, is_copied) in [
        ("a reused connection may be stale", settings(0, &[]), Reused, 0, true),
        ("a new connection, and another server", defaults(), New, 1, true),
        ("no retry left", defaults(), New, 0, false),
        ("retries of unsent requests only", settings(1, &[RetryCondition::Connect]), New, 1, false),
    ] {
        let upstream = two_servers(retry);
        let options = AttemptOptions { retries_left, ..failed_attempt(FAILED, New, None).options };
        let copy = options.replay_of(&request(Method::GET), connection, &upstream.servers()[0], &upstream);
        assert_eq!(copy.is_some(), is_copied, "{name}");
    }
    let single = upstream(Balance::RoundRobin, &[1]);
    let options = failed_attempt(FAILED, New, None).options;
    let copy = options.replay_of(&request(Method::GET), New, &single.servers()[0], &single);
    assert!(copy.is_none(), "there is no other server");
}

#[test]
fn retry_after_is_a_number_of_seconds() {
    for (value, expected) in [
        (Some("0"), Some(0)),
        (Some("120"), Some(120)),
        (Some("99999999999999999999999"), Some(u64::MAX)),
        (Some("Fri, 31 Dec 1999 23:59:59 GMT"), None),
        (Some("+5"), None),
        (Some("-1"), None),
        (Some(""), None),
        (None, None),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(value) = value {
            headers.insert(http::header::RETRY_AFTER, value.parse().unwrap());
        }
        assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{value:?}");
    }
}

#[test]
fn only_what_says_something_about_the_server_counts_against_it() {
    use AttemptConnection::{New, None, Reused};
    let broken = Fault::Client(RequestBodyFault::Broken);
    for (name, fault, connection, may_be_unprocessed, counts) in [
        ("closed", FAILED, New, true, true),
        ("stale", FAILED, Reused, true, false),
        ("no HTTP on a reused connection", FAILED, Reused, false, true),
        ("too slow", UpstreamError::Timeout.into(), New, false, true),
        ("the route's deadline", UpstreamError::DeadlineExceeded.into(), New, false, false),
        ("all connections in use", UpstreamError::Busy.into(), None, false, false),
        ("counted where it was connected", REFUSED, None, false, false),
        ("the client's body", broken, New, false, false),
    ] {
        let mut attempt = failed_attempt(fault, connection, Option::None);
        attempt.failure.may_be_unprocessed = may_be_unprocessed;
        assert_eq!(attempt.is_server_fault(), counts, "{name}");
        attempt.failure.is_of_request = true;
        assert!(!attempt.is_server_fault(), "{name}, of this request alone");
    }
}
