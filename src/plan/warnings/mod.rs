//! Warnings: what is valid in a configuration, but probably not what the operator wants.

mod certificates;
mod near_paths;
mod plain_http;
mod unix_mode;

pub(crate) use certificates::certificate_warnings;

use super::Plan;

/// Something that `check` warns of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Warning {
    /// The path of the key, such as `routes[2].path`.
    pub key: String,
    /// What may go wrong.
    pub what: String,
    /// How to prevent it.
    pub hint: String,
}

impl Plan {
    /// All warnings, in the order of the file.
    #[must_use]
    pub(crate) fn warnings(&self) -> Vec<Warning> {
        let mut warnings = plain_http::warnings(&self.issuers);
        warnings.extend(unix_mode::warning(&self.server));
        warnings.extend(near_paths::warnings(&self.routes, &self.table));
        warnings.sort_by_key(|warning| self.key_lines.line(&warning.key));
        warnings
    }
}
