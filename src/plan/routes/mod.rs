//! `[[routes]]`: which requests each route matches, what it requires, and where it forwards them.

mod access;
mod headers;
mod pattern;
mod references;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use self::pattern::{compile_pattern, compile_prefixes, default_name};
pub(super) use self::references::Definitions;
use self::references::resolve_reference;
use super::server::min_body_rate;
use super::syntax::{check_name, nonzero_duration};
use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::units::{SizeOrUnlimited, TimeSpan};
use crate::config::{BodyIdleTimeout, Problems, Route, StreamAfterExpiry};
use crate::gateway::matching::{Pattern, RouteTable};
use crate::gateway::policy::{AfterExpiry, Challenges, CorsPolicy, RouteSettings};
use crate::upstream::body::{IdleTimeouts, MaxBody};

/// How long a tunnel goes on after its token's `exp`, unless the route says otherwise: time for a
/// client to open another one with a new token.
const DEFAULT_TUNNEL_AFTER_EXPIRY: Duration = Duration::from_secs(60);

/// Compiles all routes and the table that matches requests to them. There is no table if routes
/// conflict.
pub(super) fn compile(
    routes: &[Route],
    definitions: &Definitions<'_>,
    problems: &mut Problems,
) -> (Vec<RouteSettings>, Option<RouteTable>) {
    if routes.is_empty() {
        problems.add_with_hint(
            "routes",
            "missing",
            "add at least one [[routes]] table; without it, every request is 404",
        );
    }
    let mut compiled: Vec<RouteSettings> = Vec::new();
    let mut names: BTreeMap<Arc<str>, usize> = BTreeMap::new();
    for (position, route) in routes.iter().enumerate() {
        let Some(settings) = compile_route(position, route, definitions, problems) else { continue };
        let first = *names.entry(Arc::clone(&settings.name)).or_insert(position);
        if first != position {
            let key_path = child(&element("routes", position), "name");
            let what = format!("{} is already the name of routes[{first}]", quoted(&settings.name));
            problems.add_with_hint(key_path, what, "give one of the two another `name`");
        }
        compiled.push(settings);
    }
    let table = build_table(&compiled, problems);
    (compiled, table)
}

fn build_table(routes: &[RouteSettings], problems: &mut Problems) -> Option<RouteTable> {
    let conflicts = match RouteTable::build(routes.iter().map(|route| route.pattern.clone()).collect()) {
        Ok(table) => return Some(table),
        Err(conflicts) => conflicts,
    };
    for conflict in conflicts {
        let (first, second) = (&routes[conflict.first], &routes[conflict.second]);
        problems.add_with_hint(
            element("routes", second.position),
            format!("duplicates routes[{}]: same host and path, and a method in common", first.position),
            "change the host, the path or the methods of one of the two",
        );
    }
    None
}

fn compile_route(
    position: usize,
    route: &Route,
    definitions: &Definitions<'_>,
    problems: &mut Problems,
) -> Option<RouteSettings> {
    let problems_before = problems.len();
    let key_path = &element("routes", position);
    let pattern = compile_pattern(key_path, route, problems);
    let access = access::compile(key_path, route, problems);
    let client_cert = access::compile_client_cert(key_path, route, definitions, problems);
    references::check_issuers(key_path, route, definitions, problems);
    references::check_limits(key_path, route, definitions, problems);
    let upstream = compile_upstream(key_path, route, definitions, problems);
    let cors = compile_cors(key_path, route, pattern.as_ref(), definitions, problems);
    let (strip_prefix, add_prefix) = compile_prefixes(key_path, route, pattern.as_ref(), problems);
    let request_headers = headers::compile_request_headers(key_path, route, definitions.identity, problems);
    let response_headers = headers::compile_response_headers(key_path, route, problems);
    check_body_idle(key_path, route.body_idle_timeout, problems);
    let timeout = route.timeout.map(|span| nonzero_duration(&child(key_path, "timeout"), span, problems));
    if let Some(name) = &route.name {
        check_name(&child(key_path, "name"), name, problems);
    }
    if problems.len() > problems_before {
        return None;
    }
    let pattern = pattern?;
    Some(RouteSettings {
        position,
        name: route.name.clone().unwrap_or_else(|| default_name(&pattern)).into(),
        pattern,
        issuers: route.issuers.as_ref().map(|names| names.iter().map(|name| name.as_str().into()).collect()),
        audiences: route.audiences.clone().unwrap_or_default(),
        upstream: upstream?.into(),
        cors,
        limits: route.limits.iter().map(|name| name.as_str().into()).collect(),
        strip_prefix,
        add_prefix,
        request_headers,
        response_headers,
        timeout,
        body_idle: compile_body_idle(route, definitions),
        after_expiry: compile_after_expiry(route.stream_after_expiry),
        max_body_size: match route.max_body_size {
            None => definitions.max_body_size,
            Some(SizeOrUnlimited::Size(size)) => MaxBody::Bytes(size.bytes()),
            Some(SizeOrUnlimited::Unlimited) => MaxBody::Unlimited,
        },
        min_body_rate: min_body_rate(route.min_body_rate.unwrap_or(definitions.min_body_rate)),
        report_only: route.report_only,
        client_cert,
        challenges: Challenges::for_route(definitions.realm, &access),
        access,
    })
}

/// The name of the route's upstream.
fn compile_upstream<'a>(
    key_path: &str,
    route: &'a Route,
    definitions: &Definitions<'_>,
    problems: &mut Problems,
) -> Option<&'a str> {
    let key_path = child(key_path, "upstream");
    let Some(name) = route.upstream.as_deref() else {
        problems.add_with_hint(key_path, "missing", "write the name of an upstream");
        return None;
    };
    resolve_reference(&key_path, name, definitions.upstreams, "upstream", problems).map(|_| name)
}

/// The idle timeouts of the route's bodies: its own, else the upstream's, else the server's.
fn compile_body_idle(route: &Route, definitions: &Definitions<'_>) -> IdleTimeouts {
    let own = route.body_idle_timeout.unwrap_or_default();
    let upstream = route.upstream.as_deref().and_then(|name| definitions.upstreams.get(name));
    let upstream = upstream.and_then(|upstream| upstream.body_idle_timeout).unwrap_or_default();
    let server = definitions.body_idle_timeout;
    IdleTimeouts {
        request: own.request.or(upstream.request).unwrap_or(server).duration(),
        response: own.response.or(upstream.response).unwrap_or(server).duration(),
    }
}

/// Checks `body_idle_timeout` in the table at `key_path`.
pub(super) fn check_body_idle(key_path: &str, timeouts: Option<BodyIdleTimeout>, problems: &mut Problems) {
    let Some(BodyIdleTimeout { request, response }) = timeouts else { return };
    let key_path = child(key_path, "body_idle_timeout");
    if request == response {
        request.map(|span| nonzero_duration(&key_path, span, problems));
        return;
    }
    for (name, span) in [("request", request), ("response", response)] {
        span.map(|span| nonzero_duration(&child(&key_path, name), span, problems));
    }
}

fn compile_after_expiry(configured: Option<StreamAfterExpiry>) -> AfterExpiry {
    let StreamAfterExpiry { response, tunnel } = configured.unwrap_or_default();
    AfterExpiry {
        response: response.map(TimeSpan::duration),
        tunnel: tunnel.map_or(DEFAULT_TUNNEL_AFTER_EXPIRY, TimeSpan::duration),
    }
}

fn compile_cors(
    key_path: &str,
    route: &Route,
    pattern: Option<&Pattern>,
    definitions: &Definitions<'_>,
    problems: &mut Problems,
) -> Option<CorsPolicy> {
    let name = route.cors.as_deref()?;
    let policy = resolve_reference(&child(key_path, "cors"), name, definitions.cors, "CORS policy", problems)?;
    let methods = pattern.map_or(&[][..], |pattern| &pattern.methods[..]);
    super::cors::compile(name, policy, methods, problems)
}
