//! The pattern of a route (host, path and methods), and the prefixes that forwarding removes and
//! adds.

use http::Method;

use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::units::UnusualPath;
use crate::config::{Problems, Route};
use crate::gateway::matching::path::{PathPrefix, UnusualForm, UnusualForms};
use crate::gateway::matching::{HostPattern, PathPattern, Pattern, targets_reserved_path};
use crate::plan::syntax::parse_method;

pub(super) fn compile_pattern(key_path: &str, route: &Route, problems: &mut Problems) -> Option<Pattern> {
    // `?` comes after all three parts, so that the problems of each are reported.
    let host = match route.host.as_deref() {
        None => Some(None),
        Some(text) => parse_host(&child(key_path, "host"), text, problems).map(Some),
    };
    let path = compile_path(&child(key_path, "path"), route.path.as_deref(), problems);
    let methods = compile_methods(&child(key_path, "methods"), route.methods.as_deref(), problems);
    let unusual_paths = compile_unusual_paths(&child(key_path, "unusual_paths"), &route.unusual_paths, problems);
    Some(Pattern { host: host?, path: path?, methods, unusual_paths })
}

fn compile_unusual_paths(key_path: &str, forms: &[UnusualPath], problems: &mut Problems) -> UnusualForms {
    let mut accepted = UnusualForms::NONE;
    for (index, form) in forms.iter().enumerate() {
        let form = match form {
            UnusualPath::DoubleEscape => UnusualForm::DoubleEscape,
            UnusualPath::EmptySegment => UnusualForm::EmptySegment,
            UnusualPath::EncodedSlash => UnusualForm::EncodedSlash,
            UnusualPath::Parameters => UnusualForm::Parameters,
        };
        if accepted.contains(form) {
            problems.add(element(key_path, index), format!("{} is listed twice", quoted(form.name())));
        }
        accepted.insert(form);
    }
    accepted
}

fn parse_host(key_path: &str, text: &str, problems: &mut Problems) -> Option<HostPattern> {
    match HostPattern::parse(text) {
        Ok(host) => Some(host),
        Err(error) => {
            problems.add_with_hint(
                key_path,
                format!("{} is not a host: {error}", quoted(text)),
                "write a host without scheme and port, such as \"api.example.com\" or \"*.example.com\"",
            );
            None
        }
    }
}

fn compile_path(key_path: &str, text: Option<&str>, problems: &mut Problems) -> Option<PathPattern> {
    let Some(text) = text else {
        problems.add_with_hint(key_path, "missing", "write a path such as \"/orders/*\"; \"/*\" matches every path");
        return None;
    };
    match PathPattern::parse(text) {
        Ok(pattern) if targets_reserved_path(&pattern) => {
            problems.add(key_path, format!("{} is reserved for the gateway itself", quoted(text)));
            None
        }
        Ok(pattern) => Some(pattern),
        Err(error) => {
            problems.add(key_path, format!("{} is not a valid path pattern: {error}", quoted(text)));
            None
        }
    }
}

fn compile_methods(key_path: &str, names: Option<&[String]>, problems: &mut Problems) -> Vec<Method> {
    if names.is_some_and(<[String]>::is_empty) {
        problems.add_with_hint(key_path, "an empty list allows no method", "remove the key to allow all methods");
    }
    let mut methods: Vec<Method> = Vec::new();
    for (index, name) in names.unwrap_or_default().iter().enumerate() {
        let key_path = element(key_path, index);
        match parse_method(&key_path, name, problems) {
            Some(method) if methods.contains(&method) => {
                problems.add(key_path, format!("{} is listed twice", quoted(name)));
            }
            Some(method) => methods.push(method),
            None => {}
        }
    }
    methods
}

/// `strip_prefix` and `add_prefix`. The prefix `/` has no segments and changes nothing, so it is
/// `None`, like a missing key.
pub(super) fn compile_prefixes(
    key_path: &str,
    route: &Route,
    pattern: Option<&Pattern>,
    problems: &mut Problems,
) -> (Option<String>, Option<String>) {
    let strip_key = child(key_path, "strip_prefix");
    let strip = parse_prefix(&strip_key, route.strip_prefix.as_deref(), problems);
    let add = parse_prefix(&child(key_path, "add_prefix"), route.add_prefix.as_deref(), problems);
    if let (Some(strip), Some(pattern)) = (&strip, pattern)
        && !pattern.path.starts_with_literal(strip)
    {
        let (path, prefix) = (quoted(&pattern.path.to_string()), quoted(strip.as_str()));
        problems.add(strip_key, format!("the route's path {path} does not begin with the segments of {prefix}"));
    }
    let to_text = |prefix: Option<PathPrefix>| prefix.map(|p| p.as_str().to_owned()).filter(|text| !text.is_empty());
    (to_text(strip), to_text(add))
}

fn parse_prefix(key_path: &str, text: Option<&str>, problems: &mut Problems) -> Option<PathPrefix> {
    let text = text?;
    match PathPrefix::parse(text) {
        Ok(prefix) => Some(prefix),
        Err(error) => {
            problems.add_with_hint(
                key_path,
                format!("{} is not a valid path prefix: {error}", quoted(text)),
                "write a prefix such as \"/api/v1\"",
            );
            None
        }
    }
}

/// The name of a route without `name`: its methods, host and path, such as
/// `GET,POST api.example/orders/*`.
pub(super) fn default_name(pattern: &Pattern) -> String {
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
