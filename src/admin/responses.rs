//! The responses of the admin listener: small, complete, and protected from caching and content
//! sniffing.

use http::header::{ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Bytes;
use serde::Serialize;

use super::ReadinessReport;
use super::guard::Forbidden;
use crate::telemetry::{Exposition, Metrics};

type AdminResponse = Response<Full<Bytes>>;

/// All metrics, in the format that `Accept` prefers.
pub(super) fn metrics(metrics: &Metrics, headers: &HeaderMap) -> AdminResponse {
    let format = preferred_format(headers);
    full(StatusCode::OK, format.content_type(), metrics.encode(format))
}

/// The process is alive.
pub(super) fn live() -> AdminResponse {
    #[derive(Serialize)]
    struct Live {
        live: bool,
    }
    json(StatusCode::OK, &Live { live: true })
}

/// Whether traffic should be sent to this gateway, and what is wrong with it.
pub(super) fn ready(report: ReadinessReport) -> AdminResponse {
    #[derive(Serialize)]
    struct Ready {
        ready: bool,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        reasons: Vec<String>,
    }
    let status = if report.is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &Ready { ready: report.is_ready, reasons: report.reasons })
}

/// The request may come from a browser that shows a page of another origin.
pub(super) fn forbidden(reason: Forbidden) -> AdminResponse {
    let detail = match reason {
        Forbidden::Host => "on a loopback address, Host must be an IP address or localhost",
        Forbidden::Origin => "cross-origin requests are not allowed",
    };
    error(StatusCode::FORBIDDEN, detail)
}

/// No resource exists at this path.
pub(super) fn not_found() -> AdminResponse {
    error(StatusCode::NOT_FOUND, "not found")
}

/// All resources are read-only.
pub(super) fn method_not_allowed() -> AdminResponse {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    response
}

fn error(status: StatusCode, error: &'static str) -> AdminResponse {
    #[derive(Serialize)]
    struct Error {
        error: &'static str,
    }
    json(status, &Error { error })
}

fn json(status: StatusCode, value: &impl Serialize) -> AdminResponse {
    let text = serde_json::to_string(value).expect("strings and booleans serialize to JSON");
    full(status, "application/json", text)
}

fn full(status: StatusCode, content_type: &'static str, text: String) -> AdminResponse {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// The format that `Accept` prefers (RFC 9110 §12.5.1).
///
/// Every scraper reads the Prometheus text format. OpenMetrics is sent only if `Accept` names it in
/// a supported version and with at least the weight of `text/plain`.
fn preferred_format(headers: &HeaderMap) -> Exposition {
    let (mut open_metrics, mut text) = (0, 0);
    let values = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let (mut weight, mut is_supported) = (1_000, true);
        for (key, value) in parts.filter_map(|part| part.split_once('=')) {
            if key.eq_ignore_ascii_case("q") {
                weight = thousandths(value);
            } else if key.eq_ignore_ascii_case("version") {
                is_supported = matches!(value.trim_matches('"'), "0.0.1" | "1.0.0");
            }
        }
        if name.eq_ignore_ascii_case("application/openmetrics-text") && is_supported {
            open_metrics = weight.max(open_metrics);
        } else if name.eq_ignore_ascii_case("text/plain") {
            text = weight.max(text);
        }
    }
    if open_metrics > 0 && open_metrics >= text { Exposition::OpenMetrics } else { Exposition::PrometheusText }
}

/// A `q` value in thousandths (RFC 9110 §12.4.2). A malformed value counts as 0, which means "not
/// acceptable".
fn thousandths(value: &str) -> u32 {
    let (integer, fraction) = value.split_once('.').unwrap_or((value, ""));
    let digits = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match (integer, format!("{fraction:0<3}").parse()) {
        ("0", Ok(fraction)) if digits => fraction,
        ("1", Ok(0)) if digits => 1_000,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_is_the_one_that_accept_prefers() {
        use Exposition::{OpenMetrics, PrometheusText};
        for (name, accept, expect) in [
            ("no field", &[][..], PrometheusText),
            ("anything", &["*/*"], PrometheusText),
            ("a browser", &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], PrometheusText),
            ("plain", &["application/openmetrics-text"], OpenMetrics),
            (
                "prometheus",
                &["application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"],
                OpenMetrics,
            ),
            (
                "upper case and spaces",
                &["Text/Plain;q=0.1 , Application/OpenMetrics-Text ; version=\"1.0.0\""],
                OpenMetrics,
            ),
            ("two fields", &["text/plain;q=0.5", "application/openmetrics-text"], OpenMetrics),
            ("lower weight", &["application/openmetrics-text;q=0.2,text/plain;q=0.3"], PrometheusText),
            ("weight zero", &["application/openmetrics-text;q=0"], PrometheusText),
            ("an unsupported version", &["application/openmetrics-text;version=2.0.0"], PrometheusText),
            ("a malformed weight", &["application/openmetrics-text;q=+1"], PrometheusText),
            ("a similar name", &["application/openmetrics-text2"], PrometheusText),
        ] {
            let mut headers = HeaderMap::new();
            for value in accept {
                headers.append(ACCEPT, HeaderValue::from_static(value));
            }
            assert_eq!(preferred_format(&headers), expect, "{name}");
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
