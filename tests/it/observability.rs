//! What operators see: metrics, the access log, the admin listener.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::client;
use crate::support::config::Config;
use crate::support::fixture::Fixture;

/// Each metric, with labels that the traffic below produces; histograms by their count.
const METRICS: &[&str] = &[
    "portcullis_requests_total{route=\"scope\",method=\"GET\",status=\"200\"}",
    "portcullis_request_duration_seconds_count{route=\"scope\"}",
    "portcullis_upstream_duration_seconds_count{upstream=\"main\"}",
    "portcullis_rejections_total{route=\"scope\",code=\"credentials_missing\"}",
    "portcullis_token_verifications_total{issuer=\"main\",result=\"accepted\",cache=\"miss\"}",
    "portcullis_token_verifications_total{issuer=\"main\",result=\"accepted\",cache=\"hit\"}",
    "portcullis_token_verify_seconds_count{issuer=\"main\"}",
    "portcullis_jwks_refreshes_total{issuer=\"main\",result=\"success\"}",
    "portcullis_jwks_keys{issuer=\"main\"}",
    "portcullis_jwks_plain_http{issuer=\"main\"}",
    "portcullis_limited_total{limit=\"one\"}",
    "portcullis_would_reject_total{route=\"report\",code=\"credentials_missing\"}",
    "portcullis_requests_total{route=\"\",method=\"other\",status=\"404\"}",
    "portcullis_build_info{version=\"0.1.0\"}",
    "portcullis_config_loaded_timestamp_seconds",
    "portcullis_connections_open",
    "portcullis_connections_idle",
    "portcullis_idle_connections_closed_total{limit=\"max_connections\"}",
    "portcullis_connections_refused_total",
    "portcullis_accept_errors_total",
    "portcullis_tls_handshakes_total{version=\"1.3\",resumed=\"false\"}",
    "portcullis_tls_handshake_failures_total{reason=\"timeout\"}",
    "portcullis_tls_reloads_total{result=\"success\"}",
    "portcullis_acme_orders_total{result=\"success\"}",
    "portcullis_proxy_headers_refused_total{reason=\"missing\"}",
    "portcullis_slow_bodies_total{direction=\"request\"}",
    "portcullis_upstream_health_checks_total{upstream=\"checked\",server=\"127.0.0.1:1\",result=\"success\"}",
    "portcullis_upstream_ejections_total{upstream=\"checked\",server=\"127.0.0.1:1\"}",
    "portcullis_upstream_addresses{upstream=\"checked\",server=\"127.0.0.1:1\",state=\"avoided\"}",
    "portcullis_upstream_up{upstream=\"checked\",server=\"127.0.0.1:1\"}",
    "portcullis_upstream_retries_total{upstream=\"main\",reason=\"connect\"}",
    "portcullis_upstream_retry_budget_exhausted_total{upstream=\"main\"}",
    "portcullis_tunnels_ended_total{upstream=\"main\",reason=\"closed\"}",
    "portcullis_tunnels_refused_total{upstream=\"main\",limit=\"max_tunnels\"}",
    "portcullis_access_log_dropped_total",
    "portcullis_events_dropped_total",
    "portcullis_token_cache_entries",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
];

pub(crate) fn config() -> Config {
    Config::minimal()
        .append("[upstreams.checked]\nservers = [\"http://127.0.0.1:1\"]\nhealth = { path = \"/\", interval = \"1h\" }")
        .append("[limits.one]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 1")
        .route("limited", "access = \"public\"\nlimits = [\"one\"]")
        .route("report", "report_only = true")
}

pub(crate) async fn send_traffic(fixture: &Fixture) {
    let bearer = fixture.bearer("alice");
    for _ in 0..2 {
        assert_eq!(fixture.get("/scope/a", &[("authorization", &bearer)]).await.status, 200);
    }
    assert_eq!(fixture.get("/scope/a", &[]).await.status, 401);
    assert_eq!(fixture.get("/limited", &[]).await.status, 200);
    assert_eq!(fixture.get("/limited", &[]).await.status, 429);
    assert_eq!(fixture.get("/report", &[]).await.status, 200);
    assert_eq!(fixture.request("BREW", "/none", &[], b"").await.status, 404);
}

#[tokio::test]
async fn every_metric_has_a_sample_after_traffic() {
    let fixture = Fixture::start(config()).await;
    send_traffic(&fixture).await;
    fixture.gateway.wait_for_access_lines(7).await;
    let samples = fixture.gateway.metrics().await;
    for metric in METRICS {
        assert!(samples.get(metric).is_some(), "{metric} is not in:\n{}", samples.text());
    }
    for (metric, count) in [
        ("portcullis_requests_total{route=\"scope\",method=\"GET\",status=\"200\"}", 2),
        ("portcullis_request_duration_seconds_count{route=\"scope\"}", 3),
        ("portcullis_token_verifications_total{issuer=\"main\",result=\"accepted\",cache=\"miss\"}", 1),
        ("portcullis_token_verifications_total{issuer=\"main\",result=\"accepted\",cache=\"hit\"}", 1),
        ("portcullis_would_reject_total{route=\"report\",code=\"credentials_missing\"}", 1),
    ] {
        assert_eq!(samples.count(metric), count, "{metric}");
    }
    for histogram in [
        "portcullis_request_duration_seconds",
        "portcullis_upstream_duration_seconds",
        "portcullis_token_verify_seconds",
    ] {
        assert!(samples.text().contains(&format!("# TYPE {histogram} histogram")), "{histogram}");
    }
    for gauge in [
        "portcullis_jwks_age_seconds{issuer=\"main\"}",
        "portcullis_upstream_connections{upstream=\"main\",state=\"idle\"}",
    ] {
        assert!(samples.get(gauge).is_some(), "{gauge}");
    }
}

/// LM-2: label values come from the configuration and from closed sets.
#[tokio::test]
async fn a_client_cannot_create_metric_series() {
    let fixture = Fixture::start(Config::minimal()).await;
    // The first token and the first unmatched request create their own series.
    assert_eq!(fixture.get("/token/a", &[("authorization", &fixture.bearer("alice"))]).await.status, 200);
    fixture.get("/warm-up", &[]).await;
    fixture.gateway.wait_for_access_lines(2).await;
    let before = fixture.gateway.metrics().await.text().lines().count();
    for index in 0..20 {
        let path = format!("/none/{index}");
        fixture.request("GET", &path, &[("host", &format!("h{index}.example"))], b"").await;
    }
    fixture.gateway.wait_for_access_lines(22).await;
    assert_eq!(fixture.gateway.metrics().await.text().lines().count(), before);
}

#[tokio::test]
async fn each_request_has_one_access_log_line_with_the_documented_fields() {
    let fixture = Fixture::start(config()).await;
    send_traffic(&fixture).await;
    let lines = fixture.gateway.wait_for_access_lines(7).await;
    assert_eq!(lines.len(), 7);
    let known: BTreeSet<&str> =
        "time request_id route method path status grpc_status code reason blame would_reject issuer subject client \
        bytes_in bytes_out duration_ms upstream server upstream_ms"
            .split_whitespace()
            .collect();
    for line in &lines {
        for field in line.as_object().expect("an object").keys() {
            assert!(known.contains(field.as_str()), "{field} in {line}");
        }
        for field in [
            "time",
            "request_id",
            "route",
            "method",
            "path",
            "status",
            "client",
            "bytes_in",
            "bytes_out",
            "duration_ms",
        ] {
            assert!(line.get(field).is_some(), "{field} in {line}");
        }
    }
    assert_eq!((&lines[0]["issuer"], &lines[0]["upstream"]), (&Value::from("main"), &Value::from("main")));
    assert_ne!(lines[0]["subject"], "alice", "hashed by default");
    assert_eq!(lines[0]["subject"], lines[1]["subject"]);
    assert_eq!(lines[2]["code"], "credentials_missing");
    assert_eq!(
        (&lines[5]["status"], &lines[5]["would_reject"]),
        (&Value::from(200), &Value::from("credentials_missing"))
    );
}

#[tokio::test]
async fn logs_the_subject_in_clear_text_only_if_configured() {
    let fixture = Fixture::start(Config::minimal().append("[log]\nsubject = true")).await;
    fixture.get("/token/a", &[("authorization", &fixture.bearer("alice"))]).await;
    assert_eq!(fixture.gateway.wait_for_access_lines(1).await[0]["subject"], "alice");
}

/// I10: secrets are planted wherever a client can put them.
#[tokio::test]
async fn no_secret_reaches_the_log_the_metrics_or_a_response() {
    const SECRET: &str = "pl4nted";
    let fixture = Fixture::start(Config::minimal()).await;
    let token = fixture.bearer("alice");
    for (path, headers) in [
        (format!("/token/a?token={SECRET}"), vec![("authorization", token.as_str()), ("cookie", "id=pl4nted")]),
        ("/scope/a".to_owned(), vec![("authorization", "Bearer pl4nted.pl4nted.pl4nted")]),
        ("/token/a".to_owned(), vec![("authorization", "Basic pl4nted")]),
        ("/public/a".to_owned(), vec![("x-request-id", "pl4nted"), ("proxy-authorization", "pl4nted")]),
    ] {
        let response = fixture.get(&path, &headers).await;
        if response.status != 200 {
            assert!(!response.text().contains(SECRET), "{path}: {}", response.text());
        }
        assert!(response.headers.iter().all(|(_, value)| !value.contains(SECRET)), "{path}: {:?}", response.headers);
    }
    let lines = fixture.gateway.wait_for_access_lines(4).await;
    let log = lines.iter().map(Value::to_string).collect::<String>();
    let payload = token.split('.').nth(1).expect("a token has three parts").to_owned();
    for secret in [SECRET, payload.as_str()] {
        assert!(!log.contains(secret), "{log}");
        assert!(!fixture.gateway.metrics().await.text().contains(secret));
    }
}

#[tokio::test]
async fn the_admin_listener_refuses_foreign_hosts_and_origins() {
    let fixture = Fixture::start(Config::minimal()).await;
    let admin = fixture.gateway.admin();
    for (name, target, headers, status) in [
        ("alive", "/livez", vec![], 200),
        ("metrics", "/metrics", vec![], 200),
        ("unknown", "/config", vec![], 404),
        ("a dot segment", "/metrics/../config", vec![], 404),
        ("a foreign host name (DNS rebinding)", "/metrics", vec![("host", "evil.example")], 403),
        ("a page of another origin", "/metrics", vec![("origin", "https://evil.example")], 403),
    ] {
        assert_eq!(client::get(admin, target, &headers).await.status, status, "{name}");
    }
    assert_eq!(client::request(admin, "POST", "/metrics", &[], b"").await.status, 405);
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(fixture.get(path, &[]).await.status, 404, "{path} is not on the data listener");
    }
}

/// A silent keep-alive connection is closed after `idle_timeout`, without a response.
#[tokio::test]
async fn closes_an_idle_connection_without_logging_it() {
    let fixture = Fixture::start(Config::minimal().add("server", "idle_timeout = \"50ms\"")).await;
    let mut idle = fixture.connect().await;
    idle.send("GET /public/a HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    assert_eq!(idle.read_response().await.status, 200);
    assert!(idle.read_to_close().await.is_empty());
    fixture.gateway.wait_for_access_lines(1).await;
    assert_eq!(fixture.gateway.access_lines().len(), 1, "a silent connection is not logged");
}
