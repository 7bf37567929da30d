//! The alert rules and the dashboard in `deploy/`: they use metrics, labels and label values that
//! the gateway exports, and each alert has an entry in docs/runbook.md.
//!
//! promtool checks the syntax and shows each alert firing: `make test-deploy`.

mod promql;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::promql::{Expression, Matcher};
use crate::observability;
use crate::support::fixture::Fixture;

/// Labels that Prometheus adds to each sample that it scrapes.
const SCRAPE_LABELS: [&str; 2] = ["instance", "job"];

/// Labels whose values are an open set, or are numbers.
const FREE_LABELS: [&str; 2] = ["le", "status"];

fn project_file(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// One rule of deploy/prometheus/alerts.yaml.
#[derive(Debug)]
struct Alert {
    name: String,
    expression: String,
    /// The whole rule.
    text: String,
}

/// The rules of the file, by its layout: each begins with `- alert:`, and the lines of a longer
/// expression are indented below `expr: |-`.
fn alerts() -> Vec<Alert> {
    let file = project_file("deploy/prometheus/alerts.yaml");
    let alerts: Vec<Alert> = file
        .split("- alert: ")
        .skip(1)
        .map(|rule| {
            let (name, rest) = rule.split_once('\n').expect("a rule has several lines");
            let (_, rest) = rest.split_once("        expr: ").expect("a rule has an expression");
            let (first, rest) = rest.split_once('\n').expect("a rule has several lines");
            let further = rest.lines().take_while(|line| line.starts_with("          "));
            let expression = if first == "|-" { further.collect::<Vec<_>>().join("\n") } else { first.to_owned() };
            Alert { name: name.to_owned(), expression, text: rule.to_owned() }
        })
        .collect();
    assert!(alerts.len() > 20, "only {} alerts were found", alerts.len());
    alerts
}

/// What the dashboard shows: a query, and the names of its series.
#[derive(Debug)]
struct Query {
    expression: String,
    legend: String,
}

fn dashboard_queries() -> Vec<Query> {
    fn collect(value: &Value, queries: &mut Vec<Query>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| collect(item, queries)),
            Value::Object(members) => {
                if let Some(expression) = members.get("expr") {
                    let legend = members.get("legendFormat").or_else(|| members.get("textFormat"));
                    queries.push(Query {
                        expression: expression.as_str().expect("a string").to_owned(),
                        legend: legend.and_then(Value::as_str).unwrap_or_default().to_owned(),
                    });
                }
                members.values().for_each(|member| collect(member, queries));
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let dashboard: Value = serde_json::from_str(&project_file("deploy/grafana/portcullis.json")).expect("JSON");
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    for variable in dashboard["templating"]["list"].as_array().expect("variables") {
        // `label_values(metric, label)`
        if let Some(inside) = variable["definition"].as_str().and_then(|text| text.strip_prefix("label_values(")) {
            let (expression, label) = inside.trim_end_matches(')').rsplit_once(", ").expect("two arguments");
            queries.push(Query { expression: expression.to_owned(), legend: format!("{{{{{label}}}}}") });
        }
    }
    assert!(queries.len() > 40, "only {} queries were found", queries.len());
    queries
}

/// The labels of each metric in the table of docs/operations.md. Another test compares the names
/// there with those that are exported.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let operations = project_file("docs/operations.md");
    let (_, table) = operations.split_once("| metric | type |").expect("the table of metrics");
    let words = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let rows = table.lines().skip(2).map_while(|row| row.strip_prefix("| "));
    rows.flat_map(|row| {
        // Names, type, labels, meaning.
        let mut cells = row.split('|');
        let (names, labels) = (cells.next().unwrap_or_default(), cells.nth(1).unwrap_or_default());
        words(names).into_iter().map(move |name| (name, words(labels).into_iter().collect()))
    })
    .collect()
}

/// The metrics that a gateway exports after some traffic, with the names of their labels. A metric
/// without a sample has those that are documented.
async fn exported() -> BTreeMap<String, BTreeSet<String>> {
    let fixture = Fixture::start(observability::config()).await;
    observability::send_traffic(&fixture).await;
    fixture.gateway.wait_for_access_lines(7).await;
    let samples = fixture.gateway.metrics().await;
    let mut metrics: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in samples.text().lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (sample, _) = line.rsplit_once(' ').expect("a value");
        let selector = Expression::parse(sample).selectors.remove(0);
        metrics.entry(selector.metric).or_default().extend(selector.matchers.into_iter().map(|matcher| matcher.label));
    }
    for (name, labels) in documented() {
        match metrics.get(&name) {
            Some(exported) => assert_eq!(*exported, labels, "labels of {name}, exported and documented"),
            None => drop(metrics.insert(name, labels)),
        }
    }
    metrics
}

/// Words in backticks in the documents: among them all values of closed label sets.
fn documented_values() -> BTreeSet<String> {
    let documents = ["docs/operations.md", "docs/answers.md", "docs/tls.md"].map(project_file).concat();
    documents.lines().flat_map(|line| line.split('`').skip(1).step_by(2).map(str::to_owned)).collect()
}

/// What is wrong with a query, given what the gateway exports.
fn faults(
    expression: &Expression,
    exported: &BTreeMap<String, BTreeSet<String>>,
    values: &BTreeSet<String>,
) -> Vec<String> {
    let mut faults = Vec::new();
    let mut known: BTreeSet<&str> = SCRAPE_LABELS.into();
    for selector in expression.selectors.iter().filter(|selector| selector.metric != "up") {
        let Some(labels) = exported.get(&selector.metric) else {
            faults.push(format!("no metric {}", selector.metric));
            continue;
        };
        known.extend(labels.iter().map(String::as_str));
        for Matcher { label, value } in &selector.matchers {
            if SCRAPE_LABELS.contains(&label.as_str()) {
                continue;
            }
            if !labels.contains(label) {
                faults.push(format!("{} has no label {label}", selector.metric));
            } else if !FREE_LABELS.contains(&label.as_str()) {
                let missing = value.split('|').filter(|value| !values.contains(*value));
                faults.extend(missing.map(|value| format!("{label}={value:?} is documented nowhere")));
            }
        }
    }
    let unknown = expression.groupings.iter().flatten().filter(|label| !known.contains(label.as_str()));
    faults.extend(unknown.map(|label| format!("no metric in it has the label {label}")));
    faults
}

/// The labels that the series of a result have: those of the first metric, or of the grouping.
fn result_labels(expression: &Expression, exported: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<String> {
    let first = expression.selectors.first().expect("each query reads a metric");
    if let Some(grouping) = expression.aggregations.first() {
        return grouping.iter().cloned().collect();
    }
    let scraped = SCRAPE_LABELS.map(str::to_owned);
    exported.get(&first.metric).into_iter().flatten().cloned().chain(scraped).collect()
}

/// The names between `open` and the next character that cannot be part of one.
fn placeholders<'a>(text: &'a str, open: &str) -> Vec<&'a str> {
    let name_of = |rest: &'a str| rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next();
    text.split(open).skip(1).filter_map(name_of).collect()
}

#[tokio::test]
async fn alerts_and_dashboard_read_only_what_the_gateway_exports() {
    let (exported, values) = (exported().await, documented_values());
    let mut wrong = Vec::new();
    for Alert { name, expression, text } in alerts() {
        let expression = Expression::parse(&expression);
        wrong.extend(faults(&expression, &exported, &values).into_iter().map(|fault| format!("{name}: {fault}")));
        let labels = result_labels(&expression, &exported);
        let lost = placeholders(&text, "$labels.").into_iter().filter(|label| !labels.contains(*label));
        wrong.extend(lost.map(|label| format!("{name}: its series have no label {label}")));
    }
    for Query { expression: text, legend } in dashboard_queries() {
        let expression = Expression::parse(&text);
        wrong.extend(faults(&expression, &exported, &values).into_iter().map(|fault| format!("{text}: {fault}")));
        let labels = result_labels(&expression, &exported);
        let lost = placeholders(&legend, "{{").into_iter().filter(|label| !labels.contains(*label));
        wrong.extend(lost.map(|label| format!("{text}: its series have no label {label}")));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A metric that no panel shows is one that an operator does not find when it matters.
#[tokio::test]
async fn the_dashboard_shows_every_metric() {
    let shown: BTreeSet<String> = dashboard_queries()
        .iter()
        .flat_map(|query| Expression::parse(&query.expression).selectors)
        .map(|selector| selector.metric.trim_end_matches("_bucket").to_owned())
        .collect();
    // Facts about the machine, not about the gateway's work; and a warning that the log repeats.
    let left_out = [
        "process_start_time_seconds",
        "process_threads",
        "process_virtual_memory_bytes",
        "portcullis_identity_headers_omitted_total",
        "portcullis_jwks_plain_http",
    ];
    let missing: Vec<String> = exported()
        .await
        .into_keys()
        .filter(|name| !name.ends_with("_sum") && !name.ends_with("_count"))
        .map(|name| name.trim_end_matches("_bucket").to_owned())
        .filter(|name| !shown.contains(name) && !left_out.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn each_alert_has_an_entry_in_the_runbook_and_a_test() {
    let runbook = project_file("docs/runbook.md");
    let tests = project_file("deploy/prometheus/alerts_test.yaml");
    let entries: BTreeSet<&str> =
        runbook.lines().filter_map(|line| line.strip_prefix("### ")).filter(|name| name.starts_with("Port")).collect();
    let alerts = alerts();
    let names: BTreeSet<&str> = alerts.iter().map(|alert| alert.name.as_str()).collect();
    assert_eq!(entries, names, "entries of docs/runbook.md, and alerts");
    for Alert { name, text, .. } in &alerts {
        let link = format!("runbook: docs/runbook.md#{}\n", name.to_lowercase());
        assert!(text.contains(&link), "{name} has no link {link}");
        assert!(text.contains("severity: critical") || text.contains("severity: warning"), "{name} has no severity");
        assert!(tests.contains(&format!("  - name: {name}\n")), "{name} is not in alerts_test.yaml");
        assert!(tests.contains(&format!("60m, alertname: {name}, exp_alerts: [] }}")), "{name} in a quiet hour");
    }
}
