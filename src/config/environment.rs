//! `${NAME}` in the configuration: references to the environment.
//!
//! They are replaced in the strings of the parsed file, never in its text, so that a value cannot
//! add keys.

use std::collections::BTreeMap;
use std::fmt;

/// Shortest value that is redacted, in characters. A shorter one is not a secret, and replacing
/// each of its occurrences would garble the text.
const MIN_REDACTED_CHARS: usize = 4;

/// Number of leading characters that identify a value in a text that may hold only the beginning of
/// it.
const IDENTIFYING_CHARS: usize = 24;

/// The variables that the file refers to, with their values. `Debug` shows the names only.
#[derive(Clone, Default)]
pub(crate) struct EnvironmentReferences {
    values: BTreeMap<String, String>,
}

impl EnvironmentReferences {
    /// The names, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Replaces each value in `text` by its `${NAME}`, also where the text holds only the beginning
    /// of the value.
    pub(super) fn redact(&self, mut text: String) -> String {
        for (name, value) in &self.values {
            if value.chars().count() < MIN_REDACTED_CHARS {
                continue;
            }
            text = redact_value(&text, [value, &super::problem::escaped(value)], name);
        }
        text
    }
}

impl fmt::Debug for EnvironmentReferences {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

/// Why a reference to the environment cannot be replaced.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum ReferenceError {
    /// The environment has no such variable, and the reference has no default.
    #[error("the environment has no variable `{name}`")]
    Missing {
        /// The name of the variable.
        name: String,
    },
    /// `${` is not followed by a name and `}`.
    #[error("`${{` is not followed by a name and `}}`")]
    Malformed,
}

impl ReferenceError {
    pub(super) fn hint(&self) -> String {
        match self {
            Self::Missing { name } => format!("set it, or give a default: `${{{name}:-…}}`"),
            Self::Malformed => "write `${NAME}` or `${NAME:-default}`; `$${` stands for a literal `${`".to_owned(),
        }
    }
}

/// Replaces each `${NAME}` and `${NAME:-default}` in `text`, and `$${` by `${`.
///
/// As in a shell, the default replaces a variable that is missing or empty. It ends at the first
/// `}`. A value is not searched for references, so it may contain `${`. The variables that were
/// found are added to `references`.
///
/// # Errors
///
/// All references that cannot be replaced, in their order.
pub(crate) fn substitute(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    references: &mut EnvironmentReferences,
) -> Result<String, Vec<ReferenceError>> {
    let mut output = String::with_capacity(text.len());
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        output.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            output.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            if let Some(reference) = Reference::parse(after) {
                rest = reference.rest;
                match reference.value(environment, references) {
                    Ok(value) => output.push_str(&value),
                    Err(error) => errors.push(error),
                }
            } else {
                errors.push(ReferenceError::Malformed);
                rest = after;
            }
        } else {
            output.push('$');
            rest = &rest[1..];
        }
    }
    output.push_str(rest);
    if errors.is_empty() { Ok(output) } else { Err(errors) }
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
    rest: &'a str,
}

impl<'a> Reference<'a> {
    /// Parses `text`, which follows `${`.
    fn parse(text: &'a str) -> Option<Self> {
        let (content, rest) = text.split_once('}')?;
        let (name, default) = match content.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (content, None),
        };
        let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        is_name.then_some(Self { name, default, rest })
    }

    fn value(
        &self,
        environment: &dyn Fn(&str) -> Option<String>,
        references: &mut EnvironmentReferences,
    ) -> Result<String, ReferenceError> {
        match (environment(self.name), self.default) {
            (None, None) => Err(ReferenceError::Missing { name: self.name.to_owned() }),
            (None, Some(default)) => Ok(default.to_owned()),
            (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
            (Some(value), _) => {
                references.values.insert(self.name.to_owned(), value.clone());
                Ok(value)
            }
        }
    }
}

/// Replaces a value in `text` by its `${NAME}`. The text may hold it in either of two forms, as it
/// is or escaped.
fn redact_value(text: &str, forms: [&str; 2], name: &str) -> String {
    let prefixes = forms.map(|form| match form.char_indices().nth(IDENTIFYING_CHARS) {
        Some((end, _)) => &form[..end],
        None => form,
    });
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = prefixes.iter().filter_map(|prefix| rest.find(prefix)).min() {
        let length = forms.map(|form| common_prefix_bytes(&rest[start..], form)).into_iter().max().unwrap_or(0);
        output.push_str(&rest[..start]);
        output.push_str("${");
        output.push_str(name);
        output.push('}');
        rest = &rest[start + length..];
    }
    output.push_str(rest);
    output
}

/// The length of the longest common prefix.
fn common_prefix_bytes(left: &str, right: &str) -> usize {
    left.chars().zip(right.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("idp.example".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${HOST}".to_owned()),
            "_X1" => Some("x".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_are_replaced_once() {
        for (text, expected) in [
            ("plain", "plain"),
            ("https://${HOST}/a", "https://idp.example/a"),
            ("${HOST}${_X1}", "idp.examplex"),
            ("${NESTED}", "${HOST}"),
            ("${EMPTY}", ""),
            ("${EMPTY:-d}", "d"),
            ("${NONE:-d}", "d"),
            ("${NONE:-}", ""),
            ("${NONE:-a:-b c}", "a:-b c"),
            ("${HOST:-d}", "idp.example"),
            ("$${HOST}", "${HOST}"),
            ("$$${HOST}", "$${HOST}"),
            ("$HOST $ $", "$HOST $ $"),
            ("ä$", "ä$"),
        ] {
            assert_eq!(
                substitute(text, &environment, &mut EnvironmentReferences::default()).as_deref(),
                Ok(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn all_references_that_cannot_be_replaced_are_reported() {
        let missing = |name: &str| ReferenceError::Missing { name: name.to_owned() };
        for (text, expected) in [
            ("${NONE}", vec![missing("NONE")]),
            ("${NONE} ${HOST} ${NADA}", vec![missing("NONE"), missing("NADA")]),
            ("${HOST", vec![ReferenceError::Malformed]),
            ("${}", vec![ReferenceError::Malformed]),
            ("${1X}", vec![ReferenceError::Malformed]),
            ("${A-B}", vec![ReferenceError::Malformed]),
            ("${ HOST }", vec![ReferenceError::Malformed]),
        ] {
            assert_eq!(substitute(text, &environment, &mut EnvironmentReferences::default()), Err(expected), "{text}");
        }
    }

    #[test]
    fn names_are_kept_and_values_are_redacted() {
        let mut references = EnvironmentReferences::default();
        substitute("${HOST} ${_X1} ${NONE:-d}", &environment, &mut references).unwrap();
        assert_eq!(references.names().collect::<Vec<_>>(), ["HOST", "_X1"]);
        assert_eq!(format!("{references:?}"), r#"{"HOST", "_X1"}"#);
        assert_eq!(references.redact("`http://idp.example` x".to_owned()), "`http://${HOST}` x");
    }

    #[test]
    fn a_long_value_is_redacted_where_it_is_cut_or_escaped() {
        let secret = format!("{}\n{}", "k".repeat(40), "z".repeat(100));
        let mut references = EnvironmentReferences::default();
        substitute("${KEY}", &|_| Some(secret.clone()), &mut references).unwrap();
        let shown = references.redact(super::super::problem::quoted(&secret));
        assert_eq!(shown, "`${KEY}…`");
    }
}
