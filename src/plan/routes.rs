//! `[[routes]]`: which requests are served, and what each route demands.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::config::nearest::nearest;
use crate::config::places::child;
use crate::config::problem::quoted;
use crate::config::units::{self, ClaimValue, PathParameters, SizeOrUnlimited};
use crate::config::{Cors, Issuer, Limit, Problems, Route, Upstream};
use crate::gateway::matching::path::PathPrefix;
use crate::gateway::matching::{HostPattern, PathPattern, Pattern, RouteTable, claims_reserved};
use crate::gateway::policy::identity::IdentityHeaders;
use crate::gateway::response::refusal::Challenges;
use crate::gateway::stages::authorize::{ClaimRule, Requirements};
use crate::gateway::stages::rate_limit::LimitSettings;
use crate::gateway::stages::routing::{Access, RouteSettings};
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
            let what = format!("routes[{}] is called {} already", other.place, quoted(&route.name));
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
                    format!("routes[{}]", second.place),
                    format!("nothing tells it apart from routes[{}]", first.place),
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
    let access = access(path, written, problems);
    check_names(path, written, known, problems);
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
    let headers = Headers::compile(path, written, known.identity, problems);
    let timeout = written.timeout.map(units::Span::duration);
    if timeout.is_some_and(|timeout| timeout.is_zero()) {
        problems.add(key("timeout"), "must be longer than zero");
    }
    let scopes = match &access {
        Access::Token(requirements) => requirements.scope_text(),
        Access::Optional | Access::Public => String::new(),
    };
    let name = written.name.clone().or_else(|| pattern.as_ref().map(default_name));
    if let Some(name) = &written.name {
        super::headers::check_name(&key("name"), name, problems);
    }
    if problems.len() > before {
        return None;
    }
    Some(RouteSettings {
        place,
        name: name?.into(),
        pattern: pattern?,
        access,
        issuers: written.issuers.as_ref().map(|names| names.iter().map(|name| name.as_str().into()).collect()),
        audiences: written.audiences.clone().unwrap_or_default(),
        upstream: upstream?.into(),
        cors,
        limits: written.limits.iter().map(|name| name.as_str().into()).collect(),
        strip_prefix,
        add_prefix,
        set_headers: headers.set,
        remove_headers: headers.remove,
        set_response_headers: headers.set_response,
        remove_response_headers: headers.remove_response,
        timeout,
        max_body_size: match written.max_body_size {
            None => known.max_body_size,
            Some(SizeOrUnlimited::Size(size)) => MaxBody::Bytes(size.bytes()),
            Some(SizeOrUnlimited::Unlimited) => MaxBody::Unlimited,
        },
        report_only: written.report_only.unwrap_or(false),
        path_parameters: written.path_parameters == Some(PathParameters::Allow),
        challenges: Challenges::new(known.realm, &scopes),
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
            Ok(pattern) if claims_reserved(&pattern) => {
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
        match super::headers::method(&place, text, problems) {
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

fn access(path: &str, written: &Route, problems: &mut Problems) -> Access {
    let demands = [
        ("scopes", !written.scopes.is_empty()),
        ("any_scopes", !written.any_scopes.is_empty()),
        ("roles", !written.roles.is_empty()),
        ("any_roles", !written.any_roles.is_empty()),
        ("claims", !written.claims.is_empty()),
    ];
    let about_tokens = [("issuers", written.issuers.is_some()), ("audiences", written.audiences.is_some())];
    let refuse = |asked: &[(&str, bool)], why: &str, problems: &mut Problems| {
        for (name, _) in asked.iter().filter(|(_, asked)| *asked) {
            problems.add_with_hint(child(path, name), why, "write `access = \"token\"`, or leave the key out");
        }
    };
    match written.access.unwrap_or(units::Access::Token) {
        units::Access::Public => {
            refuse(&demands, "asks for nothing on a public route: no token is looked at", problems);
            refuse(&about_tokens, "means nothing on a public route: no token is looked at", problems);
            Access::Public
        }
        units::Access::Optional => {
            refuse(
                &demands,
                "asks for nothing where a token is optional: whoever lacks it leaves the token out",
                problems,
            );
            Access::Optional
        }
        units::Access::Token => {
            check_scopes(path, written, problems);
            Access::Token(Requirements {
                scopes: written.scopes.clone(),
                any_scopes: written.any_scopes.clone(),
                roles: written.roles.clone(),
                any_roles: written.any_roles.clone(),
                claims: claims(path, written, problems),
            })
        }
    }
}

/// RFC 6749 §3.3: `scope-token = 1*( %x21 / %x23-5B / %x5D-7E )`. Another byte could not stand in the challenge.
fn check_scopes(path: &str, written: &Route, problems: &mut Problems) {
    for (key, scopes) in [("scopes", &written.scopes), ("any_scopes", &written.any_scopes)] {
        for (index, scope) in scopes.iter().enumerate() {
            let fits = |byte: u8| matches!(byte, 0x21 | 0x23..=0x5B | 0x5D..=0x7E);
            if scope.is_empty() || !scope.bytes().all(fits) {
                problems.add_with_hint(
                    format!("{}[{index}]", child(path, key)),
                    format!("{} is not one scope", quoted(scope)),
                    "each scope is a word of its own in the list",
                );
            }
        }
    }
}

fn claims(path: &str, written: &Route, problems: &mut Problems) -> Vec<ClaimRule> {
    let mut rules = Vec::new();
    for (claim, values) in &written.claims {
        let place = child(&child(path, "claims"), claim);
        let allowed: Vec<Value> = values.as_slice().iter().map(json).collect();
        if allowed.is_empty() {
            problems.add(place.clone(), "an empty list allows no value");
        }
        if let Some(path) = super::issuers::claim_path(&place, claim, problems) {
            rules.push(ClaimRule { path, allowed });
        }
    }
    rules
}

fn json(value: &ClaimValue) -> Value {
    match value {
        ClaimValue::Boolean(value) => Value::from(*value),
        ClaimValue::Float(value) => Value::from(*value),
        ClaimValue::Integer(value) => Value::from(*value),
        ClaimValue::String(value) => Value::from(value.clone()),
    }
}

/// Names of issuers and limits, and whether the limits can be counted here.
fn check_names(path: &str, written: &Route, known: &Known<'_>, problems: &mut Problems) {
    let access = written.access.unwrap_or(units::Access::Token);
    if let Some(names) = &written.issuers {
        if names.is_empty() {
            problems.add_with_hint(
                child(path, "issuers"),
                "an empty list takes no token",
                "leave the key out to take all issuers",
            );
        }
        for (index, name) in names.iter().enumerate() {
            let place = format!("{}[{index}]", child(path, "issuers"));
            named(&place, Some(name), known.issuers, "an issuer", problems);
        }
    }
    if written.audiences.as_ref().is_some_and(Vec::is_empty) {
        problems.add_with_hint(
            child(path, "audiences"),
            "an empty list takes no token",
            "leave the key out to take the issuer's",
        );
    }
    if access != units::Access::Public && known.issuers.is_empty() {
        problems.add_with_hint(
            path,
            "needs tokens, but there is no issuer whose tokens would count",
            "write an [issuers.NAME], or `access = \"public\"` if everyone may use this route",
        );
    }
    for (index, name) in written.limits.iter().enumerate() {
        let place = format!("{}[{index}]", child(path, "limits"));
        if written.limits[..index].contains(name) {
            problems.add(place.clone(), format!("{} is there twice", quoted(name)));
        }
        named(&place, Some(name), known.limits, "a limit", problems);
        let needs_caller =
            known.compiled_limits.get(name.as_str()).is_some_and(|limit| !limit.key.counts_before_the_token());
        if access == units::Access::Public && needs_caller {
            problems.add_with_hint(
                place,
                format!("{} counts by caller, and a public route knows none", quoted(name)),
                "use a limit with the key \"ip\", \"header:NAME\" or \"route\"",
            );
        }
    }
}

/// Looks a name up that another part of the file must have.
fn named<T>(
    place: &str,
    name: Option<&str>,
    known: &BTreeMap<String, T>,
    what: &str,
    problems: &mut Problems,
) -> Option<String> {
    let Some(name) = name else {
        problems.add_with_hint(place, "missing", format!("name {what}"));
        return None;
    };
    if known.contains_key(name) {
        return Some(name.to_owned());
    }
    dangling(place, name, known, what, problems);
    None
}

fn dangling<T>(place: &str, name: &str, known: &BTreeMap<String, T>, what: &str, problems: &mut Problems) {
    let found = format!("{} is not the name of {what}", quoted(name));
    match nearest(name, known.keys().map(String::as_str)) {
        Some(near) => problems.add_with_hint(place, found, format!("did you mean {}?", quoted(near))),
        None => problems.add(place, found),
    }
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

/// The four header settings of a route.
struct Headers {
    set: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
    set_response: Vec<(HeaderName, HeaderValue)>,
    remove_response: Vec<HeaderName>,
}

impl Headers {
    fn compile(path: &str, written: &Route, identity: &IdentityHeaders, problems: &mut Problems) -> Self {
        let key = |name: &str| child(path, name);
        let set = pairs(&key("set_headers"), &written.set_headers, problems);
        let remove = names(&key("remove_headers"), &written.remove_headers, problems);
        for (place, name) in
            set.iter().map(|(name, _)| ("set_headers", name)).chain(remove.iter().map(|name| ("remove_headers", name)))
        {
            if identity.owns(name) {
                problems.add(key(place), format!("{} belongs to [identity]", quoted(name.as_str())));
            }
        }
        let set_response = pairs(&key("set_response_headers"), &written.set_response_headers, problems);
        let remove_response = names(&key("remove_response_headers"), &written.remove_response_headers, problems);
        for (place, name) in set_response
            .iter()
            .map(|(name, _)| ("set_response_headers", name))
            .chain(remove_response.iter().map(|name| ("remove_response_headers", name)))
        {
            if name == "www-authenticate" || name.as_str().starts_with("access-control-") {
                let what = format!("{} is written by the gateway and cannot be named here", quoted(name.as_str()));
                problems.add(key(place), what);
            }
        }
        Self { set, remove, set_response, remove_response }
    }
}

fn pairs(place: &str, written: &BTreeMap<String, String>, problems: &mut Problems) -> Vec<(HeaderName, HeaderValue)> {
    let mut pairs = Vec::new();
    for (name, value) in written {
        let place = child(place, name);
        let name = super::headers::header_name(&place, name, problems);
        let value = super::headers::header_value(&place, value, problems);
        if let (Some(name), Some(value)) = (name, value) {
            pairs.push((name, value));
        }
    }
    pairs
}

fn names(place: &str, written: &[String], problems: &mut Problems) -> Vec<HeaderName> {
    let each = written.iter().enumerate();
    each.filter_map(|(index, name)| super::headers::header_name(&format!("{place}[{index}]"), name, problems)).collect()
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
