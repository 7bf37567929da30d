//! `[cors.NAME]`, compiled for each route that names it.

use std::collections::BTreeMap;

use http::{HeaderName, HeaderValue, Method};
use url::Url;

use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::{Cors, Problems, Route};
use crate::gateway::policy::cors_policy::{self, CorsPolicy, Origins};

/// The methods of a route that lists none.
const ALL_METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The policy `name` on a route with these methods. What is wrong with the policy itself is told once, by the first route that names it.
pub(super) fn compile(name: &str, written: &Cors, methods: &[Method], problems: &mut Problems) -> Option<CorsPolicy> {
    let path = child("cors", name);
    let before = problems.len();
    let credentials = written.credentials;
    let origins = origins(&child(&path, "origins"), &written.origins, credentials, problems);
    let methods = match &written.methods {
        None => route_methods(methods),
        Some(names) => {
            let place = child(&path, "methods");
            let methods = names
                .iter()
                .enumerate()
                .filter_map(|(index, text)| super::headers::method(&format!("{place}[{index}]"), text, problems));
            methods.map(|method| method.to_string()).collect::<Vec<_>>().join(", ")
        }
    };
    let headers = names_of(&child(&path, "headers"), &written.headers, problems);
    names_of(&child(&path, "expose"), &written.expose, problems);
    let max_age = written.max_age.duration().as_secs();
    if problems.len() > before {
        return None;
    }
    let value = |text: String| HeaderValue::try_from(text).expect("names were checked to be tokens");
    Some(CorsPolicy {
        origins,
        credentials,
        methods: value(methods),
        headers: value(headers),
        expose: value(cors_policy::expose(&written.expose)),
        max_age: HeaderValue::from(max_age),
    })
}

/// Policies that no route names are checked too: they may be named tomorrow.
pub(super) fn check_unused(written: &BTreeMap<String, Cors>, routes: &[Route], problems: &mut Problems) {
    for (name, policy) in written {
        if !routes.iter().any(|route| route.cors.as_deref() == Some(name)) {
            compile(name, policy, &[], problems);
        }
    }
}

fn route_methods(methods: &[Method]) -> String {
    if methods.is_empty() {
        return ALL_METHODS.to_owned();
    }
    let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if methods.contains(&Method::GET) && !methods.contains(&Method::HEAD) {
        names.push("HEAD");
    }
    names.join(", ")
}

fn names_of(place: &str, names: &[String], problems: &mut Problems) -> String {
    for (index, name) in names.iter().enumerate() {
        if name == "*" {
            problems.add_with_hint(
                format!("{place}[{index}]"),
                "`*` does not cover `Authorization`, and nothing at all with credentials",
                "name each header",
            );
        } else if HeaderName::try_from(name).is_err() {
            problems.add(format!("{place}[{index}]"), format!("{} is not a header's name", quoted(name)));
        }
    }
    names.join(", ")
}

fn origins(place: &str, written: &[String], credentials: bool, problems: &mut Problems) -> Origins {
    if written.is_empty() {
        problems.add_with_hint(place, "missing", "at least one, such as [\"https://app.example.com\"]");
    }
    if let Some(index) = written.iter().position(|origin| origin == "*") {
        if credentials {
            problems.add_with_hint(
                format!("{place}[{index}]"),
                "`*` with `credentials = true` would let every site act as its visitor",
                "name the origins, or leave credentials out",
            );
        }
        if written.len() > 1 {
            problems
                .add(format!("{place}[{index}]"), "`*` makes the other origins meaningless; write one or the other");
        }
        return Origins::Any;
    }
    let mut listed = Vec::new();
    for (index, text) in written.iter().enumerate() {
        match serialised(text) {
            Ok(origin) => listed.push(origin),
            Err((what, hint)) => problems.add_with_hint(format!("{place}[{index}]"), what, hint),
        }
    }
    Origins::Listed(listed)
}

/// An origin exactly as a browser writes it (RFC 6454 §6.2): compared byte for byte, another form would never match.
fn serialised(text: &str) -> Result<HeaderValue, (String, String)> {
    if text == "null" {
        return Err((
            "`null` is the origin of every sandboxed page and local file".to_owned(),
            "name the origin that you mean".to_owned(),
        ));
    }
    if text.contains('*') {
        return Err((
            format!("{} is a pattern, and origins are compared as they are", quoted(text)),
            "name each origin; `\"*\"` alone means every one".to_owned(),
        ));
    }
    let no_origin = || {
        (
            format!("{} is not an origin", quoted(text)),
            "scheme, host and port, such as \"https://app.example.com\"".to_owned(),
        )
    };
    let url = Url::parse(text).map_err(|_| no_origin())?;
    let origin = url.origin();
    if !origin.is_tuple() {
        return Err(no_origin());
    }
    let written = origin.ascii_serialization();
    if written != text {
        return Err((
            format!("{} is not how a browser writes this origin", quoted(text)),
            format!("write {}", quoted(&written)),
        ));
    }
    HeaderValue::try_from(written).map_err(|_| no_origin())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, right) in [
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
            assert_eq!(serialised(text).is_ok(), right, "{text}");
        }
    }
}
