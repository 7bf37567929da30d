//! The header rules of a route, in both directions.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue};

use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::{Problems, Route};
use crate::gateway::policy::{HeaderRules, IdentityHeaders};
use crate::plan::headers::{header_name, header_value};
use crate::upstream::headers::names::Class;

/// What a route sets and removes on requests to the upstream. The names of `[identity]` are not its own.
pub(super) fn request(path: &str, written: &Route, identity: &IdentityHeaders, problems: &mut Problems) -> HeaderRules {
    let refuse =
        |name: &HeaderName| identity.owns(name).then(|| format!("{} belongs to [identity]", quoted(name.as_str())));
    let keys = ["set_headers", "remove_headers"];
    compile(path, keys, &written.set_headers, &written.remove_headers, refuse, problems)
}

/// What a route sets and removes on responses to the client.
pub(super) fn response(path: &str, written: &Route, problems: &mut Problems) -> HeaderRules {
    let refuse = |name: &HeaderName| {
        (Class::of(name) == Class::ResponsePolicy)
            .then(|| format!("{} is written by the gateway and cannot be named here", quoted(name.as_str())))
    };
    let keys = ["set_response_headers", "remove_response_headers"];
    compile(path, keys, &written.set_response_headers, &written.remove_response_headers, refuse, problems)
}

fn compile(
    path: &str,
    [set_key, remove_key]: [&str; 2],
    set: &BTreeMap<String, String>,
    removed: &[String],
    refuse: impl Fn(&HeaderName) -> Option<String>,
    problems: &mut Problems,
) -> HeaderRules {
    let (set_key, remove_key) = (child(path, set_key), child(path, remove_key));
    let name = |key: &str, place: &str, text: &str, problems: &mut Problems| {
        let name = header_name(place, text, problems)?;
        match refuse(&name) {
            Some(what) => {
                problems.add(key, what);
                None
            }
            None => Some(name),
        }
    };
    let mut pairs: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (text, value) in set {
        let place = child(&set_key, text);
        let (name, value) = (name(&set_key, &place, text, problems), header_value(&place, value, problems));
        pairs.extend(name.zip(value));
    }
    let mut names = Vec::new();
    for (index, text) in removed.iter().enumerate() {
        names.extend(name(&remove_key, &element(&remove_key, index), text, problems));
    }
    HeaderRules::new(names, pairs)
}
