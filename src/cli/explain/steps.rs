//! The steps of a decision, in the order in which a request takes them.

use std::fmt::Write as _;
use std::sync::Arc;

use http::{HeaderMap, Method};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::gateway::matching::host::Host;
use crate::gateway::matching::path::{NormalPath, PathParameters};
use crate::gateway::response::refusal::{Malformed, Refusal, TokenFault};
use crate::gateway::stages::authenticate::{bearer, refusal_of};
use crate::gateway::stages::authorize::Requirements;
use crate::gateway::stages::cors::Grant;
use crate::gateway::stages::forward::rewritten;
use crate::gateway::stages::routing::{Access, find};
use crate::gateway::{Route, Runtime};
use crate::plan::Plan;
use crate::token::{Principal, RawToken, VerifyError};

/// What is asked about.
#[derive(Debug)]
pub(super) struct Inquiry {
    pub(super) method: Method,
    /// `None`: a host that no route names.
    pub(super) host: Option<String>,
    pub(super) path: String,
    /// Only what the request is judged by.
    pub(super) headers: HeaderMap,
    pub(super) who: Who,
}

/// Who is calling.
#[derive(Debug)]
pub(super) enum Who {
    /// The bearer of a token that is taken as verified.
    Claims(Map<String, Value>),
    /// No token.
    Nobody,
    /// The bearer of this token.
    Token(String),
}

/// One step.
#[derive(Debug, Serialize)]
struct Step {
    #[serde(rename = "step")]
    stage: &'static str,
    result: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

/// All steps, and the decision.
#[derive(Debug)]
pub(super) struct Explanation {
    file: String,
    steps: Vec<Step>,
    refusal: Option<Refusal>,
}

const PASS: &str = "pass";
const FAIL: &str = "fail";
const NOTE: &str = "note";

/// A host that no configuration names (RFC 6761 reserves the suffix).
const NO_HOST: &str = "unnamed.invalid";

impl Explanation {
    /// Follows the request.
    pub(super) async fn of(inquiry: &Inquiry, plan: &Plan, file: &str, runtime: &Runtime) -> Self {
        let mut walk = Walk { plan, steps: Vec::new() };
        let refusal = walk.all(inquiry, runtime).await.err();
        Self { file: file.to_owned(), steps: walk.steps, refusal }
    }

    pub(super) fn is_allowed(&self) -> bool {
        self.refusal.is_none()
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let result = if step.result == FAIL { "FAIL" } else { step.result };
            let _ = write!(text, "{result:5} {:10} {}", step.stage, step.detail);
            if let Some(key) = &step.key {
                let place = step.line.map_or_else(|| self.file.clone(), |line| format!("{}:{line}", self.file));
                let _ = write!(text, "  [{place} {key}]");
            }
            text.push('\n');
        }
        match &self.refusal {
            None => text.push_str("\nallowed\n"),
            Some(refusal) => {
                let _ = write!(text, "\nrefused: {} {}", refusal.status().as_u16(), refusal.code());
                if refusal.reason() != refusal.code() {
                    let _ = write!(text, " ({})", refusal.reason());
                }
                text.push('\n');
            }
        }
        text
    }

    pub(super) fn to_json(&self) -> String {
        let document = serde_json::json!({
            "allowed": self.is_allowed(),
            "status": self.refusal.as_ref().map(|refusal| refusal.status().as_u16()),
            "code": self.refusal.as_ref().map(Refusal::code),
            "reason": self.refusal.as_ref().map(Refusal::reason),
            "file": self.file,
            "steps": self.steps,
        });
        format!("{document:#}\n")
    }
}

struct Walk<'a> {
    plan: &'a Plan,
    steps: Vec<Step>,
}

impl Walk<'_> {
    async fn all(&mut self, inquiry: &Inquiry, runtime: &Runtime) -> Result<(), Refusal> {
        let path = NormalPath::parse(&inquiry.path, PathParameters::Allow).map_err(Refusal::Path);
        let path = self.judge("path", path, |path| {
            if path.as_str() == inquiry.path { "in normal form".to_owned() } else { format!("normal form is {path}") }
        })?;
        let host = Host::parse(inquiry.host.as_deref().unwrap_or(NO_HOST)).map_err(Refusal::Host);
        let host = self.judge("host", host, |host| match inquiry.host {
            Some(_) => host.name().to_owned(),
            None => "none given; only routes for any host can match".to_owned(),
        })?;
        let found = find(&host, &path, &inquiry.method, runtime);
        let route =
            self.judge("route", found, |route| format!("{} ({})", route.rules().name, route.rules().pattern.path))?;
        self.at(&route, "path");
        self.cors(&route, inquiry);
        self.limits(&route);
        let outcome = self.caller(&route, inquiry, runtime).await;
        let principal = self.tolerate(&route, outcome)?;
        let outcome = self.demands(&route, principal.as_deref());
        self.tolerate(&route, outcome)?;
        self.forward(&route, &path, principal.as_deref());
        Ok(())
    }

    /// On a `report_only` route a refusal is only noted.
    fn tolerate<T: Default>(&mut self, route: &Route, outcome: Result<T, Refusal>) -> Result<T, Refusal> {
        match outcome {
            Err(refusal) if route.rules().report_only => {
                self.note("report", format!("would be refused ({}), but the route only reports", refusal.code()));
                self.at(route, "report_only");
                Ok(T::default())
            }
            outcome => outcome,
        }
    }

    fn cors(&mut self, route: &Route, inquiry: &Inquiry) {
        match &route.rules().cors {
            None => self.note("cors", "no policy; what the upstream says stands".to_owned()),
            Some(policy) => match policy.grant(&inquiry.headers) {
                Grant::Allowed { origin } => {
                    self.step("cors", PASS, format!("origin may read the answer: {}", text_of(&origin)));
                    self.at(route, "cors");
                }
                Grant::Denied | Grant::Silent if inquiry.headers.is_empty() => {
                    self.note("cors", "no origin given".to_owned());
                }
                Grant::Denied | Grant::Silent => {
                    self.note(
                        "cors",
                        "the origin is not listed: a browser will not show the answer to its page".to_owned(),
                    );
                    self.at(route, "cors");
                }
            },
        }
    }

    fn limits(&mut self, route: &Route) {
        for limiter in route.limits_before().iter().chain(route.limits_after()) {
            let settings = limiter.settings();
            let quota = &settings.quota;
            let detail = format!(
                "{}: {} in {} s, burst {} (not counted here)",
                settings.name,
                quota.count,
                quota.period.as_secs(),
                quota.burst
            );
            self.note("limit", detail);
            self.key(format!("limits.{}", settings.name));
        }
    }

    async fn caller(
        &mut self,
        route: &Route,
        inquiry: &Inquiry,
        runtime: &Runtime,
    ) -> Result<Option<Arc<Principal>>, Refusal> {
        let principal = match (&route.rules().access, &inquiry.who) {
            (Access::Public, _) => {
                self.step("token", PASS, "public: no token is looked at".to_owned());
                self.at(route, "access");
                return Ok(None);
            }
            (Access::Optional, Who::Nobody) => {
                self.step("token", PASS, "none given, none needed".to_owned());
                self.at(route, "access");
                return Ok(None);
            }
            (Access::Token(_), Who::Nobody) => {
                self.step("token", FAIL, "none given, and the route needs one".to_owned());
                self.at(route, "access");
                return Err(Refusal::CredentialsMissing);
            }
            (_, Who::Token(text)) => verify(text, runtime).await,
            (_, Who::Claims(claims)) => suppose(claims, runtime),
        };
        let principal =
            self.judge("token", principal, |p| format!("good: {} of issuer {}", p.subject(), p.issuer_name()))?;
        self.key(format!("issuers.{}", principal.issuer_name()));
        if !route.rules().takes_issuer(&principal) {
            self.step("issuer", FAIL, format!("the route does not take issuer {}", principal.issuer_name()));
            self.at(route, "issuers");
            return Err(Refusal::TokenInvalid(TokenFault::Issuer));
        }
        if !route.rules().takes_audience(&principal) {
            self.step("audience", FAIL, "the token is for none of the route's audiences".to_owned());
            self.at(route, "audiences");
            return Err(Refusal::TokenInvalid(TokenFault::Audience));
        }
        Ok(Some(principal))
    }

    fn demands(&mut self, route: &Route, principal: Option<&Principal>) -> Result<(), Refusal> {
        let (Access::Token(requirements), Some(principal)) = (&route.rules().access, principal) else { return Ok(()) };
        // Each demand alone first, so that everything that is missing is shown; the decision is that of all together.
        for (key, alone) in one_by_one(requirements) {
            let met = alone.met_by(principal).is_ok();
            let needs = described(key, &alone);
            self.step("demand", if met { PASS } else { FAIL }, needs);
            self.at(route, key);
        }
        if *requirements == Requirements::default() {
            self.step("demand", PASS, "a valid token suffices".to_owned());
        }
        requirements.met_by(principal)
    }

    fn forward(&mut self, route: &Route, path: &NormalPath<'_>, principal: Option<&Principal>) {
        let rules = route.rules();
        let target = rewritten(path.as_str(), rules.strip_prefix.as_deref(), rules.add_prefix.as_deref());
        self.note("forward", format!("to {} as {target}", rules.upstream));
        self.key(format!("upstreams.{}", rules.upstream));
        for (name, value) in principal.map(Principal::ready_headers).unwrap_or_default() {
            self.note("header", format!("{name}: {}", text_of(value)));
        }
    }

    fn judge<T>(
        &mut self,
        step: &'static str,
        outcome: Result<T, Refusal>,
        good: impl FnOnce(&T) -> String,
    ) -> Result<T, Refusal> {
        match outcome {
            Ok(value) => {
                self.step(step, PASS, good(&value));
                Ok(value)
            }
            Err(refusal) => {
                self.step(step, FAIL, refusal.reason().to_owned());
                Err(refusal)
            }
        }
    }

    fn note(&mut self, step: &'static str, detail: String) {
        self.step(step, NOTE, detail);
    }

    fn step(&mut self, step: &'static str, result: &'static str, detail: String) {
        self.steps.push(Step { stage: step, result, detail, key: None, line: None });
    }

    /// The last step was decided by this key of the route.
    fn at(&mut self, route: &Route, key: &str) {
        self.key(format!("routes[{}].{key}", route.rules().place));
    }

    fn key(&mut self, key: String) {
        if let Some(last) = self.steps.last_mut() {
            last.line = self.plan.places.line(&key);
            last.key = Some(key);
        }
    }
}

async fn verify(text: &str, runtime: &Runtime) -> Result<Arc<Principal>, Refusal> {
    let field = http::HeaderValue::try_from(format!("Bearer {text}"));
    let headers: HeaderMap = field.into_iter().map(|value| (http::header::AUTHORIZATION, value)).collect();
    let token: RawToken<'_> =
        bearer(&headers, runtime.settings().max_token_size)?.ok_or(Refusal::RequestMalformed(Malformed::NoToken))?;
    for verifier in runtime.issuers().iter() {
        // An issuer that cannot be asked shows as missing keys, if the token is one of its.
        let _ = verifier.keys().fetch_once().await;
    }
    runtime.issuers().verify(&token, &token.digest()).await.map_err(refusal_of)
}

fn suppose(claims: &Map<String, Value>, runtime: &Runtime) -> Result<Arc<Principal>, Refusal> {
    let issuer = claims.get("iss").and_then(Value::as_str);
    match issuer.and_then(|issuer| runtime.issuers().by_issuer(issuer)) {
        Some(verifier) => verifier.suppose(claims.clone()).map_err(refusal_of),
        None => Err(refusal_of(VerifyError::UnknownIssuer)),
    }
}

/// Each demand as if it were the only one.
fn one_by_one(all: &Requirements) -> Vec<(&'static str, Requirements)> {
    let none = Requirements::default;
    let mut alone = Vec::new();
    if !all.scopes.is_empty() {
        alone.push(("scopes", Requirements { scopes: all.scopes.clone(), ..none() }));
    }
    if !all.any_scopes.is_empty() {
        alone.push(("any_scopes", Requirements { any_scopes: all.any_scopes.clone(), ..none() }));
    }
    if !all.roles.is_empty() {
        alone.push(("roles", Requirements { roles: all.roles.clone(), ..none() }));
    }
    if !all.any_roles.is_empty() {
        alone.push(("any_roles", Requirements { any_roles: all.any_roles.clone(), ..none() }));
    }
    for rule in &all.claims {
        alone.push(("claims", Requirements { claims: vec![rule.clone()], ..none() }));
    }
    alone
}

fn described(key: &str, alone: &Requirements) -> String {
    let words = [&alone.scopes, &alone.any_scopes, &alone.roles, &alone.any_roles];
    let words: Vec<&str> = words.into_iter().flatten().map(String::as_str).collect();
    match alone.claims.first() {
        Some(rule) => {
            let allowed = rule.allowed.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
            format!("claim {} is {allowed}", rule.path)
        }
        None => format!("{key}: {}", words.join(" ")),
    }
}

fn text_of(value: &http::HeaderValue) -> &str {
    value.to_str().unwrap_or_default()
}
