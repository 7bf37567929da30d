//! What the side door says: each answer whole, small, and not to be kept or guessed at by a browser.

use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

use super::guard::Refused;
use crate::telemetry::{Exposition, Metrics};

type Answer = Response<Full<Bytes>>;

/// All metrics, in the format that the caller prefers.
pub(super) fn metrics(metrics: &Metrics, headers: &HeaderMap) -> Answer {
    let format = preferred(headers);
    whole(StatusCode::OK, format.content_type(), metrics.encode(format))
}

/// The process is there.
pub(super) fn live() -> Answer {
    #[derive(Serialize)]
    struct Live {
        live: bool,
    }
    json(StatusCode::OK, &Live { live: true })
}

/// Whether traffic should be sent here, and if not, why.
pub(super) fn ready(readiness: Result<(), Vec<String>>) -> Answer {
    #[derive(Serialize)]
    struct Ready {
        ready: bool,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<String>,
    }
    match readiness {
        Ok(()) => json(StatusCode::OK, &Ready { ready: true, reasons: Vec::new() }),
        Err(reasons) => json(StatusCode::SERVICE_UNAVAILABLE, &Ready { ready: false, reasons }),
    }
}

/// The caller may be a browser on somebody else's behalf.
pub(super) fn forbidden(refused: Refused) -> Answer {
    let why = match refused {
        Refused::Host => "on a loopback address, Host must be an IP address or localhost",
        Refused::Origin => "requests from other origins are not answered",
    };
    error(StatusCode::FORBIDDEN, why)
}

/// Nothing is served at this path.
pub(super) fn not_found() -> Answer {
    error(StatusCode::NOT_FOUND, "not found")
}

/// Everything here is only read.
pub(super) fn method_not_allowed() -> Answer {
    let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    answer
}

fn error(status: StatusCode, error: &'static str) -> Answer {
    #[derive(Serialize)]
    struct Error {
        error: &'static str,
    }
    json(status, &Error { error })
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    let text = serde_json::to_string(value).expect("texts and booleans have a JSON form");
    whole(status, "application/json", text)
}

fn whole(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::from(text));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// The format that `Accept` asks for (RFC 9110 §12.5.1).
///
/// The older text is what everything reads, so OpenMetrics is written only where it is named, in a version that is spoken
/// here, and is not liked less than `text/plain`.
fn preferred(headers: &HeaderMap) -> Exposition {
    let (mut open_metrics, mut text) = (0, 0);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let (mut weight, mut spoken) = (1_000, true);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            if key.eq_ignore_ascii_case("q") {
                weight = thousandths(value);
            } else if key.eq_ignore_ascii_case("version") {
                spoken = matches!(value.trim_matches('"'), "0.0.1" | "1.0.0");
            }
        }
        if name.eq_ignore_ascii_case("application/openmetrics-text") && spoken {
            open_metrics = weight.max(open_metrics);
        } else if name.eq_ignore_ascii_case("text/plain") {
            text = weight.max(text);
        }
    }
    if open_metrics > 0 && open_metrics >= text { Exposition::OpenMetrics } else { Exposition::PrometheusText }
}

/// A `q` value in thousandths (RFC 9110 §12.4.2); what is none counts as not wanted.
fn thousandths(value: &str) -> u32 {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (whole, format!("{fraction:0<3}").parse()) {
        ("0", Ok(fraction)) if digits => fraction,
        ("1", Ok(0)) if digits => 1_000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_is_asked_for() {
        use Exposition::{OpenMetrics, PrometheusText};
        for (name, accept, expect) in [
            ("nothing", &[][..], PrometheusText),
            ("anything", &["*/*"], PrometheusText),
            ("a browser", &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], PrometheusText),
            ("plain", &["application/openmetrics-text"], OpenMetrics),
            (
                "prometheus",
                &["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"],
                OpenMetrics,
            ),
            (
                "other case, spaces",
                &["Text/Plain;q=0.1 , Application/OpenMetrics-Text ; version=\"1.0.0\""],
                OpenMetrics,
            ),
            ("two fields", &["text/plain;q=0.5", "application/openmetrics-text"], OpenMetrics),
            ("liked less", &["application/openmetrics-text;q=0.2,text/plain;q=0.3"], PrometheusText),
            ("refused", &["application/openmetrics-text;q=0"], PrometheusText),
            ("a version of the future", &["application/openmetrics-text;version=2.0.0"], PrometheusText),
            ("a weight that is none", &["application/openmetrics-text;q=+1"], PrometheusText),
            ("a name that is nearly it", &["application/openmetrics-text2"], PrometheusText),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(preferred(&headers), expect, "{name}");
        }
    }

    #[test]
    fn weights_are_read_in_thousandths() {
        for (text, expect) in [
            ("1", 1_000),
            ("1.000", 1_000),
            ("0.5", 500),
            ("0.05", 50),
            ("0", 0),
            ("0.", 0),
            ("1.001", 0),
            ("2", 0),
            ("-1", 0),
            ("0.0001", 0),
            ("0.+1", 0),
            ("", 0),
        ] {
            assert_eq!(thousandths(text), expect, "{text}");
        }
    }
}
