//! Paths in unusual forms: refused with a reason that names the form, unless the route accepts it.

use serde_json::json;

use super::{get, problem_code, public, request_line, start};
use crate::support::config::Config;

/// `/files/*` accepts everything, each of the others one form, and `/plain/*` none.
fn config() -> Config {
    let mut config = Config::minimal();
    for (path, forms) in [
        ("/parameters/*", "\"parameters\""),
        ("/slash/*", "\"encoded_slash\""),
        ("/empty/*", "\"empty_segment\""),
        ("/double/*", "\"double_escape\""),
        ("/files/*", "\"parameters\", \"encoded_slash\", \"empty_segment\", \"double_escape\""),
        ("/names/{id}", "\"encoded_slash\""),
        ("/plain/*", ""),
    ] {
        config = public(config, path, &format!("unusual_paths = [{forms}]"));
    }
    config.route("guarded", "path = \"/files/guarded/*\"")
}

/// PA-2, PA-3, PA-5, PA-14, A47: an accepted form reaches the upstream as it is, an encoded slash
/// still encoded.
#[tokio::test]
async fn a_route_forwards_the_forms_that_it_accepts() {
    let (fixture, _upstream) = start(config()).await;
    for (name, target, forwarded) in [
        ("parameters", "/parameters/a;v=1/b;w", "/parameters/a;v=1/b;w"),
        ("an npm scope", "/slash/@scope%2fname", "/slash/@scope%2Fname"),
        ("one in a bound segment", "/names/group%2Fproject", "/names/group%2Fproject"),
        ("an S3 key", "/empty/bucket//key//", "/empty/bucket//key//"),
        ("a percent sign as data", "/double/50%25ab", "/double/50%25ab"),
        ("all at once", "/files/a//b;c%2Fd/50%25ab", "/files/a//b;c%2Fd/50%25ab"),
        ("a slash that is escaped twice, where both forms are accepted", "/files/a%252fb", "/files/a%252fb"),
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, request_line(&response)), (200, format!("GET {forwarded} HTTP/1.1")), "{name}");
    }
}

#[tokio::test]
async fn the_reason_of_a_refusal_names_the_form() {
    let (fixture, upstream) = start(config()).await;
    for (target, reason) in [
        ("/plain/a;v=1", "path_parameters"),
        ("/slash/a;v=1", "path_parameters"),
        ("/matrix;v=1/a", "path_parameters"),
        ("/nowhere/a;b", "path_parameters"),
        ("/plain/a%2fb", "path_encoded_slash"),
        ("/parameters/a%2Fb", "path_encoded_slash"),
        ("/plain/a//b", "path_empty_segment"),
        ("/slash/a%2F/b", "path_empty_segment"),
        ("/parameters/;x/a", "path_empty_segment"),
        ("/plain/50%25ab", "path_double_escape"),
        ("/double/a%252Fb", "path_encoded_slash"),
        ("/slash/a%252Fb", "path_double_escape"),
        // What no route accepts has reasons of its own.
        ("/files/a%5Cb", "path_encoded_backslash"),
        ("/files/a%255cb", "path_encoded_backslash"),
        ("/files/a%25252fb", "path_nested_escape"),
        ("//files/a", "path_leading_empty_segment"),
        ("/%2Ffiles/a", "path_leading_empty_segment"),
        ("/files/..;/guarded/x", "path_dot_segment"),
        ("/files/x%2F..%2Fguarded/x", "path_dot_segment"),
        ("/files/x/%252e%252e/guarded/x", "path_dot_segment"),
        ("/files/x%2500", "path_encoded_control"),
        // The forms are accepted, but lead to another route for some backends.
        ("/files/guarded%2Fx", "path_ambiguous"),
        ("/files/guarded;v/x", "path_ambiguous"),
        ("/files//guarded/x", "path_ambiguous"),
        ("/files/%2567uarded/x", "path_ambiguous"),
        ("/files/guarded%252Fx", "path_ambiguous"),
        ("/files/guarded%253Fx", "path_ambiguous"),
        ("/files%2Fguarded/x", "path_encoded_slash"),
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, &*problem_code(&response)), (400, "path_refused"), "{target}");
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!(line["reason"], json!(reason), "{target}");
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
}

/// PA-8, PA-14: `strip_prefix` makes no path that would be refused.
#[tokio::test]
async fn what_strip_prefix_makes_obeys_the_same_rules() {
    let accepted = "access = \"public\"\nunusual_paths = [\"empty_segment\", \"encoded_slash\", \"double_escape\"]\n";
    let config = Config::minimal()
        .route("s3", &format!("{accepted}strip_prefix = \"/s3\""))
        .route("moved", &format!("{accepted}strip_prefix = \"/moved\"\nadd_prefix = \"/v2\""))
        .route("added", &format!("{accepted}add_prefix = \"/v2\""));
    let (fixture, upstream) = start(config).await;
    for target in ["/s3//evil.example/x", "/s3/%2Fevil.example/x", "/s3/%252Fevil.example/x"] {
        let response = get(&fixture, target.as_bytes()).await;
        let line = fixture.gateway.access_line_of(&response).await;
        assert_eq!((response.status, &line["reason"]), (400, &json!("path_leading_empty_segment")), "{target}");
    }
    assert_eq!(upstream.received(), Vec::<String>::new());
    for (target, forwarded) in [
        ("/s3/bucket//key", "/bucket//key"),
        ("/s3/@scope%2Fname", "/@scope%2Fname"),
        ("/moved//key", "/v2//key"),
        ("/added//key", "/v2/added//key"),
    ] {
        let response = get(&fixture, target.as_bytes()).await;
        assert_eq!((response.status, request_line(&response)), (200, format!("GET {forwarded} HTTP/1.1")), "{target}");
    }
}

/// A preflight does not tell more about a path than the request that it asks about would.
#[tokio::test]
async fn a_preflight_for_a_path_that_the_methods_route_refuses_is_refused() {
    let config = Config::minimal()
        .append("[cors.spa]\norigins = [\"https://app.example\"]")
        .route("rest", "path = \"/x/*\"\naccess = \"public\"\ncors = \"spa\"\nunusual_paths = [\"encoded_slash\"]")
        .route("put", "path = \"/x/*\"\nmethods = [\"PUT\"]\ncors = \"spa\"");
    let (fixture, _upstream) = start(config).await;
    for (method, status) in [("PUT", 400), ("POST", 204)] {
        let headers = [("Origin", "https://app.example"), ("Access-Control-Request-Method", method)];
        let response = fixture.request("OPTIONS", "/x/a%2Fb", &headers, b"").await;
        assert_eq!(response.status, status, "{method}");
    }
}
