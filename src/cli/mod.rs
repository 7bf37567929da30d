//! The command line: one file for each command.
//!
//! Results go to standard output, errors to standard error. Exit codes: 0 success, 1 failure, 64
//! usage error, 78 invalid configuration.

mod check;
mod completions;
mod crypto;
pub mod demo;
mod explain;
mod health;
mod man;
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
use crate::plan::adopt::AdoptError;
use crate::telemetry::logging;

/// Exit code for a usage error: `EX_USAGE` of sysexits.h.
const USAGE: u8 = 64;
/// Exit code for an invalid configuration: `EX_CONFIG` of sysexits.h.
const CONFIG: u8 = 78;
/// Exit code for every other failure.
const FAILED: u8 = 1;

/// OIDC resource-server gateway: verifies access tokens, checks each request against the rules of
/// its route, and forwards it with identity headers
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway; SIGHUP or a changed file reloads the configuration, SIGTERM drains
    Run(run::Args),
    /// Validate the configuration and print the route table
    Check(check::Args),
    /// Show, step by step, how a request would be decided, and by which line of the configuration
    Explain(explain::Args),
    /// Run a local issuer, a sample upstream and the gateway in one process; print commands to try
    Demo(demo::Args),
    /// Print the JSON Schema of gateway.toml, for editors
    Schema,
    /// Exit with 0 if a running gateway is ready, for container health checks
    Health(health::Args),
    /// Print a completion script for a shell
    Completions(completions::Args),
    /// Print a manual page, in the format of man(7)
    Man(man::Args),
}

/// The option for the configuration file.
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
    let code = run_command();
    // Events are written by a thread of its own, which ends with the process.
    logging::flush();
    code
}

fn run_command() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => match cli.command {
            Command::Run(args) => run::run(args),
            Command::Check(args) => check::run(&args),
            Command::Explain(args) => explain::run(&args),
            Command::Demo(args) => demo::run(&args),
            Command::Schema => schema::run(),
            Command::Health(args) => health::run(&args),
            Command::Completions(args) => completions::run(&args),
            Command::Man(args) => man::run(&args),
        },
        Err(error) => {
            // If the message cannot be printed, the exit code still reports the error.
            let _ = error.print();
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(USAGE),
            }
        }
    }
}

/// The environment variables of the process.
fn environment() -> Environment {
    Arc::new(|name| std::env::var(name).ok())
}

/// Reads and compiles the configuration.
fn load_plan(file: &ConfigFile) -> Result<Plan, Problems> {
    Plan::compile(config::load(&file.config, &*environment()))
}

/// Prints the error and returns its exit code.
#[expect(clippy::print_stderr, reason = "the command's report")]
fn failed(error: &StartError) -> ExitCode {
    match error {
        StartError::Problems(problems) => report_problems(problems),
        StartError::Adopt(AdoptError::Tls(problems)) => report_problems(problems.as_ref()),
        StartError::Adopt(AdoptError::Issuer { .. }) | StartError::NotAnswering(_) => {
            eprintln!("error: {error}");
            ExitCode::from(CONFIG)
        }
        StartError::Bind(_)
        | StartError::SocketActivation(_)
        | StartError::Takeover(_)
        | StartError::FileDescriptors(_)
        | StartError::Stopping
        | StartError::NeedsRestart(_)
        | StartError::Thread(_)
        | StartError::Unsettled => {
            eprintln!("error: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Prints the problems of a configuration and returns the exit code for them.
#[expect(clippy::print_stderr, reason = "the command's report")]
fn report_problems(problems: &Problems) -> ExitCode {
    eprintln!("{problems}");
    ExitCode::from(CONFIG)
}

/// Prints a result. Ignores write errors: a reader that closes the pipe early, such as `head`, is
/// not a failure of the command.
fn print(text: &str) -> ExitCode {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
    ExitCode::SUCCESS
}
