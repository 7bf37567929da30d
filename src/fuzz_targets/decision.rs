//! The decision on a request.

use std::cell::OnceCell;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::{Method, Uri, Version, header};
use percent_encoding::percent_decode_str;

use super::headers;
use crate::config;
use crate::gateway::decide::{Caller, Credentials, Decision, decide};
use crate::gateway::observer::NoObserver;
use crate::gateway::policy::Access;
use crate::gateway::request::RequestHead;
use crate::gateway::stages::forward::build_target;
use crate::gateway::{Peer, ResponseContext, Runtime};
use crate::plan::Plan;
use crate::plan::adopt::Adopter;
use crate::primitives::clock::Clock;
use crate::telemetry::AccessLog;
use crate::telemetry::metrics::Metrics;

/// Everything is public except what is below `/admin`, the hardest case: whatever is not understood
/// as a path below `/admin` is public.
const CONFIG: &str = r#"
[server]
trusted_proxies = ["127.0.0.0/8"]
[issuers.main]
issuer = "https://idp.example"
audiences = ["api"]
jwks_file = "${KEYS}"
[upstreams.a]
servers = ["http://127.0.0.1:9"]
[cors.shop]
origins = ["https://shop.example"]
[[routes]]
path = "/*"
access = "public"
upstream = "a"
cors = "shop"
[[routes]]
path = "/optional/*"
access = "optional"
upstream = "a"
[[routes]]
path = "/admin/*"
upstream = "a"
"#;

/// The example key of RFC 7517 A.1. No token is signed with it.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig", "alg": "ES256",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// No request has a valid token, so none reaches a route that needs one, whatever its head says and
/// however a backend reads the path, and the headers that are forwarded name no identity.
pub fn decision(input: &[u8]) {
    let Some(head) = request_head(input) else { return };
    let runtime = runtime();
    let peer = Peer::new(CLIENT.into(), "http");
    let mut response = ResponseContext::new(&runtime, &head, &peer);
    let decided = poll_once(decide(head, Credentials::FromRequest, &peer, &runtime, &mut response, &mut NoObserver));
    let Ok(Decision::Admitted(admitted)) = decided else { return };
    let permit = admitted.permit();
    let (request, route) = (permit.routed().request(), permit.routed().route());
    match route.settings().access {
        Access::Public | Access::Optional => {}
        Access::Token(_) => panic!("{input:?} is admitted without a valid token"),
    }
    assert!(matches!(permit.caller(), Caller::Anonymous), "{input:?} has an identity");
    for name in request.headers.keys() {
        let folded = name.as_str().replace(['_', '.'], "-");
        assert!(!folded.starts_with("x-identity-"), "{input:?}: {name} goes on");
    }
    if let Ok(target) = build_target(request, route) {
        let path = target.path();
        for read in readings(path) {
            assert!(!is_admin(&read), "{input:?}: a backend that receives {path:?} may read {read:?}");
        }
    }
}

/// A head of a method and a target in the first line, and header lines.
fn request_head(input: &[u8]) -> Option<RequestHead> {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let (line, lines) = input.split_at(end);
    let space = line.iter().position(|byte| *byte == b' ')?;
    let method = Method::from_bytes(&line[..space]).ok()?;
    let target = Uri::try_from(&line[space + 1..]).ok()?;
    let mut headers = headers(lines);
    headers.entry(header::HOST).or_insert(header::HeaderValue::from_static("api.example"));
    Some(RequestHead { method, target, version: Version::HTTP_11, headers, can_upgrade: true })
}

fn runtime() -> Arc<Runtime> {
    thread_local! {
        static RUNTIME: OnceCell<Arc<Runtime>> = const { OnceCell::new() };
    }
    RUNTIME.with(|runtime| Arc::clone(runtime.get_or_init(new_runtime)))
}

fn new_runtime() -> Arc<Runtime> {
    let keys = std::env::temp_dir().join(format!("portcullis-fuzz-{}.json", std::process::id()));
    std::fs::write(&keys, KEYS).expect("the folder for temporary files can be written to");
    let environment = |name: &str| (name == "KEYS").then(|| keys.display().to_string());
    let plan = Plan::compile(config::load_text("fuzz", CONFIG, &environment)).expect("a valid configuration");
    let adopter = Adopter::new(Metrics::new(Clock::system()), Clock::system(), AccessLog::off());
    let runtime = adopter.adopt(&plan, None).unwrap_or_else(|error| panic!("the plan can be adopted: {error}"));
    // The keys have been read.
    let _ = std::fs::remove_file(keys);
    runtime
}

/// The result of a future that does not wait: there are no keys that a decision could fetch.
fn poll_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the decision waits"),
    }
}

/// How backends may read a path: decoded or not, cut off at `?`, `#` and `;` or not, slashes merged
/// or not, dot segments resolved.
fn readings(path: &str) -> Vec<String> {
    let once = percent_decode_str(path).decode_utf8_lossy().into_owned();
    let mut readings = vec![path.to_owned(), once];
    for end in [&['?', '#'][..], &[';']] {
        let cut: Vec<String> =
            readings.iter().map(|path| path.split(end).next().unwrap_or_default().to_owned()).collect();
        readings.extend(cut);
    }
    let resolved: Vec<String> = readings.iter().map(|path| resolve(path)).collect();
    readings.extend(resolved);
    readings
}

/// Without empty and dot segments.
fn resolve(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn is_admin(path: &str) -> bool {
    path == "/admin" || path.starts_with("/admin/")
}
