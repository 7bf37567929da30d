//! Names in a route that another part of the file must have: issuers, limits, upstreams, CORS policies.

use std::collections::BTreeMap;

use super::Known;
use crate::config::key_path::child;
use crate::config::nearest::nearest;
use crate::config::problem::quoted;
use crate::config::units;
use crate::config::{Problems, Route};

/// Names of issuers and limits, and whether the limits can be counted here.
pub(super) fn check(path: &str, written: &Route, known: &Known<'_>, problems: &mut Problems) {
    let access = written.access;
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
            known.compiled_limits.get(name.as_str()).is_some_and(|limit| !limit.key.is_known_before_auth());
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
pub(super) fn named<T>(
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

pub(super) fn dangling<T>(place: &str, name: &str, known: &BTreeMap<String, T>, what: &str, problems: &mut Problems) {
    let found = format!("{} is not the name of {what}", quoted(name));
    match nearest(name, known.keys().map(String::as_str)) {
        Some(near) => problems.add_with_hint(place, found, format!("did you mean {}?", quoted(near))),
        None => problems.add(place, found),
    }
}
