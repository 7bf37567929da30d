//! `retries`, `retry_on` and `retry_body_size` of an upstream.

use crate::config::key_path::{child, element};
use crate::config::units::RetryOn;
use crate::config::{Problems, Upstream};
use crate::upstream::retry::{RetryCondition, RetrySettings};

/// With more retries, one request could take a server out of service after another.
const MAX_RETRIES: u32 = 5;

/// A larger buffer would let few clients take much memory.
const MAX_BODY_BYTES: u64 = 64 * 1024;

pub(super) fn compile(key_path: &str, upstream: &Upstream, problems: &mut Problems) -> RetrySettings {
    let (retries, max_body) = (upstream.retries, upstream.retry_body_size.bytes());
    if retries > MAX_RETRIES {
        problems.add(child(key_path, "retries"), format!("{retries} is more than the limit of {MAX_RETRIES}"));
    }
    if max_body > MAX_BODY_BYTES {
        problems.add_with_hint(
            child(key_path, "retry_body_size"),
            format!("{max_body} bytes are more than the limit of {} KiB", MAX_BODY_BYTES >> 10),
            "requests with larger bodies are not sent again",
        );
    }
    if max_body > 0 && retries == 0 {
        problems.add_with_hint(
            child(key_path, "retry_body_size"),
            "no body needs to be buffered, because `retries` is 0",
            "remove it, or write a larger number of `retries`",
        );
    }
    let list = child(key_path, "retry_on");
    let mut on: Vec<RetryCondition> = Vec::new();
    for (index, retry_on) in upstream.retry_on.iter().enumerate() {
        let condition = match retry_on {
            RetryOn::BadGateway => RetryCondition::BadGateway,
            RetryOn::Closed => RetryCondition::Closed,
            RetryOn::Connect => RetryCondition::Connect,
            RetryOn::GatewayTimeout => RetryCondition::GatewayTimeout,
            RetryOn::Unavailable => RetryCondition::Unavailable,
        };
        if on.contains(&condition) {
            problems.add(element(&list, index), "is listed twice");
        } else {
            on.push(condition);
        }
    }
    RetrySettings { max_retries: retries, on, max_body_bytes: max_body }
}
