//! `portcullis explain`: how a request would be decided, check by check, and which line of the
//! configuration decided.
//!
//! Asks the same judge as the data path. Nothing is sent anywhere, except to the issuers for their keys
//! when a real token is to be verified.

mod steps;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Uri, Version, header};
use serde_json::{Map, Value};
use url::Url;

use super::{ConfigFile, FAILED, USAGE};
use crate::app::block_on_local;
use crate::gateway::decide::{Admitted, Decision, decide};
use crate::gateway::observer::{Check, Observer as _, Stage};
use crate::gateway::request::RequestHead;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::stages::forward;
use crate::gateway::{Peer, ResponseContext, Runtime};
use crate::plan::Plan;
use crate::plan::adopt::Adopter;
use crate::primitives::clock::Clock;
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::Metrics;
use steps::{Explanation, Trace};

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

/// A host that no configuration names (RFC 6761 reserves the suffix).
const NO_HOST: &str = "unnamed.invalid";

/// The client of the request: an address of no network (RFC 5737), so that it is no trusted proxy.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// What is asked about.
struct Question {
    head: RequestHead,
    /// Claims that are taken as those of a verified token.
    claims: Option<Map<String, Value>>,
}

#[expect(clippy::print_stderr, reason = "the command's report")]
pub(super) fn run(args: &Args) -> ExitCode {
    let plan = match super::plan(&args.file) {
        Ok(plan) => plan,
        Err(problems) => return super::bad_configuration(&problems),
    };
    let question = match question(args) {
        Ok(question) => question,
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
        let _ = sender.send(explain(question, &plan, &runtime, &file).await);
    });
    let Ok(explanation) = explained.recv() else { return ExitCode::from(FAILED) };
    super::print(&if args.json { explanation.to_json() } else { explanation.to_text() });
    if explanation.is_allowed() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

async fn explain(question: Question, plan: &Plan, runtime: &Arc<Runtime>, file: &str) -> Explanation {
    let Question { head, claims } = question;
    if head.headers.contains_key(header::AUTHORIZATION) {
        for verifier in runtime.issuers().iter() {
            // An issuer whose keys cannot be fetched shows as such, if the token is one of its.
            let _ = verifier.keys().fetch_once().await;
        }
    }
    let peer = Peer::new(CLIENT, "http");
    let mut response = ResponseContext::new(runtime, &head.method, head.target.path(), head.version, &peer);
    let mut trace = Trace::new(plan.key_lines.clone(), claims);
    let decided = decide(head, &peer, runtime, &mut response, &mut trace).await;
    let forwarded = decided.and_then(|decision| match decision {
        Decision::Admitted(admitted) => describe_forwarding(&admitted, &mut trace),
        Decision::Preflight(response) => {
            trace.check(|| Check::passed("preflight", format!("answered with {}", response.status().as_u16())));
            Ok(())
        }
    });
    trace.finish(file, forwarded.err())
}

/// What the upstream would get.
fn describe_forwarding(admitted: &Admitted, trace: &mut Trace) -> Result<(), Refusal> {
    trace.enter(Stage::Forward);
    let permit = admitted.permit();
    let route = permit.routed().route();
    let target = forward::target(permit.routed().request(), route)?;
    let upstream = &route.settings().upstream;
    trace.check(|| Check::noted("forward", format!("to {upstream} as {target}")).by(format!("upstreams.{upstream}")));
    for (name, value) in permit.caller().headers() {
        trace.check(|| Check::noted("header", format!("{name}: {}", value.to_str().unwrap_or_default())));
    }
    Ok(())
}

fn question(args: &Args) -> Result<Question, String> {
    let method =
        Method::from_bytes(args.method.as_bytes()).map_err(|_| format!("{:?} is not a method", args.method))?;
    let (host, target) = split_url(&args.url)?;
    let target = Uri::try_from(target).map_err(|error| format!("{target:?} is not a request target: {error}"))?;
    let mut headers = HeaderMap::new();
    let host = HeaderValue::try_from(&host).map_err(|_| format!("{host:?} is not a host"))?;
    headers.insert(header::HOST, host);
    if let Some(origin) = &args.origin {
        let value = HeaderValue::from_str(origin).map_err(|_| format!("{origin:?} is not an origin"))?;
        headers.insert(header::ORIGIN, value);
    }
    if let Some(token) = token(args)? {
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        headers.insert(header::AUTHORIZATION, value.map_err(|_| "the token has a character that no header can hold")?);
    }
    let head = RequestHead { method, target, version: Version::HTTP_11, headers, can_upgrade: false };
    Ok(Question { head, claims: claims(args)? })
}

/// Host and request target of a URL, or of a path alone. From the text: a URL parser would resolve dot
/// segments before the gateway could judge them.
fn split_url(text: &str) -> Result<(String, &str), String> {
    let text = text.split('#').next().unwrap_or_default();
    if text.starts_with('/') {
        return Ok((NO_HOST.to_owned(), text));
    }
    let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    let host = url.host_str().ok_or_else(|| format!("{text:?} has no host"))?;
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let authority = text.split("://").nth(1).unwrap_or_default();
    let target = authority.find(['/', '?']).map_or("/", |at| &authority[at..]);
    Ok((host, target))
}

fn token(args: &Args) -> Result<Option<String>, String> {
    match (&args.token, &args.token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(file)) => read(file).map(Some),
        (None, None) => Ok(None),
    }
}

fn claims(args: &Args) -> Result<Option<Map<String, Value>>, String> {
    let Some(file) = &args.claims else { return Ok(None) };
    match serde_json::from_str(&read(file)?) {
        Ok(Value::Object(claims)) => Ok(Some(claims)),
        Ok(_) => Err(format!("{}: claims are a JSON object", file.display())),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

fn read(file: &PathBuf) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    std::fs::File::open(file)
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(text)
}
