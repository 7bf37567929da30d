//! `[[routes]]`: which requests are served, and what each route demands.

mod access;
mod headers;
mod references;

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;

use self::references::{dangling, named};
use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::units::{self, PathParameters, SizeOrUnlimited};
use crate::config::{Cors, Issuer, Limit, Problems, Route, Upstream};
use crate::gateway::matching::path::PathPrefix;
use crate::gateway::matching::{HostPattern, PathPattern, Pattern, RouteTable, targets_reserved_path};
use crate::gateway::policy::{Challenges, IdentityHeaders, LimitSettings, RouteSettings};
use crate::upstream::body::MaxBody;

/// What the rest of the file has for routes to name.
pub(super) struct Known<'a> {
    pub(super) issuers: &'a BTreeMap<String, Issuer>,
    pub(super) upstreams: &'a BTreeMap<String, Upstream>,
    pub(super) cors: &'a BTreeMap<String, Cors>,
    pub(super) limits: &'a BTreeMap<String, Limit>,
    pub(super) compiled_limits: &'a BTreeMap<Arc<str>, LimitSettings>,
    pub(super) identity: &'a IdentityHeaders,
    pub(super) realm: &'a str,
    pub(super) max_body_size: MaxBody,
}

pub(super) fn compile(
    written: &[Route],
    known: &Known<'_>,
    problems: &mut Problems,
) -> (Vec<RouteSettings>, Option<RouteTable>) {
    if written.is_empty() {
        problems.add_with_hint(
            "routes",
            "missing",
            "without a route every request is 404; write at least one [[routes]]",
        );
    }
    let mut rules: Vec<RouteSettings> = Vec::new();
    for (place, route) in written.iter().enumerate() {
        let path = format!("routes[{place}]");
        let Some(route) = one(place, &path, route, known, problems) else { continue };
        if let Some(other) = rules.iter().find(|other| other.name == route.name) {
            let hint = "give one of them a `name` of its own";
            let what = format!("routes[{}] is called {} already", other.position, quoted(&route.name));
            problems.add_with_hint(child(&path, "name"), what, hint);
        }
        rules.push(route);
    }
    let table = match RouteTable::build(rules.iter().map(|route| route.pattern.clone()).collect()) {
        Ok(table) => Some(table),
        Err(conflicts) => {
            for conflict in conflicts {
                let (first, second) = (&rules[conflict.first], &rules[conflict.second]);
                problems.add_with_hint(
                    format!("routes[{}]", second.position),
                    format!("nothing tells it apart from routes[{}]", first.position),
                    "both are for the same host, path and method; change one of the three",
                );
            }
            None
        }
    };
    (rules, table)
}

fn one(place: usize, path: &str, written: &Route, known: &Known<'_>, problems: &mut Problems) -> Option<RouteSettings> {
    let before = problems.len();
    let key = |name: &str| child(path, name);
    let pattern = pattern(path, written, problems);
    let methods = pattern.as_ref().map_or(&[][..], |pattern| &pattern.methods[..]);
    let access = access::compile(path, written, problems);
    references::check(path, written, known, problems);
    let upstream = named(&key("upstream"), written.upstream.as_deref(), known.upstreams, "an upstream", problems);
    let cors = written.cors.as_deref().and_then(|name| {
        if let Some(policy) = known.cors.get(name) {
            super::cors::compile(name, policy, methods, problems)
        } else {
            dangling(&key("cors"), name, known.cors, "a CORS policy", problems);
            None
        }
    });
    let (strip_prefix, add_prefix) = prefixes(path, written, pattern.as_ref(), problems);
    let request_headers = headers::request(path, written, known.identity, problems);
    let response_headers = headers::response(path, written, problems);
    let timeout = written.timeout.map(units::TimeSpan::duration);
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        problems.add(key("timeout"), "must be longer than zero");
    }
    let name = written.name.clone().or_else(|| pattern.as_ref().map(default_name));
    if let Some(name) = &written.name {
        crate::plan::headers::check_name(&key("name"), name, problems);
    }
    if problems.len() > before {
        return None;
    }
    Some(RouteSettings {
        position: place,
        name: name?.into(),
        pattern: pattern?,
        issuers: written.issuers.as_ref().map(|names| names.iter().map(|name| name.as_str().into()).collect()),
        audiences: written.audiences.clone().unwrap_or_default(),
        upstream: upstream?.into(),
        cors,
        limits: written.limits.iter().map(|name| name.as_str().into()).collect(),
        strip_prefix,
        add_prefix,
        request_headers,
        response_headers,
        timeout,
        max_body_size: match written.max_body_size {
            None => known.max_body_size,
            Some(SizeOrUnlimited::Size(size)) => MaxBody::Bytes(size.bytes()),
            Some(SizeOrUnlimited::Unlimited) => MaxBody::Unlimited,
        },
        report_only: written.report_only,
        path_parameters: written.path_parameters == PathParameters::Allow,
        challenges: Challenges::for_route(known.realm, &access),
        access,
    })
}

fn pattern(path: &str, written: &Route, problems: &mut Problems) -> Option<Pattern> {
    let key = |name: &str| child(path, name);
    let host = match written.host.as_deref().map(HostPattern::parse) {
        None => Some(None),
        Some(Ok(host)) => Some(Some(host)),
        Some(Err(error)) => {
            let text = written.host.as_deref().unwrap_or_default();
            problems.add_with_hint(
                key("host"),
                format!("{} is not a host: {error}", quoted(text)),
                "such as \"api.example.com\" or \"*.example.com\", without scheme and port",
            );
            None
        }
    };
    let parsed = match written.path.as_deref() {
        None => {
            problems.add_with_hint(key("path"), "missing", "such as \"/orders/*\"; \"/*\" is every path");
            None
        }
        Some(text) => match PathPattern::parse(text) {
            Ok(pattern) if targets_reserved_path(&pattern) => {
                problems.add(key("path"), format!("{} belongs to the gateway itself", quoted(text)));
                None
            }
            Ok(pattern) => Some(pattern),
            Err(error) => {
                problems.add(key("path"), format!("{} cannot match: {error}", quoted(text)));
                None
            }
        },
    };
    let mut methods: Vec<Method> = Vec::new();
    for (index, text) in written.methods.iter().flatten().enumerate() {
        let place = format!("{}[{index}]", key("methods"));
        match crate::plan::headers::method(&place, text, problems) {
            Some(method) if methods.contains(&method) => {
                problems.add(place, format!("{} is there twice", quoted(text)));
            }
            Some(method) => methods.push(method),
            None => {}
        }
    }
    if written.methods.as_ref().is_some_and(Vec::is_empty) {
        problems.add_with_hint(key("methods"), "an empty list allows no method", "leave the key out to allow all");
    }
    Some(Pattern { host: host?, path: parsed?, methods })
}

fn prefixes(
    path: &str,
    written: &Route,
    pattern: Option<&Pattern>,
    problems: &mut Problems,
) -> (Option<String>, Option<String>) {
    let mut prefix = |name: &str, text: Option<&str>| {
        let text = text?;
        match PathPrefix::parse(text) {
            Ok(prefix) => Some(prefix),
            Err(refusal) => {
                problems.add_with_hint(
                    child(path, name),
                    format!("{} is not a prefix: {}", quoted(text), refusal.reason()),
                    "such as \"/api/v1\"",
                );
                None
            }
        }
    };
    let strip = prefix("strip_prefix", written.strip_prefix.as_deref());
    let add = prefix("add_prefix", written.add_prefix.as_deref());
    if let (Some(strip), Some(pattern)) = (&strip, pattern)
        && !pattern.path.starts_with_literal(strip)
    {
        problems.add(
            child(path, "strip_prefix"),
            format!(
                "the route's path {} does not begin with {}",
                quoted(&pattern.path.to_string()),
                quoted(strip.as_str())
            ),
        );
    }
    // `/` alone takes nothing off and puts nothing in front.
    let text = |prefix: Option<PathPrefix>| prefix.map(|p| p.as_str().to_owned()).filter(|text| !text.is_empty());
    (text(strip), text(add))
}

/// `GET,POST api.example/orders/*`: methods, host and path, as far as they are given.
fn default_name(pattern: &Pattern) -> String {
    let mut name = String::new();
    if !pattern.methods.is_empty() {
        name.push_str(&pattern.methods.iter().map(Method::as_str).collect::<Vec<_>>().join(","));
        name.push(' ');
    }
    if let Some(host) = &pattern.host {
        name.push_str(&host.to_string());
    }
    name.push_str(&pattern.path.to_string());
    name
}
