//! What is wrong with a configuration: all of it, each with line, key path, what was found and what would be right.
//!
//! Filled first while the file is read, then while the plan is compiled; printed once. Never shows a value that came
//! from the environment: that may be a secret, so its name is shown instead.

use std::collections::BTreeSet;
use std::fmt;

use super::environment::Taken;
use super::key_path::KeyLines;

/// Longest value that is shown, in characters; the beginning of a longer one says which it is.
const MAX_SHOWN: usize = 80;

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The key it is about, like `routes[2].scopes`; empty if it is about the file as a whole.
    pub path: String,
    /// Where that stands, counted from 1; `None` until [`Problems::locate`], and if the file does not have it.
    pub line: Option<usize>,
    /// What is wrong, with the value that was found.
    pub what: String,
    /// What to do about it, if that is more than the opposite.
    pub hint: Option<String>,
}

/// All that is wrong with one configuration. `Display` is the report that operators read.
#[derive(Clone, Debug)]
pub struct Problems {
    file: String,
    list: Vec<Problem>,
    taken: Taken,
    unread: BTreeSet<String>,
}

impl Problems {
    /// None yet, about the file of this name.
    #[must_use]
    pub fn new(file: impl Into<String>) -> Self {
        Self { file: file.into(), list: Vec::new(), taken: Taken::default(), unread: BTreeSet::new() }
    }

    /// Adds a problem with the key at `path`.
    ///
    /// It is left out if what it is about was already refused while the file was read: `audiences = 5` is one mistake, and
    /// not also missing audiences.
    pub fn add(&mut self, path: impl Into<String>, what: impl Into<String>) {
        self.push(path.into(), None, what.into(), None);
    }

    /// [`add`](Self::add), with what to do about it.
    pub fn add_with_hint(&mut self, path: impl Into<String>, what: impl Into<String>, hint: impl Into<String>) {
        self.push(path.into(), None, what.into(), Some(hint.into()));
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// In the order of the file after [`locate`](Self::locate), before that in the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.list.iter()
    }

    /// The file they are about, as it was named.
    #[must_use]
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Fills in the lines and sorts by them; those that belong to no line come first.
    pub fn locate(&mut self, key_lines: &KeyLines) {
        for problem in &mut self.list {
            problem.line = problem.line.or_else(|| key_lines.line(&problem.path));
        }
        self.list.sort_by_key(|problem| problem.line);
    }

    pub(super) fn push(&mut self, path: String, line: Option<usize>, what: String, hint: Option<String>) {
        if self.unread.iter().any(|unread| covers(unread, &path)) {
            return;
        }
        let what = self.taken.conceal(what);
        let hint = hint.map(|hint| self.taken.conceal(hint));
        self.list.push(Problem { path, line, what, hint });
    }

    /// Values that came from the environment and are not to be shown.
    pub(super) fn conceal(&mut self, taken: Taken) {
        self.taken = taken;
    }

    /// What was at `path` is not in the [`Config`](super::Config), for a reason that has been reported.
    pub(super) fn leave_out(&mut self, path: String) {
        self.unread.insert(path);
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

/// A value as problems show it: between backticks, control and invisible characters escaped, cut after 80 characters.
#[must_use]
pub fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("`{}…`", escaped(&value[..end])),
        None => format!("`{}`", escaped(value)),
    }
}

/// Text with control and invisible characters escaped: what is in a file must not move the cursor of a terminal.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\'' | '\\' => shown.push(character),
            other => shown.extend(other.escape_debug()),
        }
    }
    shown
}

/// Whether a problem at `path` may be nothing but the consequence of `unread` having been left out: the same key, one
/// below it, or the array that lacks it as an element.
fn covers(unread: &str, path: &str) -> bool {
    if let Some(rest) = path.strip_prefix(unread) {
        return rest.is_empty() || rest.starts_with(['.', '[']);
    }
    unread.strip_prefix(path).is_some_and(|rest| {
        rest.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).is_some_and(|index| index.parse::<u32>().is_ok())
    })
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
    fn a_report_without_lines_has_no_room_for_them() {
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
    fn what_follows_from_a_reported_problem_is_not_reported_again() {
        for (unread, path, silent) in [
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
            problems.leave_out(unread.to_owned());
            problems.add(path, "missing");
            assert_eq!(problems.is_empty(), silent, "{unread} and {path}");
        }
    }
}
