//! The command line: one file for each command.
//!
//! Results go to stdout, errors to stderr. Exit codes: 0 done, 1 the asked thing failed, 64 wrong usage, 78 bad configuration.

mod check;
mod completions;
mod crypto;
pub mod demo;
mod explain;
mod health;
mod run;
mod schema;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::app::{Environment, StartError};
use crate::config::{self, Problems};
use crate::plan::Plan;

/// `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;
/// `EX_CONFIG` of sysexits.h.
const CONFIG: u8 = 78;
/// The asked thing failed.
const FAILED: u8 = 1;

/// OIDC resource-server gateway: verifies access tokens, enforces each route's rules, forwards with identity headers.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, about, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve; SIGHUP or a changed file reloads, SIGTERM drains
    Run(run::Args),
    /// Validate the configuration and print the route table as it will be applied
    Check(check::Args),
    /// Say, step by step, what would become of a request, and which line of the configuration decided
    Explain(explain::Args),
    /// Run the whole thing in one process: a local issuer, a sample upstream, the gateway; print commands to paste
    Demo(demo::Args),
    /// Print the JSON Schema of gateway.toml, for editors
    Schema,
    /// Exit 0 if a running gateway is ready: for container health checks
    Health(health::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
struct ConfigFile {
    /// Configuration file
    #[arg(short, long, default_value = "gateway.toml", value_name = "FILE")]
    config: PathBuf,
}

/// Runs the command that the arguments ask for.
#[must_use]
pub fn main() -> ExitCode {
    crypto::install();
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Run(args) => run::run(args),
            Command::Check(args) => check::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Schema => schema::run(),
            Command::Health(args) => health::run(&args),
            Command::Completions(args) => completions::run(&args),
        },
        Err(error) => {
            // What cannot be printed has no reader.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            }
        }
    }
}

/// The process's own environment.
fn environment() -> Environment {
    Arc::new(|name| std::env::var(name).ok())
}

/// Reads and compiles the configuration.
fn plan(file: &ConfigFile) -> Result<Plan, Problems> {
    Plan::compile(config::load(&file.config, &*environment()))
}

/// Prints what went wrong and gives the exit code for it.
#[expect(clippy::print_stderr, reason = "the command's report")]
fn failed(error: &StartError) -> ExitCode {
    match error {
        StartError::Problems(problems) => bad_configuration(problems),
        StartError::Adopt(_) => {
            eprintln!("error: {error}");
            ExitCode::from(CONFIG)
        }
        StartError::Bind(_) | StartError::Stopping | StartError::NeedsRestart(_) | StartError::Thread(_) => {
            eprintln!("error: {error}");
            ExitCode::from(FAILED)
        }
    }
}

#[expect(clippy::print_stderr, reason = "the command's report")]
fn bad_configuration(problems: &Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(CONFIG)
}

/// Writes a result; a reader that has closed the pipe has seen enough.
fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
    ExitCode::SUCCESS
}
