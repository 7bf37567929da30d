//! The source of the configuration: a file, or a text that the program supplies.

use std::path::PathBuf;
use std::sync::Arc;

use super::StartError;
use crate::config;
use crate::plan::Plan;

/// Looks up the value of an environment variable.
pub type Environment = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The source of the configuration.
#[derive(Clone, Debug)]
pub enum ConfigSource {
    /// A file, which is read again on reload.
    File(PathBuf),
    /// A text, which never changes.
    Text {
        /// Its name in error messages.
        name: String,
        /// The text, in TOML.
        text: String,
    },
}

/// A compiled configuration.
pub(super) struct LoadedConfig {
    pub(super) plan: Plan,
    /// Hash of the file's content, to detect changes.
    pub(super) content_hash: Option<u64>,
}

/// Reads and compiles the configuration.
pub(super) fn load(source: &ConfigSource, environment: &Environment) -> Result<LoadedConfig, StartError> {
    // Hashed before reading: a change in between is then detected at the next check.
    let content_hash = content_hash(source);
    let loaded = match source {
        ConfigSource::File(path) => config::load(path, &**environment),
        ConfigSource::Text { name, text } => config::load_text(name, text, &**environment),
    };
    let plan = Plan::compile(loaded).map_err(StartError::Problems)?;
    Ok(LoadedConfig { plan, content_hash })
}

/// A hash of the file's current content; `None` for a text, and for a file that cannot be read.
pub(super) fn content_hash(source: &ConfigSource) -> Option<u64> {
    match source {
        ConfigSource::File(path) => config::file_hash(path),
        ConfigSource::Text { .. } => None,
    }
}
