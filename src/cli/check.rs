//! `portcullis check`: prints all problems of a configuration, or the route table if there are
//! none.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use super::{ConfigFile, FAILED};
use crate::acme::{AcmeSettings, probe};
use crate::app::block_on_local;
use crate::gateway::policy::{Access, ClientCertRule, RouteSettings};
use crate::plan::adopt::Adopter;
use crate::plan::tls_files::TlsFiles;
use crate::plan::{Plan, Warning, certificate_warnings};
use crate::primitives::clock::Clock;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{AccessLog, Rfc3339};
use crate::tls::server::LoadedCertificate;
use crate::token::{Algorithm, Verifier};
use crate::upstream::Upstream;
use crate::upstream::server::Server;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Also fetch each issuer's keys, and connect to the ACME server and to each server of each
    /// upstream
    #[arg(long)]
    online: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let plan = match super::load_plan(&args.file) {
        Ok(plan) => plan,
        Err(problems) => return super::report_problems(&problems),
    };
    let clock = Clock::system();
    let files = match TlsFiles::load(&plan, &clock, None) {
        Ok(files) => files,
        Err(problems) => return super::report_problems(&problems),
    };
    let mut text = report(&args.file.config.display().to_string(), &plan);
    text.push_str(&certificate_list(&files.certificates()));
    text.push_str(&missing_certificates(&plan, &files));
    text.push_str(&warnings(&plan, certificate_warnings(&files, clock.now())));
    let printed = super::print(&text);
    if args.online { check_online(&plan) } else { printed }
}

/// The summary and the route table.
fn report(file: &str, plan: &Plan) -> String {
    let mut text = format!(
        "{file}: ok ({}, {}, {})\n",
        count(plan.routes.len(), "route"),
        count(plan.issuers.len(), "issuer"),
        count(plan.upstreams.len(), "upstream"),
    );
    if !plan.environment.is_empty() {
        let _ = writeln!(text, "environment: {}", plan.environment.join(", "));
    }
    text.push('\n');
    text.push_str(&route_table(plan));
    text
}

/// The certificates that are in the files now, with their names and expiry.
fn certificate_list(certificates: &[LoadedCertificate]) -> String {
    let mut text = String::new();
    for LoadedCertificate { file, facts, .. } in certificates {
        let _ = write!(text, "\ncertificate {file}: {}, expires {}", facts.names(), Rfc3339(facts.not_after));
    }
    if !text.is_empty() {
        text.push('\n');
    }
    text
}

/// The hosts whose certificates the gateway has yet to obtain.
fn missing_certificates(plan: &Plan, files: &TlsFiles) -> String {
    let Some((acme, tls)) = plan.server.acme.as_ref().zip(files.server.as_ref()) else { return String::new() };
    let mut text = String::new();
    for (managed, identity) in tls.managed().all() {
        if identity.is_none() {
            let _ = writeln!(text, "\ncertificate for {}: to be obtained from {}", managed.host, acme.directory);
        }
    }
    text
}

/// What is valid but suspicious, each with its line and a hint.
fn warnings(plan: &Plan, of_files: Vec<Warning>) -> String {
    let mut text = String::new();
    for Warning { key, what, hint } in plan.warnings().into_iter().chain(of_files) {
        let line = plan.key_lines.line(&key).map_or_else(String::new, |line| format!("line {line}, "));
        let _ = write!(text, "\nwarning: {line}{key}: {what}\n   hint: {hint}\n");
    }
    text
}

/// A number with its noun: `1 route`, `2 routes`.
fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// The routes in their order of precedence, the most specific first.
fn route_table(plan: &Plan) -> String {
    let mut rows = vec![["HOST", "PATH", "METHODS", "ACCESS", "UPSTREAM", "NAME"].map(str::to_owned)];
    for index in plan.table.by_precedence() {
        rows.push(route_row(&plan.routes[index]));
    }
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

fn route_row(settings: &RouteSettings) -> [String; 6] {
    let pattern = &settings.pattern;
    let host = pattern.host.as_ref().map_or("any".to_owned(), ToString::to_string);
    let methods = pattern.methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join(",");
    let methods = if methods.is_empty() { "all".to_owned() } else { methods };
    [
        host,
        pattern.path.to_string(),
        methods,
        describe_access(settings),
        settings.upstream.to_string(),
        settings.name.to_string(),
    ]
}

/// The ACCESS column: the access rule of a route, its demands and limits.
fn describe_access(settings: &RouteSettings) -> String {
    let mut parts = vec![
        match &settings.access {
            Access::Public => "public",
            Access::Optional => "optional token",
            Access::Token(_) => "token",
        }
        .to_owned(),
    ];
    match settings.client_cert {
        ClientCertRule::Optional => {}
        ClientCertRule::Required => parts.push("client certificate".to_owned()),
    }
    parts.extend(settings.access.demands().iter().map(ToString::to_string));
    if let Some(issuers) = &settings.issuers {
        parts.push(format!("issuers {}", issuers.join(" ")));
    }
    if !settings.limits.is_empty() {
        parts.push(format!("limits {}", settings.limits.join(" ")));
    }
    if settings.report_only {
        parts.push("REPORT ONLY".to_owned());
    }
    parts.join(", ")
}

/// The result of one online check: a line for the report.
type CheckOutcome = Result<String, String>;

/// Fetches the keys of every issuer and connects to every server, and prints the outcomes.
fn check_online(plan: &Plan) -> ExitCode {
    let metrics = Metrics::new(Clock::system());
    let runtime = match Adopter::new(metrics, Clock::system(), AccessLog::off()).adopt(plan, None) {
        Ok(runtime) => runtime,
        Err(error) => return super::failed(&error.into()),
    };
    let acme = plan.server.acme.clone();
    let (sender, outcomes) = std::sync::mpsc::channel();
    block_on_local(async move {
        let mut verifiers: Vec<_> = runtime.issuers().iter().collect();
        verifiers.sort_by_key(|verifier| Arc::clone(&verifier.settings().name));
        for verifier in verifiers {
            let _ = sender.send(check_issuer(verifier).await);
        }
        if let Some(acme) = &acme {
            let _ = sender.send(check_acme(acme).await);
        }
        for upstream in runtime.upstreams() {
            for server in upstream.servers() {
                let _ = sender.send(check_server(upstream, &server).await);
            }
        }
    });
    let mut text = "\n".to_owned();
    let mut has_failed = false;
    for outcome in outcomes {
        match outcome {
            Ok(line) => text.push_str(&line),
            Err(line) => {
                has_failed = true;
                text.push_str("FAILED  ");
                text.push_str(&line);
            }
        }
        text.push('\n');
    }
    super::print(&text);
    if has_failed { ExitCode::from(FAILED) } else { ExitCode::SUCCESS }
}

async fn check_issuer(verifier: &Verifier) -> CheckOutcome {
    let name = &verifier.settings().name;
    if let Err(error) = verifier.keys().fetch_once().await {
        return Err(format!("issuer {name}: {error}"));
    }
    let accepted = &verifier.settings().algorithms;
    let keys = verifier.keys().algorithms_of_keys();
    let usable = keys.iter().filter(|fits| fits.iter().any(|algorithm| accepted.contains(algorithm))).count();
    if usable > 0 {
        return Ok(format!("issuer {name}: ok, {} usable", count(usable, "key")));
    }
    let names = |algorithms: &[Algorithm]| algorithms.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
    let published: Vec<Algorithm> =
        Algorithm::ALL.into_iter().filter(|algorithm| keys.iter().any(|fits| fits.contains(algorithm))).collect();
    let key = format!("issuers.{name}.algorithms");
    Err(format!("issuer {name}: its keys are for {}, but `{key}` accepts only {}", names(&published), names(accepted)))
}

async fn check_acme(acme: &AcmeSettings) -> CheckOutcome {
    match probe::fetch_directory(acme).await {
        Ok(()) => Ok(format!("ACME server {}: ok", acme.directory)),
        Err(error) => Err(format!("ACME server {}: {error}", acme.directory)),
    }
}

async fn check_server(upstream: &Upstream, server: &Server) -> CheckOutcome {
    let subject = format!("upstream {} {}", upstream.name(), server.label());
    match server.try_connect(upstream.settings().connect_timeout).await {
        Ok(()) => Ok(format!("{subject}: ok")),
        Err(fault) => Err(format!("{subject}: {}", fault.reason())),
    }
}
