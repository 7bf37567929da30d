//! What each refusal is on the wire, and that the documents say so.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::*;
use crate::gateway::matching::host::HostRefusal;
use crate::gateway::matching::path::PathRefusal;
use crate::gateway::policy::{Access, Demand};
use crate::gateway::response::refusal::{ClientCertFault, CredentialFault, FramingFault, TokenFault};
use crate::upstream::tunnel_limits::TunnelLimit;
use crate::upstream::{ConnectFault, ResponseFault};

fn challenges() -> Challenges {
    let scopes = Demand::Scopes(vec!["orders:read".to_owned(), "orders:write".to_owned()]);
    Challenges::for_route("portcullis", &Access::Token(vec![scopes]))
}

fn response(refusal: &Refusal) -> Response<Bytes> {
    response_in(ErrorForm::Http1Problem, refusal)
}

fn response_in(form: ErrorForm, refusal: &Refusal) -> Response<Bytes> {
    refusal.to_response(ErrorContext { challenges: &challenges(), request_id: "r-1", form })
}

/// A list of refusals, one of each variant: a variant without a row does not compile.
macro_rules! one_of_each {
    ($($pattern:pat => $refusal:expr,)*) => {{
        let _every_variant_has_a_row = |refusal: &Refusal| match refusal {
            $($pattern => (),)*
        };
        vec![$($refusal),*]
    }};
}

fn one_of_each() -> Vec<Refusal> {
    let retry_after = Duration::from_millis(1_500);
    one_of_each![
        Refusal::HeadTooLarge => Refusal::HeadTooLarge,
        Refusal::UriTooLong => Refusal::UriTooLong,
        Refusal::Framing(_) => Refusal::Framing(FramingFault::MalformedHead),
        Refusal::Host(_) => Refusal::Host(HostRefusal::Missing),
        Refusal::Path(_) => Refusal::Path(PathRefusal::Ambiguous),
        Refusal::RouteNotFound => Refusal::RouteNotFound,
        Refusal::MethodNotAllowed { .. } => Refusal::MethodNotAllowed { allow: HeaderValue::from_static("GET, HEAD") },
        Refusal::RateLimited(_) => Refusal::RateLimited(LimitExceeded { retry_after, limit: "calls".into() }),
        Refusal::Misdirected => Refusal::Misdirected,
        Refusal::ClientCertRequired(_) => Refusal::ClientCertRequired(ClientCertFault::Missing),
        Refusal::CredentialsMissing => Refusal::CredentialsMissing,
        Refusal::RequestMalformed(_) => Refusal::RequestMalformed(CredentialFault::TwoCredentials),
        Refusal::TokenInvalid(_) => Refusal::TokenInvalid(TokenFault::Issuer),
        Refusal::KeysUnavailable { .. } => Refusal::KeysUnavailable { retry_after },
        Refusal::ScopeInsufficient => Refusal::ScopeInsufficient,
        Refusal::AccessDenied(_) => Refusal::AccessDenied("lacks a role"),
        Refusal::BodyTooLarge => Refusal::BodyTooLarge,
        Refusal::ClientTimeout => Refusal::ClientTimeout,
        Refusal::TunnelLimit(_) => Refusal::TunnelLimit(TunnelLimit::PerClient),
        Refusal::UpstreamBusy => Refusal::UpstreamBusy,
        Refusal::UpstreamFailed(_) => Refusal::UpstreamFailed(ResponseFault::Closed),
        Refusal::UpstreamTimeout => Refusal::UpstreamTimeout,
        Refusal::UpstreamUnavailable { .. } => Refusal::UpstreamUnavailable { retry_after },
        Refusal::UpstreamUnreachable(_) => Refusal::UpstreamUnreachable(ConnectFault::Refused),
        Refusal::Internal => Refusal::Internal,
    ]
}

/// RFC 6750 §3: no credentials, no error code.
#[test]
fn each_refusal_has_its_status_code_and_challenge() {
    let bearer = |rest: &str| Some(format!("Bearer realm=\"portcullis\"{rest}"));
    let scope = ", scope=\"orders:read orders:write\"";
    for refusal in one_of_each() {
        let (status, challenge) = match refusal.code() {
            "credentials_missing" => (401, bearer(scope)),
            "request_malformed" => (
                400,
                bearer(", error=\"invalid_request\", error_description=\"The request's credentials are malformed\""),
            ),
            "token_invalid" => {
                (401, bearer(", error=\"invalid_token\", error_description=\"The access token is not valid\""))
            }
            "scope_insufficient" => (
                403,
                bearer(&format!(
                    ", error=\"insufficient_scope\", error_description=\"The access token lacks a scope\"{scope}"
                )),
            ),
            "framing_refused" | "host_refused" | "path_refused" => (400, None),
            "access_denied" | "client_cert_required" => (403, None),
            "route_not_found" => (404, None),
            "method_not_allowed" => (405, None),
            "client_timeout" => (408, None),
            "body_too_large" => (413, None),
            "uri_too_long" => (414, None),
            "misdirected_request" => (421, None),
            "rate_limited" => (429, None),
            "head_too_large" => (431, None),
            "internal" => (500, None),
            "upstream_failed" | "upstream_unreachable" => (502, None),
            "keys_unavailable" | "upstream_busy" | "upstream_unavailable" => (503, None),
            "upstream_timeout" => (504, None),
            other => panic!("{other} has no row here"),
        };
        let code = refusal.code();
        let response = response(&refusal);
        let sent = response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        assert_eq!((response.status().as_u16(), sent), (status, challenge), "{code}");
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((&body["status"], &body["code"]), (&status.into(), &code.into()), "{code}");
        assert_eq!(body["request_id"], "r-1", "{code}");
        assert_eq!(response.headers()["cache-control"], "no-store", "{code}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{code}");
    }
}

#[test]
fn a_rate_limited_response_says_when_to_retry_and_which_limit_it_was() {
    let limited = response(&Refusal::RateLimited(LimitExceeded {
        retry_after: Duration::from_millis(1_500),
        limit: "calls".into(),
    }));
    assert_eq!(limited.headers()["retry-after"], "2");
    let body: serde_json::Value = serde_json::from_slice(limited.body()).unwrap();
    assert_eq!(body["violated-policies"], serde_json::json!(["calls"]));
}

#[test]
fn the_connection_closes_only_where_the_next_request_could_not_be_served() {
    for refusal in one_of_each() {
        let closes = matches!(
            refusal.code(),
            "framing_refused"
                | "host_refused"
                | "head_too_large"
                | "uri_too_long"
                | "client_cert_required"
                | "client_timeout"
        );
        assert_eq!(response(&refusal).headers().contains_key("connection"), closes, "{}", refusal.code());
    }
}

/// `doc/PROTOCOL-HTTP2.md` of gRPC: a call that is refused has the HTTP status 200, its own status
/// in the only header block, and no body.
#[test]
fn a_grpc_call_is_refused_with_its_own_status() {
    for refusal in one_of_each() {
        let (code, problem) = (refusal.code(), response(&refusal));
        let response = response_in(ErrorForm::Grpc, &refusal);
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!((response.status().as_u16(), response.body().len()), (200, 0), "{code}");
        assert_eq!(header("content-type"), Some("application/grpc"), "{code}");
        assert_eq!(header("grpc-status"), Some(&*refusal.grpc_status().code().to_string()), "{code}");
        assert_eq!(header("portcullis-code"), Some(code), "{code}");
        assert_eq!(response.headers().get("www-authenticate"), problem.headers().get("www-authenticate"), "{code}");
        assert_eq!(header("connection"), None, "{code}: of no meaning in HTTP/2");
        let document: serde_json::Value = serde_json::from_slice(problem.body()).unwrap();
        let message = header("grpc-message").unwrap();
        assert_eq!(document["detail"], message, "{code}");
        // Everything else would have to be percent-encoded.
        assert!(message.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'%'), "{code}: {message}");
        let pushback = matches!(code, "rate_limited" | "keys_unavailable" | "upstream_unavailable").then_some("1500");
        assert_eq!(header("grpc-retry-pushback-ms"), pushback, "{code}");
    }
    let limit = LimitExceeded { retry_after: Duration::from_nanos(1_000_001), limit: "calls".into() };
    let response = response_in(ErrorForm::Grpc, &Refusal::RateLimited(limit));
    assert_eq!(response.headers()["grpc-retry-pushback-ms"], "2", "not before the time is over");
}

/// docs/answers.md names for each gRPC status the codes that have it, and no other.
#[test]
fn the_documents_list_the_grpc_status_of_every_code() {
    let document = include_str!("../../../../docs/answers.md");
    let rows = document.split("| `grpc-status` | codes |").nth(1).expect("the table").lines().skip(2);
    let documented: Vec<(String, Vec<String>)> = rows
        .map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .map(|(status, codes)| {
            let mut codes: Vec<_> = codes.split(", ").map(|code| code.trim_matches('`').to_owned()).collect();
            codes.sort();
            (status.to_owned(), codes)
        })
        .collect();
    let mut known = BTreeMap::<u8, (String, BTreeSet<String>)>::new();
    for refusal in one_of_each() {
        let status = refusal.grpc_status();
        let row = known
            .entry(status.code())
            .or_insert_with(|| (format!("{} `{}`", status.code(), status.name()), BTreeSet::new()));
        row.1.insert(refusal.code().to_owned());
    }
    let known: Vec<_> =
        known.into_values().map(|(status, codes)| (status, codes.into_iter().collect::<Vec<_>>())).collect();
    assert_eq!(documented, known);
}

/// docs/answers.md has one row per code, `| code | status | …`, and no other.
/// docs/life-of-a-request.md names each code where it arises.
#[test]
fn the_documents_list_every_code_with_its_status() {
    let document = include_str!("../../../../docs/answers.md");
    let rows = document.split("| code | status |").nth(1).expect("the table of codes").lines().skip(2);
    let cells = rows.map_while(|row| row.strip_prefix("| `")?.split_once("` | "));
    let mut documented: Vec<(String, String)> =
        cells.map(|(code, rest)| (code.to_owned(), rest.split(" |").next().unwrap_or_default().to_owned())).collect();
    let mut known: Vec<(String, String)> = one_of_each()
        .iter()
        .map(|refusal| {
            let closes = response(refusal).headers().contains_key("connection");
            (
                refusal.code().to_owned(),
                format!("{}{}", refusal.status().as_u16(), if closes { ", closes" } else { "" }),
            )
        })
        .collect();
    documented.sort();
    known.sort();
    // Several refusals may have the same code.
    known.dedup();
    assert_eq!(documented, known);
    let life_of_a_request = include_str!("../../../../docs/life-of-a-request.md");
    for (code, _) in known {
        assert!(life_of_a_request.contains(&format!("`{code}`")), "{code}");
    }
}

/// The sample in the documents is a real response, apart from its request id.
#[test]
fn the_sample_in_the_documents_is_a_response_of_the_gateway() {
    let body = response(&Refusal::ScopeInsufficient).into_body();
    let mut expected: serde_json::Value = serde_json::from_slice(&body).unwrap();
    for document in [include_str!("../../../../README.md"), include_str!("../../../../docs/answers.md")] {
        let (_, sample) = document.split_once("```json\n").unwrap();
        let sample: serde_json::Value = serde_json::from_str(sample.split_once("```").unwrap().0).unwrap();
        expected["request_id"] = sample["request_id"].clone();
        assert_eq!(sample, expected);
    }
}
