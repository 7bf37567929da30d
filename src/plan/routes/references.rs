//! References: the names in a route of issuers, limits, upstreams and CORS policies.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::config::key_path::{child, element};
use crate::config::nearest::nearest;
use crate::config::problem::quoted;
use crate::config::units::{Access, ByteRate, TimeSpan};
use crate::config::{Cors, Issuer, Limit, Problems, Route, Upstream};
use crate::gateway::policy::{IdentityHeaders, LimitSettings};
use crate::upstream::body::MaxBody;

/// What the rest of the file defines, for routes to use.
pub(in crate::plan) struct Definitions<'a> {
    pub(in crate::plan) issuers: &'a BTreeMap<String, Issuer>,
    pub(in crate::plan) upstreams: &'a BTreeMap<String, Upstream>,
    pub(in crate::plan) cors: &'a BTreeMap<String, Cors>,
    pub(in crate::plan) limits: &'a BTreeMap<String, Limit>,
    /// The limits without problems.
    pub(in crate::plan) compiled_limits: &'a BTreeMap<Arc<str>, LimitSettings>,
    pub(in crate::plan) identity: &'a IdentityHeaders,
    pub(in crate::plan) realm: &'a str,
    /// Whether clients are asked for a certificate.
    pub(in crate::plan) asks_for_client_certificates: bool,
    pub(in crate::plan) max_body_size: MaxBody,
    /// `server.body_idle_timeout`.
    pub(in crate::plan) body_idle_timeout: TimeSpan,
    pub(in crate::plan) min_body_rate: ByteRate,
}

/// Looks up `name` among the tables of one kind. Reports a name that is not defined.
pub(super) fn resolve_reference<'a, T>(
    key_path: &str,
    name: &str,
    definitions: &'a BTreeMap<String, T>,
    kind: &str,
    problems: &mut Problems,
) -> Option<&'a T> {
    let definition = definitions.get(name);
    if definition.is_none() {
        let what = format!("there is no {kind} named {}", quoted(name));
        match nearest(name, definitions.keys().map(String::as_str)) {
            Some(nearest) => problems.add_with_hint(key_path, what, format!("did you mean {}?", quoted(nearest))),
            None => problems.add(key_path, what),
        }
    }
    definition
}

/// Checks the issuers and audiences whose tokens the route accepts.
pub(super) fn check_issuers(key_path: &str, route: &Route, definitions: &Definitions<'_>, problems: &mut Problems) {
    if let Some(names) = &route.issuers {
        let key_path = child(key_path, "issuers");
        if names.is_empty() {
            problems.add_with_hint(
                key_path.clone(),
                "an empty list accepts no token",
                "remove the key to accept tokens from all issuers",
            );
        }
        for (index, name) in names.iter().enumerate() {
            resolve_reference(&element(&key_path, index), name, definitions.issuers, "issuer", problems);
        }
    }
    if route.audiences.as_ref().is_some_and(Vec::is_empty) {
        problems.add_with_hint(
            child(key_path, "audiences"),
            "an empty list accepts no token",
            "remove the key to accept the issuer's audiences",
        );
    }
    if route.access != Access::Public && definitions.issuers.is_empty() {
        problems.add_with_hint(
            key_path,
            "the route accepts tokens, but no issuer is configured",
            "add an [issuers.NAME] table, or write `access = \"public\"` if everyone may use this route",
        );
    }
}

/// Checks the rate limits of the route.
pub(super) fn check_limits(key_path: &str, route: &Route, definitions: &Definitions<'_>, problems: &mut Problems) {
    for (index, name) in route.limits.iter().enumerate() {
        let key_path = element(&child(key_path, "limits"), index);
        if route.limits[..index].contains(name) {
            problems.add(key_path.clone(), format!("{} is listed twice", quoted(name)));
        }
        resolve_reference(&key_path, name, definitions.limits, "limit", problems);
        let settings = definitions.compiled_limits.get(name.as_str());
        let needs_caller = settings.is_some_and(|settings| !settings.key.is_known_before_auth());
        if route.access == Access::Public && needs_caller {
            problems.add_with_hint(
                key_path,
                format!("{} counts requests by caller, but a public route does not identify callers", quoted(name)),
                "use a limit with the key \"ip\", \"header:NAME\" or \"route\"",
            );
        }
    }
}
