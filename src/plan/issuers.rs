//! `[issuers.NAME]`: whose tokens count, and by which rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::units::{OneOrMany, Profile as WrittenProfile, TimeSpan};
use crate::config::{Issuer, Problems};
use crate::outbound::is_secure_url;
use crate::token::{Algorithm, ClaimPath, ClaimSources, IssuerSettings, KeySource, Profile, discovery};

/// RFC 9068 speaks of a few minutes at most.
const MAX_LEEWAY: Duration = Duration::from_secs(5 * 60);

const KNOWN_ALGORITHMS: &str = "one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";

pub(super) fn compile(
    written: &BTreeMap<String, Issuer>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, IssuerSettings> {
    let mut compiled = BTreeMap::new();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, issuer) in written {
        let path = child("issuers", name);
        super::headers::check_name(&path, name, problems);
        if let Some(text) = &issuer.issuer
            && let Some(other) = seen.insert(text, name)
        {
            problems
                .add(child(&path, "issuer"), format!("{} is the issuer of `issuers.{other}` already", quoted(text)));
        }
        if let Some(settings) = one(name, &path, issuer, problems) {
            compiled.insert(Arc::clone(&settings.name), settings);
        }
    }
    compiled
}

fn one(name: &str, path: &str, written: &Issuer, problems: &mut Problems) -> Option<IssuerSettings> {
    let before = problems.len();
    let key = |name: &str| child(path, name);
    let keys = key_source(path, written, problems);
    if written.audiences.is_empty() {
        problems.add_with_hint(
            key("audiences"),
            "missing",
            "name at least one audience; without it a token for any other service would do here",
        );
    }
    if written.audiences.iter().any(String::is_empty) {
        problems.add(key("audiences"), "an audience cannot be empty");
    }
    let algorithms = algorithms(path, written, problems);
    let leeway = written.leeway.duration();
    if leeway > MAX_LEEWAY {
        problems.add(key("leeway"), format!("{} s is more than \"5m\"", leeway.as_secs()));
    }
    let max_lifetime = written.max_lifetime.map(TimeSpan::duration);
    for (name, span) in [
        ("max_lifetime", written.max_lifetime),
        ("jwks_refresh", Some(written.jwks_refresh)),
        ("jwks_cooldown", Some(written.jwks_cooldown)),
        ("jwks_max_stale", Some(written.jwks_max_stale)),
    ] {
        if span.is_some_and(|span| span.duration().is_zero()) {
            problems.add(key(name), "must be longer than zero");
        }
    }
    let mut paths =
        |name: &str, written: &OneOrMany<String>| claim_paths(&child(path, name), written.as_slice(), problems);
    let claims = ClaimSources {
        subject: paths("subject_claim", &written.subject_claim),
        scopes: paths("scope_claims", &written.scope_claims),
        roles: paths("role_claims", &written.role_claims),
        audience: paths("audience_claim", &written.audience_claim),
        client: paths("client_claim", &written.client_claim),
    };
    if problems.len() > before {
        return None;
    }
    Some(IssuerSettings {
        name: name.into(),
        issuer: written.issuer.as_deref()?.into(),
        audiences: written.audiences.clone(),
        algorithms,
        profile: match written.profile {
            WrittenProfile::Default => Profile::Default,
            WrittenProfile::Rfc9068 => Profile::Rfc9068,
            WrittenProfile::IdToken => Profile::IdToken,
        },
        leeway,
        max_lifetime,
        keys: keys?,
        ca_file: written.ca_file.clone(),
        claims,
        refresh: written.jwks_refresh.duration(),
        cooldown: written.jwks_cooldown.duration(),
        max_stale: written.jwks_max_stale.duration(),
    })
}

fn key_source(path: &str, written: &Issuer, problems: &mut Problems) -> Option<KeySource> {
    let key = |name: &str| child(path, name);
    let Some(issuer) = written.issuer.as_deref().filter(|issuer| !issuer.is_empty()) else {
        problems.add_with_hint(
            key("issuer"),
            "missing",
            "the exact `iss` of the tokens, such as \"https://login.example.com\"",
        );
        return None;
    };
    let given = [
        ("discovery_url", written.discovery_url.is_some()),
        ("jwks_url", written.jwks_url.is_some()),
        ("jwks_file", written.jwks_file.is_some()),
    ];
    let given: Vec<&str> = given.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    if let [first, second, ..] = given[..] {
        problems.add(key(second), format!("`{first}` says already where the keys are; write one of them"));
        return None;
    }
    if let Some(file) = &written.jwks_file {
        return Some(KeySource::JwksFile(file.clone()));
    }
    if let Some(url) = &written.jwks_url {
        return secure_url(&key("jwks_url"), url, problems).map(KeySource::JwksUrl);
    }
    if let Some(url) = &written.discovery_url {
        return secure_url(&key("discovery_url"), url, problems).map(KeySource::Discovery);
    }
    let url = secure_url(&key("issuer"), issuer, problems)?;
    if url.query().is_some() || url.fragment().is_some() {
        problems.add(key("issuer"), format!("{} has a query or a fragment, which an issuer has not", quoted(issuer)));
        return None;
    }
    secure_url(&key("issuer"), &discovery::document_url(issuer), problems).map(KeySource::Discovery)
}

/// Parses a URL that keys may be fetched from: `https`, or `http` on loopback. Over plain http,
/// anyone on the path could replace the keys.
fn secure_url(path: &str, text: &str, problems: &mut Problems) -> Option<Url> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            problems.add_with_hint(
                path,
                format!("{} is not a URL: {error}", quoted(text)),
                "an issuer that is no URL needs `discovery_url`, `jwks_url` or `jwks_file`",
            );
            return None;
        }
    };
    if !is_secure_url(&url) {
        problems.add_with_hint(
            path,
            format!("{} is not an https URL", quoted(text)),
            "plain http is allowed for loopback addresses only",
        );
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        // Not quoted: it may hold a password.
        problems.add(path, "the URL has a user name or a password in it");
        return None;
    }
    Some(url)
}

fn algorithms(path: &str, written: &Issuer, problems: &mut Problems) -> Vec<Algorithm> {
    let names = &written.algorithms;
    let place = child(path, "algorithms");
    if names.is_empty() {
        problems.add(place.clone(), "at least one algorithm is needed");
    }
    let mut algorithms = Vec::new();
    for (index, name) in names.iter().enumerate() {
        match Algorithm::parse(name) {
            Some(algorithm) if algorithms.contains(&algorithm) => {
                problems.add(format!("{place}[{index}]"), format!("{} is there twice", quoted(name)));
            }
            Some(algorithm) => algorithms.push(algorithm),
            None => problems.add_with_hint(
                format!("{place}[{index}]"),
                format!("{} is not an algorithm that can be used here", quoted(name)),
                KNOWN_ALGORITHMS,
            ),
        }
    }
    algorithms
}

pub(super) fn claim_path(place: &str, text: &str, problems: &mut Problems) -> Option<ClaimPath> {
    match ClaimPath::parse(text) {
        Ok(path) => Some(path),
        Err(error) => {
            problems.add_with_hint(
                place,
                format!("{} is not a claim's path: {error}", quoted(text)),
                "such as \"sub\", \"realm_access.roles\" or, for names with dots, \"/https:~1~1example.com~1roles\"",
            );
            None
        }
    }
}

fn claim_paths(place: &str, written: &[String], problems: &mut Problems) -> Vec<ClaimPath> {
    written.iter().filter_map(|text| claim_path(place, text, problems)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rule of the configuration and the rule of the client that fetches are one rule.
    #[test]
    fn plain_http_is_allowed_wherever_keys_may_be_fetched_by_http() {
        for (text, expected) in [
            ("https://idp.test", true),
            ("http://127.0.0.1:1", true),
            ("http://localhost:1", true),
            ("http://localhost.:1", true),
            ("http://auth.localhost:1234", true),
            ("http://[::1]:1", true),
            ("http://[::ffff:127.0.0.1]:1", true),
            ("http://idp.test", false),
            ("http://notlocalhost", false),
            ("http://10.0.0.1", false),
            ("http://[::ffff:10.0.0.1]", false),
            ("ftp://127.0.0.1", false),
        ] {
            let allowed = secure_url("issuers.main.issuer", text, &mut Problems::new("gateway.toml")).is_some();
            assert_eq!((allowed, is_secure_url(&Url::parse(text).unwrap())), (expected, expected), "{text}");
        }
    }
}
