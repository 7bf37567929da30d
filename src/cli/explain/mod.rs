//! `portcullis explain`: shows how a request would be decided, check by check, with the line of the
//! configuration behind each check.
//!
//! The decision is made by [`decide`], the same function that decides real requests. The command
//! sends nothing to an upstream. To verify a token, it fetches the issuers' keys.

mod steps;

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version, header};
use serde_json::{Map, Value};
use url::Url;

use super::{ConfigFile, FAILED, USAGE};
use crate::app::block_on_local;
use crate::gateway::decide::{Admitted, Credentials, Decision, decide};
use crate::gateway::observer::{Check, Observer as _, Stage};
use crate::gateway::request::RequestHead;
use crate::gateway::response::refusal::Refusal;
use crate::gateway::stages::forward;
use crate::gateway::tls_peer::PresentedCertificate;
use crate::gateway::{Peer, ResponseContext, Runtime, TlsPeer};
use crate::plan::adopt::Adopter;
use crate::plan::{Plan, ServerPlan};
use crate::primitives::clock::{Clock, WallTime};
use crate::primitives::grpc;
use crate::primitives::listen_address::ListenerService;
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::tls::client_certificate::ClientCertificate;
use crate::tls::files;
use steps::{Explanation, Trace};

/// Largest token or claims file, in bytes.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
    /// Method of the request
    method: String,
    /// URL of the request; a path alone matches only routes for any host
    url: String,
    /// Access token of the request
    #[arg(long, conflicts_with_all = ["token_file", "claims"])]
    token: Option<String>,
    /// File that contains the access token
    #[arg(long, conflicts_with = "claims", value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// JSON file with claims to use as those of a valid token
    #[arg(long, value_name = "FILE")]
    claims: Option<PathBuf>,
    /// PEM file with the client's certificate, which is assumed to be verified
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// `Origin` header of the request, for CORS
    #[arg(long)]
    origin: Option<String>,
    /// Explain a gRPC call, which is a `POST` over HTTP/2 and is refused with a status of gRPC
    #[arg(long)]
    grpc: bool,
    /// Print the steps as JSON
    #[arg(long)]
    json: bool,
}

/// The host of a request whose URL is a path. No route is for this host: RFC 6761 reserves
/// `.invalid`.
const UNNAMED_HOST: &str = "unnamed.invalid";

/// The address of the client. RFC 5737 reserves it for documentation, so it is not a trusted proxy.
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

/// The request to explain.
struct ExplainedRequest {
    head: RequestHead,
    /// Claims to use as those of a valid token, in place of a token.
    assumed_claims: Option<Map<String, Value>>,
    /// The certificate that the client presents.
    certificate: Option<ClientCertificate>,
    /// Whether the URL begins with `http:`. A path alone comes over TLS if the gateway speaks it.
    is_plain: bool,
}

#[expect(clippy::print_stderr, reason = "the command's report")]
pub(super) fn run(args: &Args) -> ExitCode {
    let plan = match super::load_plan(&args.file) {
        Ok(plan) => plan,
        Err(problems) => return super::report_problems(&problems),
    };
    let request = match build_request(args) {
        Ok(request) => request,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let metrics = Metrics::new(Clock::system());
    // No connection is made, so the private keys of `[server.tls]` need not be readable here.
    let without_tls = Plan { server: ServerPlan { tls: None, ..plan.server.clone() }, ..plan.clone() };
    let adopter = Adopter::new(metrics, Clock::system(), AccessLog::off());
    let runtime: Arc<Runtime> = match adopter.adopt(&without_tls, None) {
        Ok(runtime) => runtime,
        Err(error) => return super::failed(&error.into()),
    };
    let (sender, explanations) = std::sync::mpsc::channel();
    let file = args.file.config.display().to_string();
    block_on_local(async move {
        let _ = sender.send(explain(request, &plan, &runtime, &file).await);
    });
    let Ok(explanation) = explanations.recv() else { return ExitCode::from(FAILED) };
    super::print(&if args.json { explanation.to_json() } else { explanation.to_text() });
    if explanation.is_allowed() { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

async fn explain(request: ExplainedRequest, plan: &Plan, runtime: &Arc<Runtime>, file: &str) -> Explanation {
    let ExplainedRequest { head, assumed_claims, certificate, is_plain } = request;
    if head.headers.contains_key(header::AUTHORIZATION) {
        for verifier in runtime.issuers().iter() {
            // A failed fetch is not an error here. If the token is from this issuer, the decision
            // says that its keys are not available.
            let _ = verifier.keys().fetch_once().await;
        }
    }
    let is_grpc_call = head.is_grpc_call();
    let credentials = assumed_claims.as_ref().map_or(Credentials::FromRequest, Credentials::Assumed);
    let has_certificate = certificate.is_some();
    let has_plain_listener = plan.server.listeners.iter().any(|listener| listener.service == ListenerService::Plain);
    let peer = match plan.server.tls {
        Some(_) if is_plain && has_plain_listener => Peer::new(CLIENT.into(), "http"),
        // The connection is for the host of the request.
        Some(_) => Peer::with_tls(CLIENT.into(), Rc::new(TlsPeer::new(None, certificate, None, WallTime::default()))),
        None => Peer::new(CLIENT.into(), "http"),
    };
    let mut response = ResponseContext::new(runtime, &head, &peer);
    let mut trace = Trace::new(plan.key_lines.clone());
    if head.headers.get(header::HOST).is_some_and(|host| host == UNNAMED_HOST) {
        trace.check(|| Check::noted("host", "none given; only routes for any host can match"));
    }
    if has_certificate {
        trace.check(|| Check::noted("cert", "that of `--client-cert`, without a look at `client_ca` and `client_crl`"));
    }
    let decision = decide(head, credentials, &peer, runtime, &mut response, &mut trace).await;
    let outcome = decision.and_then(|decision| match decision {
        Decision::Admitted(admitted) => describe_forwarding(&admitted, runtime, &mut trace),
        Decision::Preflight(response) | Decision::Redirect(response) => {
            trace.check(|| {
                Check::passed("preflight", format!("the gateway responds with {}", response.status().as_u16()))
            });
            Ok(())
        }
    });
    trace.finish(file, outcome.err(), is_grpc_call)
}

/// Describes what the upstream would receive: the target and the identity headers.
fn describe_forwarding(admitted: &Admitted, runtime: &Runtime, trace: &mut Trace) -> Result<(), Refusal> {
    trace.enter(Stage::Forward);
    let permit = admitted.permit();
    let route = permit.routed().route();
    let target = forward::build_target(permit.routed().request(), route)?;
    let upstream = &route.settings().upstream;
    trace.check(|| {
        Check::noted("forward", format!("to {upstream} as {target}")).with_key(format!("upstreams.{upstream}"))
    });
    let caller = permit.caller();
    describe_headers(caller.headers(), caller.omitted_headers(), trace);
    if let PresentedCertificate::Valid(peer) = &permit.routed().request().certificate {
        let rendered = peer.identity(runtime.identity(), runtime.callers().metrics());
        describe_headers(&rendered.headers, rendered.omitted.as_deref(), trace);
    }
    Ok(())
}

fn describe_headers(headers: &[(HeaderName, HeaderValue)], omitted: Option<&str>, trace: &mut Trace) {
    for (name, value) in headers {
        trace.check(|| Check::noted("header", format!("{name}: {}", value.to_str().unwrap_or_default())));
    }
    if let Some(names) = omitted {
        trace.check(|| {
            Check::noted("header", format!("{names}: omitted, the value is too long"))
                .with_key("identity.max_value_size")
        });
    }
}

fn build_request(args: &Args) -> Result<ExplainedRequest, String> {
    let method =
        Method::from_bytes(args.method.as_bytes()).map_err(|_| format!("{:?} is not a method", args.method))?;
    if args.grpc && method != Method::POST {
        return Err(format!("a gRPC call has the method POST, not {method}"));
    }
    let (host, target) = split_url(&args.url)?;
    let target = Uri::try_from(target).map_err(|error| format!("{target:?} is not a request target: {error}"))?;
    let mut headers = HeaderMap::new();
    let host = HeaderValue::try_from(&host).map_err(|_| format!("{host:?} is not a host"))?;
    headers.insert(header::HOST, host);
    if args.grpc {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(grpc::CONTENT_TYPE));
    }
    if let Some(origin) = &args.origin {
        let value = HeaderValue::from_str(origin).map_err(|_| format!("{origin:?} is not an origin"))?;
        headers.insert(header::ORIGIN, value);
    }
    if let Some(token) = read_token(args)? {
        let value = HeaderValue::try_from(format!("Bearer {}", token.trim()));
        headers.insert(
            header::AUTHORIZATION,
            value.map_err(|_| "the token contains a character that is not allowed in a header")?,
        );
    }
    let version = if args.grpc { Version::HTTP_2 } else { Version::HTTP_11 };
    let head = RequestHead { method, target, version, headers, can_upgrade: false };
    let is_plain = args.url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http:"));
    let (assumed_claims, certificate) = (read_claims(args)?, read_certificate(args)?);
    Ok(ExplainedRequest { head, assumed_claims, certificate, is_plain })
}

/// Splits a URL, or a path alone, into host and request target. Takes the target from the text,
/// because a URL parser would resolve dot segments that the gateway refuses.
fn split_url(text: &str) -> Result<(String, &str), String> {
    let text = text.split('#').next().unwrap_or_default();
    if text.starts_with('/') {
        return Ok((UNNAMED_HOST.to_owned(), text));
    }
    let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    let host = url.host_str().ok_or_else(|| format!("{text:?} has no host"))?;
    let host = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let authority = text.split("://").nth(1).unwrap_or_default();
    let target = authority.find(['/', '?']).map_or("/", |at| &authority[at..]);
    Ok((host, target))
}

fn read_token(args: &Args) -> Result<Option<String>, String> {
    match (&args.token, &args.token_file) {
        (Some(token), _) => Ok(Some(token.clone())),
        (None, Some(file)) => read_file(file).map(Some),
        (None, None) => Ok(None),
    }
}

fn read_claims(args: &Args) -> Result<Option<Map<String, Value>>, String> {
    let Some(file) = &args.claims else { return Ok(None) };
    match serde_json::from_str(&read_file(file)?) {
        Ok(Value::Object(claims)) => Ok(Some(claims)),
        Ok(_) => Err(format!("{}: expected a JSON object with claims", file.display())),
        Err(error) => Err(format!("{}: {error}", file.display())),
    }
}

fn read_certificate(args: &Args) -> Result<Option<ClientCertificate>, String> {
    let Some(file) = &args.client_cert else { return Ok(None) };
    let text = read_file(file)?;
    let chain = files::certificates(file, text.as_bytes()).map_err(|error| error.to_string())?;
    ClientCertificate::read(chain).map(Some).map_err(|error| format!("{}: {error}", file.display()))
}

fn read_file(file: &PathBuf) -> Result<String, String> {
    use std::io::Read as _;
    let mut text = String::new();
    let length = std::fs::File::open(file)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    if length as u64 > MAX_FILE_BYTES {
        return Err(format!("{}: larger than the limit of {} MiB", file.display(), MAX_FILE_BYTES >> 20));
    }
    Ok(text)
}
