//! `[limits.NAME]`: budgets, and who shares one.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;

use crate::config::key_path::child;
use crate::config::problem::quoted;
use crate::config::units::Rate;
use crate::config::{Limit, Problems};
use crate::gateway::policy::{FailureGuard, LimitKey, LimitSettings, Tiers};
use crate::rate_limit::Quota;

const KEYS: &str = "one of \"ip\", \"subject\", \"client\", \"issuer\", \"route\", \"claim:PATH\", \"header:NAME\"";

pub(super) fn compile(written: &BTreeMap<String, Limit>, problems: &mut Problems) -> BTreeMap<Arc<str>, LimitSettings> {
    let mut compiled = BTreeMap::new();
    for (name, limit) in written {
        let path = child("limits", name);
        super::headers::check_name(&path, name, problems);
        if name == FailureGuard::NAME {
            problems.add(path.clone(), "the name belongs to `server.auth_failures`");
        }
        if let Some(settings) = one(name, &path, limit, problems) {
            compiled.insert(Arc::clone(&settings.name), settings);
        }
    }
    compiled
}

fn one(name: &str, path: &str, written: &Limit, problems: &mut Problems) -> Option<LimitSettings> {
    let burst = u64::from(written.burst.get());
    let quota = |rate: Rate| Quota { count: rate.count, period: rate.period, burst };
    if written.rate.is_none() {
        problems.add_with_hint(child(path, "rate"), "missing", "such as \"100/min\"");
    }
    let key = key(&child(path, "key"), written.key.as_deref(), problems);
    let tiers = written.tiers.as_ref().and_then(|tiers| {
        let place = child(path, "tiers");
        if key.as_ref().is_some_and(LimitKey::is_known_before_auth) {
            problems.add_with_hint(
                place.clone(),
                "a limit with this key is counted before the token is looked at, so that no claim is known",
                "use another key, or leave the tiers out",
            );
        }
        if tiers.rates.is_empty() {
            problems.add(child(&place, "rates"), "at least one rate is needed");
        }
        let Some(claim) = tiers.claim.as_deref() else {
            problems.add(child(&place, "claim"), "missing");
            return None;
        };
        let claim = super::issuers::claim_path(&child(&place, "claim"), claim, problems)?;
        let quotas = tiers.rates.iter().map(|(tier, &rate)| (tier.clone(), quota(rate))).collect();
        Some(Tiers { claim, quotas })
    });
    Some(LimitSettings { name: name.into(), key: key?, quota: quota(written.rate?), tiers })
}

fn key(place: &str, written: Option<&str>, problems: &mut Problems) -> Option<LimitKey> {
    let Some(text) = written else {
        problems.add_with_hint(place, "missing", KEYS);
        return None;
    };
    if let Some(path) = text.strip_prefix("claim:") {
        return super::issuers::claim_path(place, path, problems).map(LimitKey::Claim);
    }
    if let Some(name) = text.strip_prefix("header:") {
        let name = HeaderName::try_from(name).ok();
        if name.is_none() {
            problems.add(place, format!("{} does not name a header", quoted(text)));
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
            problems.add_with_hint(place, format!("{} is nothing that a limit can be keyed by", quoted(text)), KEYS);
            None
        }
    }
}
