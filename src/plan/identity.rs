//! `[identity]`: what upstreams are told about callers.

use http::HeaderName;

use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::{Identity, Problems};
use crate::gateway::policy::identity::{IdentityHeaders, Source};
use crate::upstream::headers::names::Class;

pub(super) fn compile(written: &Identity, problems: &mut Problems) -> IdentityHeaders {
    let mut compiled: Vec<(HeaderName, Source)> = Vec::new();
    for (name, source) in &written.headers {
        let place = child("identity.headers", name);
        let parsed = Source::parse(source);
        if parsed.is_none() {
            problems.add_with_hint(
                place.clone(),
                format!("{} is nothing that fills an identity header", quoted(source)),
                "one of \"subject\", \"issuer\", \"client\", \"scopes\", \"roles\" or \"claim:PATH\"",
            );
        }
        let Some(name) = super::headers::header_name(&place, name, problems) else { continue };
        if !Class::of(&name).may_carry_identity() {
            problems.add(place, format!("{} has another meaning and cannot carry an identity", quoted(name.as_str())));
            continue;
        }
        if compiled.iter().any(|(other, _)| *other == name) {
            problems.add(place, format!("{} is there twice", quoted(name.as_str())));
            continue;
        }
        if let Some(source) = parsed {
            compiled.push((name, source));
        }
    }
    IdentityHeaders::new(compiled)
}
