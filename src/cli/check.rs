//! `portcullis check`: what is wrong with a configuration, or what the gateway will do by it.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{ConfigFile, FAILED};
use crate::app::block_on_local;
use crate::gateway::policy::{Access, RouteSettings};
use crate::plan::Plan;
use crate::plan::adopt::Adopter;
use crate::primitives::clock::Clock;
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::Metrics;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Also ask each issuer for its keys, and connect to each upstream's servers
    #[arg(long)]
    online: bool,
}

pub(super) fn run(args: &Args) -> ExitCode {
    let plan = match super::plan(&args.file) {
        Ok(plan) => plan,
        Err(problems) => return super::bad_configuration(&problems),
    };
    let printed = super::print(&report(&args.file.config.display().to_string(), &plan));
    if args.online { online(&plan) } else { printed }
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
    text.push_str(&table(plan));
    text
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// The routes as they are applied: the more specific before the less.
fn table(plan: &Plan) -> String {
    let mut rows = vec![["HOST", "PATH", "METHODS", "ACCESS", "UPSTREAM", "NAME"].map(str::to_owned)];
    for index in plan.table.by_precedence() {
        rows.push(row(&plan.routes[index]));
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

fn row(settings: &RouteSettings) -> [String; 6] {
    let pattern = &settings.pattern;
    let host = pattern.host.as_ref().map_or("any".to_owned(), ToString::to_string);
    let methods = pattern.methods.iter().map(http::Method::as_str).collect::<Vec<_>>().join(",");
    let methods = if methods.is_empty() { "all".to_owned() } else { methods };
    [
        host,
        pattern.path.to_string(),
        methods,
        access(settings),
        settings.upstream.to_string(),
        settings.name.to_string(),
    ]
}

/// Who may use a route, in a few words.
fn access(settings: &RouteSettings) -> String {
    let mut words = vec![
        match &settings.access {
            Access::Public => "public",
            Access::Optional => "token optional",
            Access::Token(_) => "token",
        }
        .to_owned(),
    ];
    words.extend(settings.access.demands().iter().map(ToString::to_string));
    if let Some(issuers) = &settings.issuers {
        words.push(format!("issuers {}", issuers.join(" ")));
    }
    if !settings.limits.is_empty() {
        words.push(format!("limits {}", settings.limits.join(" ")));
    }
    if settings.report_only {
        words.push("REPORT ONLY".to_owned());
    }
    words.join(", ")
}

/// Asks every issuer and server that the gateway would depend on.
fn online(plan: &Plan) -> ExitCode {
    let metrics = Metrics::new(Clock::system());
    let runtime = match Adopter::new(metrics, Clock::system(), AccessLog::off()).adopt(plan, None) {
        Ok(runtime) => runtime,
        Err(error) => return super::failed(&error.into()),
    };
    let (sender, answers) = std::sync::mpsc::channel();
    block_on_local(async move {
        let mut verifiers: Vec<_> = runtime.issuers().iter().collect();
        verifiers.sort_by_key(|verifier| Arc::clone(&verifier.settings().name));
        for verifier in verifiers {
            let outcome = verifier.keys().fetch_once().await;
            let name = &verifier.settings().name;
            let line = match outcome {
                Ok(()) => Ok(format!("issuer {name}: ok, {} usable", count(verifier.keys().status().keys, "key"))),
                Err(error) => Err(format!("issuer {name}: {error}")),
            };
            let _ = sender.send(line);
        }
        for upstream in runtime.upstreams() {
            for server in upstream.servers() {
                let address = server.address();
                let shown = address.authority.to_str().unwrap_or_default();
                let dial = TcpStream::connect((address.host.as_str(), address.port));
                let line = match timeout(upstream.settings().connect_timeout, dial).await {
                    Ok(Ok(_)) => Ok(format!("upstream {} {shown}: ok", upstream.name())),
                    Ok(Err(error)) => Err(format!("upstream {} {shown}: {error}", upstream.name())),
                    Err(_) => {
                        Err(format!("upstream {} {shown}: no connection within connect_timeout", upstream.name()))
                    }
                };
                let _ = sender.send(line);
            }
        }
    });
    let mut text = "\n".to_owned();
    let mut failures = 0;
    for answer in answers {
        match answer {
            Ok(line) => text.push_str(&line),
            Err(line) => {
                failures += 1;
                text.push_str("FAILED  ");
                text.push_str(&line);
            }
        }
        text.push('\n');
    }
    super::print(&text);
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}
