//! `[identity]`: the headers that tell upstreams who is calling.

use http::HeaderName;

use super::server_tls::{CLIENT_AUTH_HINT, asks_for_client_certificates};
use super::syntax::{listed_twice, parse_header_name};
use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::{Identity, Problems, Server};
use crate::gateway::policy::identity::{IdentityHeaders, IdentitySource};
use crate::upstream::headers::names::{Class, is_same};

/// Upper limit of `max_value_size`, in bytes. Few servers accept a larger request head, and the
/// cache keeps the values of every caller.
const MAX_VALUE_BYTES: u64 = 32 * 1024;

pub(super) fn compile(identity: &Identity, server: &Server, problems: &mut Problems) -> IdentityHeaders {
    let headers = compile_headers(identity, server, problems);
    let passed = compile_passed(identity, server, &headers, problems);
    let max_value_size = identity.max_value_size;
    if !(1..=MAX_VALUE_BYTES).contains(&max_value_size.bytes()) {
        problems.add_with_hint(
            "identity.max_value_size",
            format!("`{max_value_size}` is not between `1 B` and `32 KiB`"),
            "check how large a request head your services accept",
        );
    }
    IdentityHeaders::new(headers, passed, usize::try_from(max_value_size.bytes()).unwrap_or(usize::MAX))
}

fn compile_headers(identity: &Identity, server: &Server, problems: &mut Problems) -> Vec<(HeaderName, IdentitySource)> {
    let mut headers: Vec<(HeaderName, IdentitySource)> = Vec::new();
    for (name, source_text) in &identity.headers {
        let key_path = child("identity.headers", name);
        let source = IdentitySource::parse(source_text);
        if source.is_none() {
            problems.add_with_hint(
                key_path.clone(),
                format!("{} is not a source for an identity header", quoted(source_text)),
                "write \"subject\", \"issuer\", \"client\", \"scopes\", \"roles\", \"claim:PATH\", \"client_cert_subject\", \
                 \"client_cert_san\" or \"client_cert_thumbprint\"",
            );
        }
        if matches!(source, Some(IdentitySource::Certificate(_))) && !asks_for_client_certificates(server) {
            problems.add_with_hint(
                key_path.clone(),
                "never has a value, because clients are not asked for a certificate",
                CLIENT_AUTH_HINT,
            );
        }
        let Some(name) = parse_header_name(&key_path, name, problems) else { continue };
        if !Class::of(&name).may_carry_identity() {
            problems.add(
                key_path,
                format!("{} cannot be an identity header; it has another meaning", quoted(name.as_str())),
            );
            continue;
        }
        if headers.iter().any(|(other, _)| is_same(other.as_str(), name.as_str())) {
            problems.add(key_path, listed_twice(&name));
            continue;
        }
        headers.extend(source.map(|source| (name, source)));
    }
    headers
}

/// The names in `pass`. One that changes nothing is a problem: the operator expects something of
/// it.
fn compile_passed(
    identity: &Identity,
    server: &Server,
    headers: &[(HeaderName, IdentitySource)],
    problems: &mut Problems,
) -> Vec<HeaderName> {
    let mut passed: Vec<HeaderName> = Vec::new();
    for (index, text) in identity.pass.iter().enumerate() {
        let key_path = element("identity.pass", index);
        let Some(name) = parse_header_name(&key_path, text, problems) else { continue };
        if headers.iter().any(|(owned, _)| is_same(owned.as_str(), name.as_str())) {
            problems.add(key_path, format!("{} is in `headers`, so only the gateway sets it", quoted(name.as_str())));
        } else if Class::of(&name) != Class::ForeignIdentity {
            problems.add_with_hint(
                key_path,
                format!("{} is not an identity header of another system", quoted(name.as_str())),
                "docs/configuration.md lists those that are removed unless they are named here",
            );
        } else if passed.contains(&name) {
            problems.add(key_path, format!("{} is listed twice", quoted(name.as_str())));
        } else {
            passed.push(name);
        }
    }
    if !identity.pass.is_empty() && server.trusted_proxies.is_empty() {
        problems.add_with_hint(
            "identity.pass",
            "there are no trusted proxies that could send these headers",
            "list the proxies in `server.trusted_proxies`, or remove `pass`",
        );
    }
    passed
}
