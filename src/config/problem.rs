//! Everything that is wrong with a configuration: for each problem its line, its key, what was
//! found and a hint.
//!
//! The loader and then the plan add problems to one report. The report never shows a value from the
//! environment, which may be a secret, but the name of the variable.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::environment::EnvironmentReferences;
use super::key_path::{KeyLines, element};

/// Longest text of a problem or a hint, in characters. The longest one with a short value names all
/// keys of a route.
const MAX_TEXT_CHARS: usize = 600;

/// Longest value that is shown, in characters; of a longer one the beginning is enough to find it.
const MAX_SHOWN_CHARS: usize = 80;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The path of the key, such as `routes[2].scopes`; empty if the problem concerns the file as a
    /// whole.
    pub path: String,
    /// The line, counted from 1; `None` before [`Problems::locate`], and if nothing of the path is
    /// in the file.
    pub line: Option<usize>,
    /// What is wrong, with the value that was found.
    pub what: String,
    /// How to fix it, unless that is obvious.
    pub hint: Option<String>,
}

/// Everything that is wrong with one configuration. `Display` is the report that operators read.
#[derive(Clone, Debug)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
    references: EnvironmentReferences,
    removed: BTreeSet<String>,
    /// The indexes of the elements that the loader has taken out of an array, by the array's path.
    /// The plan counts without them.
    shifted: BTreeMap<String, BTreeSet<usize>>,
}

impl Problems {
    /// An empty report about the file with this name.
    #[must_use]
    pub fn new(file: impl Into<String>) -> Self {
        Self {
            file: file.into(),
            list: Vec::new(),
            references: EnvironmentReferences::default(),
            removed: BTreeSet::new(),
            shifted: BTreeMap::new(),
        }
    }

    /// Adds a problem with the key at `path`.
    ///
    /// Does nothing if the loader has removed the key because of another problem: `audiences = 5`
    /// is one mistake, and the plan must not report missing audiences as well.
    pub fn add(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.push(self.path_in_file(path.into()), None, what.into(), None);
    }

    /// Adds a problem with a hint how to fix it; otherwise like [`add`](Self::add).
    pub fn add_with_hint(&mut self, path: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) {
        self.push(self.path_in_file(path.into()), None, what.into(), Some(hint.into()));
    }

    /// Whether there is no problem.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The number of problems.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The problems, in the order in which they were added, or in the order of the file after
    /// [`locate`](Self::locate).
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// The name of the file.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Fills in the lines and sorts by them. Problems without a line come first.
    pub fn locate(&mut self, key_lines: &KeyLines) {
        for problem in &mut self.list {
            problem.line = problem.line.or_else(|| key_lines.line(&problem.path));
        }
        self.list.sort_by_key(|problem| problem.line);
    }

    pub(super) fn push(&mut self, path: String, line: Option<usize>, what: String, hint: Option<String>) {
        if self.removed.iter().any(|removed| explains(removed, &path)) {
            return;
        }
        // Escaped and shortened here as well, because not every text has been made by `quoted`.
        // Redacted before that: what is left of a secret would no longer be recognized.
        let shown = |text: String| shortened(&escaped(&self.references.redact(text)));
        let (what, hint) = (shown(what), hint.map(shown));
        self.list.push(Problem { path, line, what, hint });
    }

    /// Sets the values from the environment that later problems must not show.
    pub(super) fn redact(&mut self, references: EnvironmentReferences) {
        self.references = references;
    }

    /// Remembers that the loader has removed the key at `path`, for a reason that has been
    /// reported. An empty path stands for the whole file.
    pub(super) fn mark_removed(&mut self, path: String) {
        self.removed.insert(path);
    }

    /// Remembers that the loader has taken the element at `path` out of its array, so that the
    /// elements after it have moved up.
    pub(super) fn mark_shifted(&mut self, path: &str) {
        if let Some((array, index)) = split_element(path) {
            self.shifted.entry(array.to_owned()).or_default().insert(index);
        }
    }

    /// The path in the file of what the plan knows as `path`.
    fn path_in_file(&self, path: String) -> String {
        self.shifted.iter().fold(path, |path, (array, taken_out)| {
            let Some((index, rest)) = path
                .strip_prefix(array.as_str())
                .and_then(|rest| rest.strip_prefix('['))
                .and_then(|rest| rest.split_once(']'))
            else {
                return path;
            };
            let Ok(index) = index.parse::<usize>() else { return path };
            // Ascending, so that each element before the one in question moves it by one.
            let index = taken_out.iter().fold(index, |index, &taken| if taken <= index { index + 1 } else { index });
            format!("{}{rest}", element(array, index))
        })
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.list.len() == 1 { "problem" } else { "problems" };
        write!(formatter, "{}: {} {noun}", escaped(&self.file), self.list.len())?;
        let widest = self.list.iter().filter_map(|problem| problem.line).max();
        let digits = widest.map_or(0, |line| line.to_string().len());
        for problem in &self.list {
            formatter.write_str("\n  ")?;
            let mut indent = 2;
            if digits > 0 {
                indent += "line ".len() + digits + 2;
                match problem.line {
                    Some(line) => write!(formatter, "line {line:<digits$}  ")?,
                    None => write!(formatter, "{:width$}", "", width = indent - 2)?,
                }
            }
            if !problem.path.is_empty() {
                write!(formatter, "{}: ", problem.path)?;
            }
            formatter.write_str(&problem.what)?;
            if let Some(hint) = &problem.hint {
                write!(formatter, "\n{:indent$}hint: {hint}", "")?;
            }
        }
        Ok(())
    }
}

/// A value as problems show it: between backticks, escaped, and cut after 80 characters.
#[must_use]
pub(crate) fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("`{}…`", escaped(&value[..end])),
        None => format!("`{}`", escaped(value)),
    }
}

/// A text without its middle if it is too long: the end says what is expected.
fn shortened(text: &str) -> String {
    let length = text.chars().count();
    if length <= MAX_TEXT_CHARS {
        return text.to_owned();
    }
    let half = MAX_TEXT_CHARS / 2;
    let (start, end) = (text.chars().take(half), text.chars().skip(length - half));
    start.chain(['…']).chain(end).collect()
}

/// Escapes control and invisible characters: text from a file must not control the terminal that
/// shows it.
#[must_use]
pub(crate) fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

/// Whether a problem at `path` may only be a consequence of the removal of the key `removed`:
/// `path` is the same key, a key below it, or the array whose element it was.
fn explains(removed: &str, path: &str) -> bool {
    if let Some(rest) = path.strip_prefix(removed) {
        return removed.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']);
    }
    split_element(removed).is_some_and(|(array, _)| array == path)
}

/// The array and the index of an element.
fn split_element(path: &str) -> Option<(&str, usize)> {
    let (array, index) = path.strip_suffix(']')?.rsplit_once('[')?;
    Some((array, index.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_lines(lines: &[(&str, usize)]) -> KeyLines {
        let mut key_lines = KeyLines::default();
        for (path, line) in lines {
            key_lines.insert(path, *line);
        }
        key_lines
    }

    #[test]
    fn a_report_has_lines_paths_and_hints_in_the_order_of_the_file() {
        let mut problems = Problems::new("gateway.toml");
        problems.add_with_hint(
            "routes[2].access",
            "missing",
            "write `access = \"public\"` if everyone may use this route",
        );
        problems.add("issuers.main.issuer", format!("{} is not an https URL", quoted("http://idp.example")));
        problems.add("upstreams", "missing");
        problems.locate(&key_lines(&[("issuers.main.issuer", 4), ("routes[2]", 31)]));
        insta::assert_snapshot!(problems, @r#"
        gateway.toml: 3 problems
                   upstreams: missing
          line 4   issuers.main.issuer: `http://idp.example` is not an https URL
          line 31  routes[2].access: missing
                   hint: write `access = "public"` if everyone may use this route
        "#);
    }

    #[test]
    fn a_report_without_lines_has_no_column_for_them() {
        let mut problems = Problems::new("a\u{1b}[2Jb.toml");
        problems.add_with_hint("", "cannot be read", "look for it");
        insta::assert_snapshot!(problems, @r"
        a\u{1b}[2Jb.toml: 1 problem
          cannot be read
          hint: look for it
        ");
    }

    #[test]
    fn values_are_escaped_and_cut() {
        for (name, value, shown) in [
            ("plain", "http://a", "`http://a`".to_owned()),
            ("quotes stay", "a\"b'c\\d", "`a\"b'c\\d`".to_owned()),
            ("control", "a\n\u{1b}[31m", "`a\\n\\u{1b}[31m`".to_owned()),
            ("right-to-left override", "a\u{202e}b", "`a\\u{202e}b`".to_owned()),
            ("80 characters", &"ä".repeat(80), format!("`{}`", "ä".repeat(80))),
            ("81 characters", &"ä".repeat(81), format!("`{}…`", "ä".repeat(80))),
        ] {
            assert_eq!(quoted(value), shown, "{name}");
        }
    }

    #[test]
    fn a_long_text_is_shown_without_its_middle() {
        let mut problems = Problems::new("gateway.toml");
        problems.add("server.listen", format!("invalid type: string \"{}\", expected a table", "a".repeat(100_000)));
        let what = &problems.iter().next().unwrap().what;
        assert_eq!(what.chars().count(), MAX_TEXT_CHARS + 1);
        assert!(what.starts_with("invalid type: string \"aaa") && what.ends_with("aaa\", expected a table"), "{what}");
    }

    #[test]
    fn a_consequence_of_a_reported_problem_is_not_reported() {
        for (removed, path, is_silent) in [
            ("issuers.main.issuer", "issuers.main.issuer", true),
            ("issuers.main", "issuers.main.issuer", true),
            ("routes[1].scopes[0]", "routes[1].scopes", true),
            ("routes[1].scopes[0]", "routes[1].scopes[0]", true),
            ("routes[1].scopes[0]", "routes[1].roles", false),
            ("routes[1].scopes[0]", "routes[1]", false),
            ("routes[1]", "routes[11].path", false),
            ("issuers.main", "issuers.mains", false),
            ("issuers.main.issuer", "issuers.main", false),
        ] {
            let mut problems = Problems::new("gateway.toml");
            problems.mark_removed(removed.to_owned());
            problems.add(path, "missing");
            assert_eq!(problems.is_empty(), is_silent, "{removed} and {path}");
        }
    }
}
