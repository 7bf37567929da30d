//! Near paths: paths that a service may take for a protected one, and that a weaker route serves.
//!
//! The gateway compares paths exactly. Many services do not: they ignore the case of letters or a
//! slash at the end, or take `.json` at the end for a format. With a public `/*` beside a protected
//! `/admin`, `/Admin` is public, and such a service answers it as `/admin`. The gateway cannot know
//! what the service does, so `check` points at the gap.

use http::Method;

use super::Warning;
use crate::config::problem::quoted;
use crate::gateway::matching::host::Host;
use crate::gateway::matching::path::{NormalPath, UnusualForms};
use crate::gateway::matching::{Pattern, RouteMatch, RouteTable};
use crate::gateway::policy::{Access, ClientCertRule, RouteSettings};

/// The methods that are tried for a route that lists none.
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// A host that only routes without `host` match (RFC 6761 reserves `.invalid`).
const ANY_HOST: &str = "any.invalid";

/// A warning for each protected route and each weaker route that serves paths near it.
///
/// A route whose own pattern is near that of an earlier one, with rules that are no weaker, closes
/// a gap and is not warned of itself: the paths near it would never end.
pub(super) fn warnings(routes: &[RouteSettings], table: &RouteTable) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut closes_a_gap = vec![false; routes.len()];
    for (index, route) in routes.iter().enumerate() {
        if !matches!(route.access, Access::Token(_)) {
            continue;
        }
        let mut weaker: Vec<(&RouteSettings, Vec<String>)> = Vec::new();
        for path in near_paths(&route.pattern) {
            for other in serving_routes(&route.pattern, &path, table) {
                let served_by = &routes[other];
                if !is_weaker(served_by, route) {
                    closes_a_gap[other] |= other > index && spells_out(served_by, &path);
                } else if served_by.pattern.path.to_string() == path {
                    // A route that spells the path out is there on purpose.
                } else if let Some((_, paths)) =
                    weaker.iter_mut().find(|(known, _)| known.position == served_by.position)
                {
                    paths.push(path.clone());
                } else {
                    weaker.push((served_by, vec![path.clone()]));
                }
            }
        }
        if !closes_a_gap[index] {
            warnings.extend(weaker.into_iter().map(|(other, paths)| warning(route, other, &paths)));
        }
    }
    warnings
}

fn warning(route: &RouteSettings, weaker: &RouteSettings, paths: &[String]) -> Warning {
    let listed = paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(", ");
    let own = quoted(&route.pattern.path.to_string());
    let rules = match &weaker.access {
        Access::Public => "is public",
        Access::Optional => "needs no token",
        Access::Token(_) if weaker.report_only => "only reports",
        Access::Token(_) => "demands less",
    };
    Warning {
        key: route.key("path"),
        what: format!(
            "{listed}: served by the route {}, which {rules}. A service that takes these paths for {own} answers \
             without the checks of the route {}",
            quoted(&weaker.name),
            quoted(&route.name),
        ),
        hint: format!(
            "replace {} with narrower paths, or add routes for these paths with the rules of {}, or make sure that \
             the service distinguishes them",
            quoted(&weaker.pattern.path.to_string()),
            quoted(&route.name),
        ),
    }
}

/// The paths that a service may take for one that `pattern` matches.
fn near_paths(pattern: &Pattern) -> Vec<String> {
    let path = &pattern.path;
    let exact = path.example();
    let mut near = Vec::new();
    if let Some(other_case) = path.example_in_other_case() {
        near.push(other_case);
    }
    if !path.is_subtree() {
        match exact.strip_suffix('/') {
            None => near.push(format!("{exact}/")),
            Some("") => {}
            Some(without_slash) => near.push(without_slash.to_owned()),
        }
    }
    if let Some(named) = path.last_literal_path() {
        near.push(format!("{named}.json"));
    }
    near
}

/// The indices of the routes that serve `path` for a host and a method of `pattern`.
fn serving_routes(pattern: &Pattern, path: &str, table: &RouteTable) -> Vec<usize> {
    let host = pattern.host.as_ref().map_or(ANY_HOST.to_owned(), |host| {
        let label = if host.is_wildcard() { "any." } else { "" };
        format!("{label}{}", host.name())
    });
    let (Ok(host), Ok(normal)) = (Host::parse(&host), NormalPath::parse(path, UnusualForms::NONE)) else {
        return Vec::new();
    };
    let methods = if pattern.methods.is_empty() { &METHODS[..] } else { &pattern.methods };
    let mut serving = Vec::new();
    for method in methods {
        if let RouteMatch::Found(index) = table.find(&host, &normal, method)
            && !serving.contains(&index)
        {
            serving.push(index);
        }
    }
    serving
}

/// Whether `path` is the example of the route's pattern, and not just one of the paths that match.
fn spells_out(route: &RouteSettings, path: &str) -> bool {
    let pattern = &route.pattern.path;
    path.strip_prefix(&pattern.example()) == Some(if pattern.is_subtree() { "/x" } else { "" })
}

/// Whether a request that `route` refuses may pass `other`.
fn is_weaker(other: &RouteSettings, route: &RouteSettings) -> bool {
    let lacks_a_demand = match &other.access {
        Access::Public | Access::Optional => true,
        Access::Token(demands) => {
            !route.access.demands().iter().all(|demand| demands.iter().any(|own| own.implies(demand)))
        }
    };
    let accepts_more_issuers = route.issuers.as_ref().is_some_and(|accepted| {
        other.issuers.as_ref().is_none_or(|names| !names.iter().all(|name| accepted.contains(name)))
    });
    let accepts_more_audiences = !route.audiences.is_empty()
        && (other.audiences.is_empty() || !other.audiences.iter().all(|name| route.audiences.contains(name)));
    let needs_no_certificate =
        route.client_cert == ClientCertRule::Required && other.client_cert == ClientCertRule::Optional;
    lacks_a_demand
        || needs_no_certificate
        || accepts_more_issuers
        || accepts_more_audiences
        || (other.report_only && !route.report_only)
}

#[cfg(test)]
mod tests;
