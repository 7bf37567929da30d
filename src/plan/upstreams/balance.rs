//! `balance` of an upstream: how a server is picked.

use http::HeaderName;

use crate::config::Problems;
use crate::config::problem::quoted;
use crate::upstream::balance::{Balance, HashKey};
use crate::upstream::headers::names::may_pass;

const HINT: &str = "write \"least_request\", \"round_robin\", \"hash:subject\", \"hash:ip\" or \"hash:header:NAME\"";

/// Parses a value of `balance`. Returns the default if there is a problem.
pub(super) fn parse(key_path: &str, text: &str, problems: &mut Problems) -> Balance {
    let key = match text.strip_prefix("hash:").map(|key| (key, key.strip_prefix("header:"))) {
        Some((_, Some(header))) => parse_header(key_path, header, problems).map(HashKey::Header),
        Some(("ip", _)) => Some(HashKey::Ip),
        Some(("subject", _)) => Some(HashKey::Subject),
        Some((_, None)) | None => match text {
            "least_request" => return Balance::LeastRequest,
            "round_robin" => return Balance::RoundRobin,
            _ => {
                problems.add_with_hint(key_path, format!("{} is no way to balance", quoted(text)), HINT);
                None
            }
        },
    };
    key.map_or(Balance::LeastRequest, Balance::Hash)
}

fn parse_header(key_path: &str, header: &str, problems: &mut Problems) -> Option<HeaderName> {
    let name = HeaderName::try_from(header).ok();
    match &name {
        Some(name) if !may_pass(name) => problems.add_with_hint(
            key_path,
            format!("{} is removed from every request before a server is picked", quoted(name.as_str())),
            "to balance by the client's address, write \"hash:ip\"",
        ),
        Some(_) => {}
        None => problems.add(key_path, format!("{} is not a valid header name", quoted(header))),
    }
    name
}
