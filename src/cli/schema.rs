//! `portcullis schema`: prints the JSON Schema of the configuration, for editors.

use std::process::ExitCode;

pub(super) fn run() -> ExitCode {
    let mut text = serde_json::to_string_pretty(&crate::config::schema()).expect("a schema has only string keys");
    text.push('\n');
    super::print(&text)
}
