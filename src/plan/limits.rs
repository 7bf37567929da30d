//! `[limits.NAME]`: rate limits.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;

use super::issuers::parse_claim_path;
use super::syntax::check_name;
use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::units::Rate;
use crate::config::{Limit, Problems};
use crate::gateway::policy::{FailureGuard, LimitKey, LimitSettings, Tiers};
use crate::rate_limit::Quota;
use crate::upstream::headers::names::may_pass;

const KEY_HINT: &str =
    "write \"ip\", \"subject\", \"client\", \"issuer\", \"route\", \"claim:PATH\" or \"header:NAME\"";

pub(super) fn compile(limits: &BTreeMap<String, Limit>, problems: &mut Problems) -> BTreeMap<Arc<str>, LimitSettings> {
    let mut compiled = BTreeMap::new();
    for (name, limit) in limits {
        let key_path = child("limits", name);
        check_name(&key_path, name, problems);
        if name == FailureGuard::NAME {
            problems.add_with_hint(
                key_path.clone(),
                "the name is reserved for `server.auth_failures`",
                "choose another name",
            );
        }
        if let Some(settings) = compile_limit(name, &key_path, limit, problems) {
            compiled.insert(Arc::clone(&settings.name), settings);
        }
    }
    compiled
}

fn compile_limit(name: &str, key_path: &str, limit: &Limit, problems: &mut Problems) -> Option<LimitSettings> {
    let burst = u64::from(limit.burst.get());
    let quota = |rate: Rate| Quota { count: rate.count, period: rate.period, burst };
    if limit.rate.is_none() {
        problems.add_with_hint(child(key_path, "rate"), "missing", "write a rate such as \"100/min\"");
    }
    let key = parse_key(&child(key_path, "key"), limit.key.as_deref(), problems);
    let tiers = limit.tiers.as_ref().and_then(|tiers| {
        let key_path = child(key_path, "tiers");
        if key.as_ref().is_some_and(LimitKey::is_known_before_auth) {
            problems.add_with_hint(
                key_path.clone(),
                "a limit with this key is checked before authentication, when no claim is known",
                "use a key such as \"subject\", or remove `tiers`",
            );
        }
        if tiers.rates.is_empty() {
            problems.add_with_hint(
                child(&key_path, "rates"),
                "missing",
                "write at least one rate, such as `{ gold = \"1000/min\" }`",
            );
        }
        let Some(claim) = tiers.claim.as_deref() else {
            problems.add_with_hint(
                child(&key_path, "claim"),
                "missing",
                "write the path of the claim that names the tier, such as \"plan\"",
            );
            return None;
        };
        let claim = parse_claim_path(&child(&key_path, "claim"), claim, problems)?;
        let quotas = tiers.rates.iter().map(|(tier, &rate)| (tier.clone(), quota(rate))).collect();
        Some(Tiers { claim, quotas })
    });
    Some(LimitSettings { name: name.into(), key: key?, quota: quota(limit.rate?), tiers })
}

fn parse_key(key_path: &str, text: Option<&str>, problems: &mut Problems) -> Option<LimitKey> {
    let Some(text) = text else {
        problems.add_with_hint(key_path, "missing", KEY_HINT);
        return None;
    };
    if let Some(claim) = text.strip_prefix("claim:") {
        return parse_claim_path(key_path, claim, problems).map(LimitKey::Claim);
    }
    if let Some(header) = text.strip_prefix("header:") {
        let name = HeaderName::try_from(header).ok();
        match &name {
            Some(name) if !may_pass(name) => problems.add_with_hint(
                key_path,
                format!("{} is removed from every request before limits are counted", quoted(name.as_str())),
                "to count by the client's address, write \"ip\"",
            ),
            Some(_) => {}
            None => problems.add(key_path, format!("{} is not a valid header name", quoted(header))),
        }
        return name.map(LimitKey::Header);
    }
    match text {
        "client" => Some(LimitKey::Client),
        "ip" => Some(LimitKey::Ip),
        "issuer" => Some(LimitKey::Issuer),
        "route" => Some(LimitKey::Route),
        "subject" => Some(LimitKey::Subject),
        _ => {
            problems.add_with_hint(key_path, format!("{} is not a limit key", quoted(text)), KEY_HINT);
            None
        }
    }
}
