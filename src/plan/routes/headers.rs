//! The headers that a route sets and removes, on requests and on responses.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, header};

use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::{Problems, Route};
use crate::gateway::policy::{HeaderRules, IdentityHeaders};
use crate::plan::syntax::{controlled_by_gateway, listed_twice, parse_header_name, parse_header_value};
use crate::upstream::headers::names::{Class, is_same};

/// Compiles the rules for requests to the upstream. They cannot name an identity header.
pub(super) fn compile_request_headers(
    key_path: &str,
    route: &Route,
    identity: &IdentityHeaders,
    problems: &mut Problems,
) -> HeaderRules {
    let objection = |name: &HeaderName| {
        identity
            .owns(name)
            .then(|| format!("{} is an identity header, which only the gateway sets", quoted(name.as_str())))
    };
    let keys = ["set_headers", "remove_headers"].map(|key| child(key_path, key));
    compile(keys, &route.set_headers, &route.remove_headers, objection, problems)
}

/// Compiles the rules for responses to the client.
pub(super) fn compile_response_headers(key_path: &str, route: &Route, problems: &mut Problems) -> HeaderRules {
    let objection = |name: &HeaderName| (Class::of(name) == Class::ResponsePolicy).then(|| controlled_by_gateway(name));
    let keys = ["set_response_headers", "remove_response_headers"].map(|key| child(key_path, key));
    for (index, name) in route.remove_response_headers.iter().enumerate() {
        if name.eq_ignore_ascii_case(header::DATE.as_str()) {
            let what = "`date` cannot be removed: the gateway adds it to every response without it (RFC 9110 §6.6.1)";
            problems.add(element(&keys[1], index), what);
        }
    }
    compile(keys, &route.set_response_headers, &route.remove_response_headers, objection, problems)
}

/// `objection` says why a valid header name is not allowed, if it is not.
fn compile(
    [set_key, remove_key]: [String; 2],
    set: &BTreeMap<String, String>,
    remove: &[String],
    objection: impl Fn(&HeaderName) -> Option<String>,
    problems: &mut Problems,
) -> HeaderRules {
    let parse_name = |key_path: &str, text: &str, problems: &mut Problems| {
        let name = parse_header_name(key_path, text, problems)?;
        match objection(&name) {
            Some(what) => {
                problems.add(key_path, what);
                None
            }
            None => Some(name),
        }
    };
    let mut headers_to_set: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (name, value) in set {
        let key_path = child(&set_key, name);
        let name = parse_name(&key_path, name, problems).filter(|name| {
            let is_new = !headers_to_set.iter().any(|(other, _)| is_same(other.as_str(), name.as_str()));
            if !is_new {
                problems.add(key_path.clone(), listed_twice(name));
            }
            is_new
        });
        let value = parse_header_value(&key_path, value, problems);
        headers_to_set.extend(name.zip(value));
    }
    let mut names_to_remove = Vec::new();
    for (index, name) in remove.iter().enumerate() {
        names_to_remove.extend(parse_name(&element(&remove_key, index), name, problems));
    }
    HeaderRules::new(names_to_remove, headers_to_set)
}
