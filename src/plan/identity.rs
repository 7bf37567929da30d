//! `[identity]`: the headers that tell upstreams who is calling.

use http::HeaderName;

use super::syntax::parse_header_name;
use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::{Identity, Problems};
use crate::gateway::policy::identity::{IdentityHeaders, IdentitySource};
use crate::upstream::headers::names::Class;

pub(super) fn compile(identity: &Identity, problems: &mut Problems) -> IdentityHeaders {
    let mut headers: Vec<(HeaderName, IdentitySource)> = Vec::new();
    for (name, source_text) in &identity.headers {
        let key_path = child("identity.headers", name);
        let source = IdentitySource::parse(source_text);
        if source.is_none() {
            problems.add_with_hint(
                key_path.clone(),
                format!("{} is not a source for an identity header", quoted(source_text)),
                "write \"subject\", \"issuer\", \"client\", \"scopes\", \"roles\" or \"claim:PATH\"",
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
        if headers.iter().any(|(other, _)| *other == name) {
            problems
                .add(key_path, format!("{} is listed twice; header names are case-insensitive", quoted(name.as_str())));
            continue;
        }
        headers.extend(source.map(|source| (name, source)));
    }
    IdentityHeaders::new(headers)
}
