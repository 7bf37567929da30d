//! Reads a configuration file and finds everything that is wrong with it in one run.
//!
//! serde stops at its first error. The span of that error identifies the key; the loader removes
//! the key from the parsed tree and deserializes the rest again, until there is no error left. It
//! remembers the removed keys, so that they are not also reported as missing.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::nearest::did_you_mean;
use super::tree::{Entries, LineIndex, remove, replace_references};
use super::{Config, KeyLines, Problems};

/// Largest file that is read, in bytes; a configuration with a thousand routes has a tenth of this
/// size.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Largest number of problems that are reported; each of them costs one more attempt to deserialize
/// the file.
const MAX_PROBLEMS: usize = 500;

/// A hash of a file's content, to detect changes.
pub(crate) type TextHash = u64;

/// The outcome of loading a file.
#[derive(Clone, Debug)]
pub struct LoadOutcome {
    /// What the operator wrote, without the keys that could not be read.
    pub config: Config,
    /// The line of each key.
    pub key_lines: KeyLines,
    /// What is wrong so far.
    pub problems: Problems,
    /// Names of the environment variables that the file refers to.
    pub environment: Vec<String>,
}

impl LoadOutcome {
    /// The outcome for a file of which nothing can be read.
    fn unreadable(problems: Problems) -> Self {
        Self { config: Config::default(), key_lines: KeyLines::default(), problems, environment: Vec::new() }
    }
}

/// Loads the file at `path`. If it cannot be read, that is the problem in the outcome.
#[must_use]
pub(crate) fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> LoadOutcome {
    let name = path.display().to_string();
    match read(path) {
        Ok(text) => load_text(&name, &text, environment),
        Err(error) => {
            let mut problems = Problems::new(name);
            problems.add("", format!("cannot be read: {error}"));
            LoadOutcome::unreadable(problems)
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("larger than the limit of {} MiB", MAX_FILE_BYTES >> 20)));
    }
    Ok(text)
}

/// The hash of the file's current content; `None` if it cannot be read.
#[must_use]
pub(crate) fn file_hash(path: &Path) -> Option<TextHash> {
    let text = read(path).ok()?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Some(hasher.finish())
}

/// Loads a configuration from `text`. Problems refer to it as the file `name`.
#[must_use]
pub fn load_text(name: &str, text: &str, environment: &dyn Fn(&str) -> Option<String>) -> LoadOutcome {
    let mut problems = Problems::new(name);
    let lines = LineIndex::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    // What a line with a syntax error was meant to be is unknown, so only the syntax errors are
    // reported.
    for error in &errors {
        let line = error.span().map(|span| lines.line(span.start));
        problems.push(String::new(), line, first_line(error.message()), None);
    }
    if !errors.is_empty() {
        return LoadOutcome::unreadable(problems);
    }
    let span = root.span();
    let mut root = root.into_inner();
    let entries = Entries::new(&root, &lines);
    let references = replace_references(&mut root, &entries, environment, &mut problems);
    let environment = references.names().map(str::to_owned).collect();
    problems.redact(references);
    let config = loop {
        let attempt = Config::deserialize(Deserializer::from(Spanned::new(span.clone(), root.clone())));
        let error = match attempt {
            Ok(config) => break config,
            Err(error) => error,
        };
        let entry = error.span().and_then(|span| entries.at(&span));
        let (what, hint) = rephrase(error.message());
        let Some(entry) = entry.filter(|_| problems.len() < MAX_PROBLEMS) else {
            problems.push(String::new(), None, what, hint);
            break Config::default();
        };
        problems.push(entry.path.clone(), Some(entry.line), what, hint);
        problems.mark_removed(entry.path.clone());
        remove(&mut root, entry);
    };
    LoadOutcome { config, key_lines: entries.key_lines(), problems, environment }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// Turns an error of serde into what is wrong, and a hint, in the words of a configuration file.
fn rephrase(message: &str) -> (String, Option<String>) {
    if let Some((name, known)) = unknown_name(message, "unknown field `") {
        let hint = did_you_mean(name, known.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("known keys: {}", known.join(", ")));
        return (format!("unknown key `{name}`"), Some(hint));
    }
    if let Some((name, known)) = unknown_name(message, "unknown variant `") {
        let words = known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let expected = if known.len() == 1 { words } else { format!("one of {words}") };
        return (format!("`{name}` is not {expected}"), did_you_mean(name, known.iter().copied()));
    }
    let message = first_line(message);
    for (rust_type, range) in [("a nonzero u32", 1..=u32::MAX), ("u32", 0..=u32::MAX)] {
        if let Some(found) = message.strip_suffix(&format!(", expected {rust_type}")) {
            return (format!("{found}, expected a number from {} to {}", range.start(), range.end()), None);
        }
    }
    (message, None)
}

/// The unknown name and the known ones in an error of serde that starts with `prefix`.
fn unknown_name<'a>(message: &'a str, prefix: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let (name, expected) = message.strip_prefix(prefix)?.split_once("`, expected ")?;
    Some((name, expected.split('`').skip(1).step_by(2).collect()))
}
