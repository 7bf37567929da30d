//! `[issuers.NAME]`: the issuers whose tokens are accepted, and the rules for their tokens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::syntax::{check_name, nonzero_duration};
use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::units::{self, OneOrMany};
use crate::config::{Issuer, Problems};
use crate::outbound::UrlPolicy;
use crate::token::{Algorithm, ClaimPath, ClaimSources, IssuerSettings, KeySource, Profile, RefreshTimes, discovery};

/// Highest `leeway`. RFC 7519 §4.1.4 suggests no more than a few minutes for clock skew.
const MAX_LEEWAY: Duration = Duration::from_secs(5 * 60);

const CLAIM_PATH_HINT: &str = "write a path such as \"sub\" or \"realm_access.roles\"; for a name with dots, a JSON \
                               Pointer such as \"/https:~1~1example.com~1roles\"";

pub(super) fn compile(
    issuers: &BTreeMap<String, Issuer>,
    problems: &mut Problems,
) -> BTreeMap<Arc<str>, IssuerSettings> {
    let mut compiled = BTreeMap::new();
    let mut names_by_identifier: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, issuer) in issuers {
        let key_path = child("issuers", name);
        check_name(&key_path, name, problems);
        if let Some(identifier) = &issuer.issuer
            && let Some(other) = names_by_identifier.insert(identifier, name)
        {
            problems.add_with_hint(
                child(&key_path, "issuer"),
                format!("{} is already the issuer of {}", quoted(identifier), quoted(&child("issuers", other))),
                "configure each issuer once",
            );
        }
        if let Some(settings) = compile_issuer(name, &key_path, issuer, problems) {
            compiled.insert(Arc::clone(&settings.name), settings);
        }
    }
    compiled
}

fn compile_issuer(name: &str, key_path: &str, issuer: &Issuer, problems: &mut Problems) -> Option<IssuerSettings> {
    let problems_before = problems.len();
    let key = |name: &str| child(key_path, name);
    let keys = compile_key_source(key_path, issuer, problems);
    check_audiences(&key("audiences"), &issuer.audiences, problems);
    let algorithms = compile_algorithms(&key("algorithms"), &issuer.algorithms, problems);
    let leeway = issuer.leeway.duration();
    if leeway > MAX_LEEWAY {
        problems.add(key("leeway"), format!("`{}` is longer than the limit of `5m`", issuer.leeway));
    }
    let max_lifetime = issuer.max_lifetime.map(|span| nonzero_duration(&key("max_lifetime"), span, problems));
    let times = RefreshTimes {
        refresh: nonzero_duration(&key("jwks_refresh"), issuer.jwks_refresh, problems),
        cooldown: nonzero_duration(&key("jwks_cooldown"), issuer.jwks_cooldown, problems),
        max_stale: nonzero_duration(&key("jwks_max_stale"), issuer.jwks_max_stale, problems),
    };
    let claims = compile_claim_sources(key_path, issuer, problems);
    if problems.len() > problems_before {
        return None;
    }
    Some(IssuerSettings {
        name: name.into(),
        issuer: issuer.issuer.as_deref()?.into(),
        audiences: issuer.audiences.clone(),
        algorithms,
        profile: match issuer.profile {
            units::Profile::Default => Profile::Default,
            units::Profile::Rfc9068 => Profile::Rfc9068,
            units::Profile::IdToken => Profile::IdToken,
        },
        leeway,
        max_lifetime,
        keys: keys?,
        ca_file: issuer.ca_file.clone(),
        allow_http: issuer.allow_http,
        claims,
        times,
    })
}

fn check_audiences(key_path: &str, audiences: &[String], problems: &mut Problems) {
    if audiences.is_empty() {
        problems.add_with_hint(
            key_path,
            "missing",
            "list at least one audience; otherwise tokens for any other service would be accepted",
        );
    }
    if let Some(index) = audiences.iter().position(String::is_empty) {
        problems.add(element(key_path, index), "an audience cannot be empty");
    }
}

fn compile_claim_sources(key_path: &str, issuer: &Issuer, problems: &mut Problems) -> ClaimSources {
    let mut paths = |name: &str, texts: &OneOrMany<String>| {
        let key_path = child(key_path, name);
        texts.as_slice().iter().filter_map(|text| parse_claim_path(&key_path, text, problems)).collect()
    };
    ClaimSources {
        subject: paths("subject_claim", &issuer.subject_claim),
        scopes: paths("scope_claims", &issuer.scope_claims),
        roles: paths("role_claims", &issuer.role_claims),
        audience: paths("audience_claim", &issuer.audience_claim),
        client: paths("client_claim", &issuer.client_claim),
    }
}

fn compile_key_source(key_path: &str, issuer: &Issuer, problems: &mut Problems) -> Option<KeySource> {
    let key = |name: &str| child(key_path, name);
    let Some(identifier) = issuer.issuer.as_deref().filter(|identifier| !identifier.is_empty()) else {
        problems.add_with_hint(
            key("issuer"),
            "missing",
            "write the exact `iss` of the tokens, such as \"https://login.example.com\"",
        );
        return None;
    };
    let sources = [
        ("discovery_url", issuer.discovery_url.is_some()),
        ("jwks_url", issuer.jwks_url.is_some()),
        ("jwks_file", issuer.jwks_file.is_some()),
    ];
    let present: Vec<&str> = sources.iter().filter(|(_, is_present)| *is_present).map(|(name, _)| *name).collect();
    if let [first, second, ..] = present[..] {
        problems.add_with_hint(key(second), format!("cannot be combined with `{first}`"), "remove one of the two");
        return None;
    }
    if let Some(file) = &issuer.jwks_file {
        return Some(KeySource::JwksFile(file.clone()));
    }
    let url_hint = "write an absolute URL, such as \"https://login.example.com/keys\"";
    let mut parse = |name, text: &str, hint| parse_key_url(&key(name), text, issuer.allow_http, hint, problems);
    if let Some(url) = &issuer.jwks_url {
        return parse("jwks_url", url, url_hint).map(KeySource::JwksUrl);
    }
    if let Some(url) = &issuer.discovery_url {
        return parse("discovery_url", url, url_hint).map(KeySource::Discovery);
    }
    let issuer_hint = "an issuer that is not a URL needs `discovery_url`, `jwks_url` or `jwks_file`";
    let url = parse("issuer", identifier, issuer_hint)?;
    if url.query().is_some() || url.fragment().is_some() {
        problems.add(
            key("issuer"),
            format!("{} has a query or a fragment, which an issuer cannot have", quoted(identifier)),
        );
        return None;
    }
    parse("issuer", &discovery::document_url(identifier), issuer_hint).map(KeySource::Discovery)
}

/// Parses a URL that keys may be fetched from: `https`, or `http` on loopback. Over plain http from
/// another machine, which `allow_http` permits, anyone on the path could replace the keys. `hint`
/// applies to text that is not a URL.
fn parse_key_url(key_path: &str, text: &str, allow_http: bool, hint: &str, problems: &mut Problems) -> Option<Url> {
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            problems.add_with_hint(key_path, format!("{} is not a URL: {error}", quoted(text)), hint);
            return None;
        }
    };
    if UrlPolicy::of(&url, allow_http).is_none() {
        problems.add_with_hint(
            key_path,
            format!("{} is not an https URL", quoted(text)),
            "plain http is allowed only for loopback addresses, or with `allow_http = true`",
        );
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The message does not quote the URL, which may contain a password.
        problems.add(key_path, "the URL contains a user name or a password");
        return None;
    }
    Some(url)
}

fn compile_algorithms(key_path: &str, names: &[String], problems: &mut Problems) -> Vec<Algorithm> {
    if names.is_empty() {
        problems.add_with_hint(key_path, "an empty list accepts no token", "list at least one algorithm");
    }
    let mut algorithms = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let key_path = element(key_path, index);
        match Algorithm::parse(name) {
            Some(algorithm) if algorithms.contains(&algorithm) => {
                problems.add(key_path, format!("{} is listed twice", quoted(name)));
            }
            Some(algorithm) => algorithms.push(algorithm),
            None => {
                let what = format!("{} is not a supported algorithm", quoted(name));
                let supported = Algorithm::ALL.map(Algorithm::name).join(", ");
                problems.add_with_hint(key_path, what, format!("supported are {supported}"));
            }
        }
    }
    algorithms
}

/// Parses a claim path, such as `realm_access.roles`.
pub(super) fn parse_claim_path(key_path: &str, text: &str, problems: &mut Problems) -> Option<ClaimPath> {
    match ClaimPath::parse(text) {
        Ok(path) => Some(path),
        Err(error) => {
            let what = format!("{} is not a claim path: {error}", quoted(text));
            problems.add_with_hint(key_path, what, CLAIM_PATH_HINT);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The configuration and the HTTP client that fetches keys apply the same rule.
    #[test]
    fn plain_http_is_allowed_wherever_keys_may_be_fetched_by_http() {
        for (text, expected, if_allowed) in [
            ("https://idp.test", true, true),
            ("http://127.0.0.1:1", true, true),
            ("http://localhost:1", true, true),
            ("http://localhost.:1", true, true),
            ("http://auth.localhost:1234", true, true),
            ("http://[::1]:1", true, true),
            ("http://[::ffff:127.0.0.1]:1", true, true),
            ("http://idp.test", false, true),
            ("http://notlocalhost", false, true),
            ("http://10.0.0.1", false, true),
            ("http://[::ffff:10.0.0.1]", false, true),
            ("ftp://127.0.0.1", false, false),
        ] {
            for (allow_http, expected) in [(false, expected), (true, if_allowed)] {
                let mut problems = Problems::new("gateway.toml");
                let parsed = parse_key_url("issuers.main.issuer", text, allow_http, "", &mut problems);
                let policy = UrlPolicy::of(&Url::parse(text).unwrap(), allow_http);
                assert_eq!((parsed.is_some(), policy.is_some()), (expected, expected), "{text} {allow_http}");
            }
        }
    }
}
