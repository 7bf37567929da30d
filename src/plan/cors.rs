//! `[cors.NAME]`: CORS policies, compiled for each route that refers to one.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};
use url::Url;

use super::syntax::parse_method;
use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::{Cors, Problems, Route};
use crate::gateway::policy::cors_policy::{self, CorsPolicy, Origins};

/// The methods of a policy without `methods`, on a route without `methods`.
const DEFAULT_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// Compiles the policy `name` for a route with these methods. Returns `None` if the policy has
/// problems.
pub(super) fn compile(
    name: &str,
    policy: &Cors,
    route_methods: &[Method],
    problems: &mut Problems,
) -> Option<CorsPolicy> {
    let key_path = child("cors", name);
    let problems_before = problems.len();
    let origins = compile_origins(&child(&key_path, "origins"), policy, problems);
    let methods = match &policy.methods {
        None => default_methods(route_methods),
        Some(methods) => join_methods(&child(&key_path, "methods"), methods, problems),
    };
    check_header_names(&child(&key_path, "headers"), &policy.headers, problems);
    check_header_names(&child(&key_path, "expose"), &policy.expose, problems);
    if problems.len() > problems_before {
        return None;
    }
    let header_value = |text: String| HeaderValue::try_from(text).expect("the names are checked to be tokens");
    Some(CorsPolicy {
        origins,
        credentials: policy.credentials,
        methods: header_value(methods),
        headers: header_value(policy.headers.join(", ")),
        expose: header_value(cors_policy::expose(&policy.expose)),
        max_age: HeaderValue::from(policy.max_age.duration().as_secs()),
    })
}

/// Checks the policies that no route refers to, so that a mistake is found before a route uses one.
pub(super) fn check_unused(policies: &BTreeMap<String, Cors>, routes: &[Route], problems: &mut Problems) {
    for (name, policy) in policies {
        if !routes.iter().any(|route| route.cors.as_deref() == Some(name)) {
            compile(name, policy, &[], problems);
        }
    }
}

/// The methods of a policy without `methods`: those of the route.
fn default_methods(route_methods: &[Method]) -> String {
    if route_methods.is_empty() {
        return DEFAULT_METHODS.to_owned();
    }
    let mut names: Vec<&str> = route_methods.iter().map(Method::as_str).collect();
    if route_methods.contains(&Method::GET) && !route_methods.contains(&Method::HEAD) {
        names.push("HEAD");
    }
    names.join(", ")
}

fn join_methods(key_path: &str, names: &[String], problems: &mut Problems) -> String {
    let methods = names.iter().enumerate();
    let methods = methods.filter_map(|(index, name)| parse_method(&element(key_path, index), name, problems));
    methods.map(|method| method.to_string()).collect::<Vec<_>>().join(", ")
}

fn check_header_names(key_path: &str, names: &[String], problems: &mut Problems) {
    for (index, name) in names.iter().enumerate() {
        if name == "*" {
            problems.add_with_hint(
                element(key_path, index),
                "`*` is not supported: it does not cover `Authorization`, and with credentials it matches no header",
                "list each header",
            );
        } else if HeaderName::try_from(name).is_err() {
            problems.add(element(key_path, index), format!("{} is not a valid header name", quoted(name)));
        }
    }
}

fn compile_origins(key_path: &str, policy: &Cors, problems: &mut Problems) -> Origins {
    if policy.origins.is_empty() {
        problems.add_with_hint(key_path, "missing", "list at least one origin, such as [\"https://app.example.com\"]");
    }
    if let Some(index) = policy.origins.iter().position(|origin| origin == "*") {
        let key_path = element(key_path, index);
        if policy.credentials {
            problems.add_with_hint(
                key_path.clone(),
                "`*` with `credentials = true` would let any website use its visitors' credentials",
                "list the origins, or remove `credentials`",
            );
        }
        if policy.origins.len() > 1 {
            problems.add_with_hint(
                key_path,
                "`*` allows every origin, so the other entries have no effect",
                "write [\"*\"], or list the origins without \"*\"",
            );
        }
        return Origins::Any;
    }
    let mut origins = Vec::new();
    for (index, text) in policy.origins.iter().enumerate() {
        match parse_origin(text) {
            Ok(origin) => origins.push(origin),
            Err((what, hint)) => problems.add_with_hint(element(key_path, index), what, hint),
        }
    }
    Origins::Listed(origins)
}

/// Parses an origin in the form in which browsers send it (RFC 6454 §6.2). Origins are compared
/// byte for byte, so any other form would never match.
///
/// # Errors
///
/// What is wrong, and a hint.
fn parse_origin(text: &str) -> Result<HeaderValue, (String, String)> {
    if text == "null" {
        return Err((
            "`null` is not allowed: every sandboxed page and every local file has this origin".to_owned(),
            "write the origin of the page, such as \"https://app.example.com\"".to_owned(),
        ));
    }
    if text.contains('*') {
        return Err((
            format!("{} is a pattern, but origins are compared exactly", quoted(text)),
            "list each origin; \"*\" alone allows every origin".to_owned(),
        ));
    }
    let not_an_origin = || {
        (
            format!("{} is not an origin", quoted(text)),
            "write scheme and host, and the port unless it is the default, such as \"https://app.example.com\""
                .to_owned(),
        )
    };
    let url = Url::parse(text).map_err(|_| not_an_origin())?;
    let origin = url.origin();
    if !origin.is_tuple() {
        return Err(not_an_origin());
    }
    let canonical = origin.ascii_serialization();
    if canonical != text {
        return Err((
            format!("{} is not in the form that browsers send", quoted(text)),
            format!("write {}", quoted(&canonical)),
        ));
    }
    HeaderValue::try_from(canonical).map_err(|_| not_an_origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_the_form_that_browsers_send() {
        for (text, is_valid) in [
            ("https://app.example.com", true),
            ("http://localhost:3000", true),
            ("https://app.example.com:443", false),
            ("https://app.example.com/", false),
            ("https://App.example.com", false),
            ("https://*.example.com", false),
            ("app.example.com", false),
            ("null", false),
            ("file:///tmp", false),
            ("", false),
        ] {
            assert_eq!(parse_origin(text).is_ok(), is_valid, "{text}");
        }
    }
}
