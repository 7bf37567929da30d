//! Where the configuration comes from: a file, or a text of the program's own.

use std::path::PathBuf;
use std::sync::Arc;

use super::StartError;
use crate::config;
use crate::plan::Plan;

/// Gives a variable's value, if it has one.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where the configuration comes from.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file; read again on reload.
    File(PathBuf),
    /// A text that never changes.
    Text {
        /// What error messages call it.
        name: String,
        /// TOML.
        text: String,
    },
}

/// A configuration that was read and understood.
pub(super) struct Loaded {
    pub(super) plan: Plan,
    /// Of the file's content, to see whether it changes.
    pub(super) text_hash: Option<u64>,
}

/// Reads and compiles the configuration.
pub(super) fn load(source: &ConfigSource, environment: &Environment) -> Result<Loaded, StartError> {
    let hash = content_hash(source);
    let loaded = match source {
        ConfigSource::File(path) => config::load(path, &**environment),
        ConfigSource::Text { name, text } => config::load_text(name, text, &**environment),
    };
    let plan = Plan::compile(loaded).map_err(StartError::Problems)?;
    Ok(Loaded { plan, text_hash: hash })
}

/// A hash of the file's content now; `None` for a text, and for a file that cannot be read at the moment.
pub(super) fn content_hash(source: &ConfigSource) -> Option<u64> {
    match source {
        ConfigSource::File(path) => config::file_hash(path),
        ConfigSource::Text { .. } => None,
    }
}
