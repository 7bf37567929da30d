//! `${NAME}` in the configuration: values taken from the environment.
//!
//! Replaced in the strings of the parsed file, never in its text, so that a value cannot add keys.

use std::collections::BTreeMap;
use std::fmt;

/// Shortest value that is hidden in problems. A shorter one is no secret, and replacing each of its occurrences would
/// garble the text.
const MIN_HIDDEN: usize = 4;

/// Beginning by which a value is recognised where it is shown in part, in characters.
const RECOGNISED_BY: usize = 24;

/// What was taken from the environment, by name. `Debug` shows the names only.
#[derive(Clone, Default)]
pub struct Taken {
    values: BTreeMap<String, String>,
}

impl Taken {
    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// `text` with each value that was taken replaced by its `${NAME}`, also where only the beginning of it is shown.
    pub(super) fn conceal(&self, mut text: String) -> String {
        for (name, value) in &self.values {
            if value.chars().count() < MIN_HIDDEN {
                continue;
            }
            text = conceal_one(&text, [value, &super::problem::escaped(value)], name);
        }
        text
    }
}

impl fmt::Debug for Taken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.values.keys()).finish()
    }
}

/// Why a reference to the environment could not be replaced.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReferenceError {
    /// There is no such variable, and no default is given.
    #[error("the environment has no variable `{name}`")]
    Missing {
        /// The variable.
        name: String,
    },
    /// `${` without a name and `}` after it.
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
/// As in a shell, the default stands in for a variable that is missing or empty; it ends at the first `}`. What is taken
/// is not looked at again, so a value may contain `${`. Names that were taken are added to `taken`.
///
/// # Errors
///
/// Every reference that could not be replaced, in their order.
pub fn substitute(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    taken: &mut Taken,
) -> Result<String, Vec<ReferenceError>> {
    let mut made = String::with_capacity(text.len());
    let mut errors = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        made.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            made.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            if let Some(reference) = Reference::parse(after) {
                rest = reference.rest;
                match reference.value(environment, taken) {
                    Ok(value) => made.push_str(&value),
                    Err(error) => errors.push(error),
                }
            } else {
                errors.push(ReferenceError::Malformed);
                rest = after;
            }
        } else {
            made.push('$');
            rest = &rest[1..];
        }
    }
    made.push_str(rest);
    if errors.is_empty() { Ok(made) } else { Err(errors) }
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
    rest: &'a str,
}

impl<'a> Reference<'a> {
    /// What stands after `${`.
    fn parse(text: &'a str) -> Option<Self> {
        let (inside, rest) = text.split_once('}')?;
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let good = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        good.then_some(Self { name, default, rest })
    }

    fn value(&self, environment: &dyn Fn(&str) -> Option<String>, taken: &mut Taken) -> Result<String, ReferenceError> {
        match (environment(self.name), self.default) {
            (None, None) => Err(ReferenceError::Missing { name: self.name.to_owned() }),
            (None, Some(default)) => Ok(default.to_owned()),
            (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
            (Some(value), _) => {
                taken.values.insert(self.name.to_owned(), value.clone());
                Ok(value)
            }
        }
    }
}

/// Replaces a value that stands in `text` in either of its forms, as it is or escaped.
fn conceal_one(text: &str, forms: [&str; 2], name: &str) -> String {
    let beginnings = forms.map(|form| match form.char_indices().nth(RECOGNISED_BY) {
        Some((end, _)) => &form[..end],
        None => form,
    });
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = beginnings.iter().filter_map(|beginning| rest.find(beginning)).min() {
        let shown = forms.map(|form| shared(&rest[start..], form)).into_iter().max().unwrap_or(0);
        made.push_str(&rest[..start]);
        made.push_str("${");
        made.push_str(name);
        made.push('}');
        rest = &rest[start + shown..];
    }
    made.push_str(rest);
    made
}

/// How many bytes both begin with.
fn shared(left: &str, right: &str) -> usize {
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
            assert_eq!(substitute(text, &environment, &mut Taken::default()).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn references_that_cannot_be_replaced_are_all_named() {
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
            assert_eq!(substitute(text, &environment, &mut Taken::default()), Err(expected), "{text}");
        }
    }

    #[test]
    fn names_are_kept_and_values_hidden() {
        let mut taken = Taken::default();
        substitute("${HOST} ${_X1} ${NONE:-d}", &environment, &mut taken).unwrap();
        assert_eq!(taken.names().collect::<Vec<_>>(), ["HOST", "_X1"]);
        assert_eq!(format!("{taken:?}"), r#"{"HOST", "_X1"}"#);
        assert_eq!(taken.conceal("`http://idp.example` x".to_owned()), "`http://${HOST}` x");
    }

    #[test]
    fn a_long_value_is_hidden_where_it_was_cut_or_escaped() {
        let secret = format!("{}\n{}", "k".repeat(40), "z".repeat(100));
        let mut taken = Taken::default();
        substitute("${KEY}", &|_| Some(secret.clone()), &mut taken).unwrap();
        let shown = taken.conceal(super::super::problem::quoted(&secret));
        assert_eq!(shown, "`${KEY}…`");
    }
}
