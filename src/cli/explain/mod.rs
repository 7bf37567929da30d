//! `portcullis explain`: what would become of a request, step by step, and which line of the configuration decided.
//!
//! The steps are judged by the same functions that judge requests; nothing is sent anywhere, but for the issuer's keys when a real token is to
//! be verified.

mod steps;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, header};
use url::Url;

use super::{ConfigFile, FAILED, USAGE};
use crate::app::block_on_local;
use crate::gateway::Runtime;
use crate::plan::adopt::Adopter;
use crate::primitives::clock::Clock;
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::Metrics;
use steps::{Explanation, Inquiry, Who};

/// Longest token or claims file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// The request's method
    method: String,
    /// The request's URL; a path alone stands for any host
    url: String,
    /// The access token, as the client would send it
    #[arg(long, conflicts_with_all = ["token_file", "claims"])]
    token: Option<String>,
    /// A file with the access token
    #[arg(long, conflicts_with = "claims", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// A JSON file with the claims of a token that is taken as verified
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// The page's origin, for CORS
    #[arg(long)]
    origin: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[expect(clippy::print_stderr, reason = "the command's report")]
pub(super) fn run(args: &Args) -> ExitCode {
    let plan = match super::plan(&args.file) {
        Ok(plan) => plan,
        Err(problems) => return super::bad_configuration(&problems),
    };
    let inquiry = match inquiry(args) {
        Ok(inquiry) => inquiry,
        Err(what) => {
            eprintln!("error: {what}");
            return ExitCode::from(USAGE);
        }
    };
    let metrics = Metrics::new(Clock::system());
    let runtime: Arc<Runtime> = match Adopter::new(metrics, Clock::system(), AccessLog::off()).adopt(&plan, None) {
        Ok(runtime) => runtime,
        Err(error) => return super::failed(&error.into()),
    };
    let (sender, explained) = std::sync::mpsc::channel();
    let file = args.file.config.display().to_string();
    block_on_local(async move {
        let explanation = Explanation::of(&inquiry, &plan, &file, &runtime).await;
        let _ = sender.send(explanation);
    });
    let Ok(explanation) = explained.recv() else { return ExitCode::from(FAILED) };
    super::print(&if args.json { explanation.to_json() } else { explanation.to_text() });
    if explanation.is_allowed() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn inquiry(args: &Args) -> Result<Inquiry, String> {
    let method =
        Method::from_bytes(args.method.as_bytes()).map_err(|_| format!("{:?} is not a method", args.method))?;
    let (host, path) = if args.url.starts_with('/') {
        (None, target_of(&args.url))
    } else {
        let url = Url::parse(&args.url).map_err(|error| format!("{:?} is not a URL: {error}", args.url))?;
        let authority = args.url.split("://").nth(1).unwrap_or_default();
        // From the text: a URL parser would resolve dot segments, which is exactly what must not happen before the path is judged.
        let path = authority.find(['/', '?']).map_or("/", |at| &authority[at..]);
        let host = url.host_str().ok_or_else(|| format!("{:?} has no host", args.url))?;
        let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        (Some(host), target_of(path))
    };
    let mut headers = HeaderMap::new();
    if let Some(origin) = &args.origin {
        let value = HeaderValue::from_str(origin).map_err(|_| format!("{origin:?} is not an origin"))?;
        headers.insert(header::ORIGIN, value);
    }
    Ok(Inquiry { method, host, path, headers, who: who(args)? })
}

fn target_of(text: &str) -> String {
    let path = text.split(['?', '#']).next().unwrap_or_default();
    if path.is_empty() { "/".to_owned() } else { path.to_owned() }
}

fn who(args: &Args) -> Result<Who, String> {
    if let Some(token) = &args.token {
        return Ok(Who::Token(token.trim().to_owned()));
    }
    if let Some(file) = &args.token_file {
        return Ok(Who::Token(read(file)?.trim().to_owned()));
    }
    if let Some(file) = &args.claims {
        let claims = serde_json::from_str(&read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
        return match claims {
            serde_json::Value::Object(claims) => Ok(Who::Claims(claims)),
            _ => Err(format!("{}: claims are a JSON object", file.display())),
        };
    }
    Ok(Who::Nobody)
}

fn read(file: &PathBuf) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text)
}
