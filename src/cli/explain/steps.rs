//! Steps: the checks of a decision, in order, and how they are printed.

use std::fmt::Write as _;

use serde::Serialize;

use crate::config::KeyLines;
use crate::gateway::observer::{Check, CheckResult, Observer, Stage};
use crate::gateway::response::refusal::Refusal;
use crate::primitives::grpc::GrpcStatus;

/// One check, with the configuration key behind it and the key's line.
#[derive(Debug, Serialize)]
struct Step {
    stage: &'static str,
    #[serde(rename = "step")]
    subject: &'static str,
    result: &'static str,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
}

/// Observer that collects every check of a decision.
#[derive(Debug)]
pub(super) struct Trace {
    key_lines: KeyLines,
    stage: Stage,
    steps: Vec<Step>,
}

/// All steps, and the refusal if there is one.
#[derive(Debug)]
pub(super) struct Explanation {
    file: String,
    steps: Vec<Step>,
    refusal: Option<Refusal>,
    is_grpc_call: bool,
}

impl Trace {
    /// A trace for one request.
    pub(super) fn new(key_lines: KeyLines) -> Self {
        Self { key_lines, stage: Stage::Normalize, steps: Vec::new() }
    }

    /// Ends the trace. `file` is the name of the configuration file. If no check of the last stage
    /// accounts for `refusal`, the refusal becomes a step of its own.
    pub(super) fn finish(mut self, file: &str, refusal: Option<Refusal>, is_grpc_call: bool) -> Explanation {
        let has_failed = |step: &Step| step.stage == self.stage.name() && step.result == label(CheckResult::Failed);
        let is_explained = self.steps.iter().any(has_failed);
        if let Some(refusal) = &refusal
            && !is_explained
        {
            let subject = self.stage.name();
            self.check(|| Check::failed(subject, refusal.reason()));
        }
        Explanation { file: file.to_owned(), steps: self.steps, refusal, is_grpc_call }
    }
}

impl Observer for Trace {
    const CHECKS_ALL_DEMANDS: bool = true;

    fn enter(&mut self, stage: Stage) {
        self.stage = stage;
    }

    fn check(&mut self, describe: impl FnOnce() -> Check) {
        let Check { subject, result, detail, key } = describe();
        let line = key.as_deref().and_then(|key| self.key_lines.line(key));
        self.steps.push(Step { stage: self.stage.name(), subject, result: label(result), detail, key, line });
    }
}

fn label(result: CheckResult) -> &'static str {
    match result {
        CheckResult::Failed => "fail",
        CheckResult::Noted => "note",
        CheckResult::Passed => "pass",
    }
}

impl Explanation {
    pub(super) fn is_allowed(&self) -> bool {
        self.refusal.is_none()
    }

    pub(super) fn to_text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let result = if step.result == "fail" { "FAIL" } else { step.result };
            let _ = write!(text, "{result:5} {:10} {}", step.subject, step.detail);
            if let Some(key) = &step.key {
                let location = step.line.map_or_else(|| self.file.clone(), |line| format!("{}:{line}", self.file));
                let _ = write!(text, "  [{location} {key}]");
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
                if let Some(status) = self.grpc_status() {
                    let _ = writeln!(text, "the client reads: 200, grpc-status {} {}", status.code(), status.name());
                }
            }
        }
        text
    }

    /// What a gRPC client reads in place of the status; `None` for any other request.
    fn grpc_status(&self) -> Option<GrpcStatus> {
        self.refusal.as_ref().filter(|_| self.is_grpc_call).map(Refusal::grpc_status)
    }

    pub(super) fn to_json(&self) -> String {
        let document = serde_json::json!({
            "allowed": self.is_allowed(),
            "status": self.refusal.as_ref().map(|refusal| refusal.status().as_u16()),
            "grpc_status": self.grpc_status().map(GrpcStatus::code),
            "code": self.refusal.as_ref().map(Refusal::code),
            "reason": self.refusal.as_ref().map(Refusal::reason),
            "file": self.file,
            "steps": self.steps,
        });
        format!("{document:#}\n")
    }
}
