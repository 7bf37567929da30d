//! Reads a configuration file and finds everything that is wrong with it in one run.
//!
//! serde stops at its first error. The span of that error identifies the key; the loader removes
//! the key from the parsed tree and deserializes the rest again, until there is no error left. It
//! remembers the removed keys, so that they are not also reported as missing. It gives up if an
//! error identifies nothing that can be removed, and after a number of errors that depends on
//! the size of the file.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::message::{first_line, is_about_array, rephrase};
use super::tree::{Entries, EntryId, LineIndex, RejectedValue, Removal, find_dates, replace_references};
use super::{Config, KeyLines, Problems};

/// Largest file that is read, in bytes; a configuration with a thousand routes has a tenth of this
/// size.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Largest number of problems that the loader reports; each of them costs one more attempt to
/// deserialize the file.
const MAX_PROBLEMS: usize = 500;

/// Largest number of keys that are visited again because of problems. A file with 10 000 keys has
/// all of its problems reported; one with a million keys, only the first few, after a second.
const MAX_REVISITED_KEYS: usize = 5_000_000;

/// The path of the file as a whole.
const WHOLE_FILE: &str = "";

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
    /// The outcome for a file of which nothing can be read. What follows from that, such as that
    /// it has no routes, is no problem of its own.
    fn unreadable(mut problems: Problems) -> Self {
        problems.mark_removed(WHOLE_FILE.to_owned());
        Self { config: Config::default(), key_lines: KeyLines::default(), problems, environment: Vec::new() }
    }
}

/// Loads the file at `path`. If it cannot be read, that is the problem in the outcome.
#[must_use]
pub(crate) fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> LoadOutcome {
    let name = path.display().to_string();
    match read(path) {
        Ok(text) => load_text(&name, &text, environment),
        Err(error) => unreadable(&name, &error),
    }
}

/// Reads the text of the file at `path`.
///
/// # Errors
///
/// The file cannot be read, is not UTF-8 or is too large.
pub(crate) fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("larger than the limit of {} MiB", MAX_FILE_BYTES >> 20)));
    }
    Ok(text)
}

/// The outcome for the file `name`, which cannot be read.
#[must_use]
pub(crate) fn unreadable(name: &str, why: &dyn std::fmt::Display) -> LoadOutcome {
    let mut problems = Problems::new(name);
    problems.add(WHOLE_FILE, format!("cannot be read: {why}"));
    LoadOutcome::unreadable(problems)
}

/// Loads a configuration from `text`. Problems refer to it as the file `name`.
#[must_use]
pub fn load_text(name: &str, text: &str, environment: &dyn Fn(&str) -> Option<String>) -> LoadOutcome {
    let mut problems = Problems::new(name);
    let lines = LineIndex::new(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    // What a line with a syntax error was meant to be is unknown, so only the syntax errors are
    // reported.
    for error in errors.iter().take(MAX_PROBLEMS) {
        let line = error.span().map(|span| lines.line(span.start));
        problems.push(WHOLE_FILE.to_owned(), line, first_line(error.message()), None);
    }
    if errors.len() > MAX_PROBLEMS {
        push_more(&mut problems);
    }
    if !errors.is_empty() {
        return LoadOutcome::unreadable(problems);
    }
    let span = root.span();
    let mut tree = Tree { entries: Entries::new(root.get_ref(), &lines), root: root.into_inner() };
    let key_lines = tree.entries.key_lines();
    let (references, mut rejected) = replace_references(&mut tree.root, environment);
    rejected.extend(find_dates(&mut tree.root));
    let environment = references.names().map(str::to_owned).collect();
    problems.redact(references);
    let is_complete = tree.reject(rejected, &mut problems);
    let config = if is_complete { tree.deserialize(&span, &mut problems) } else { None };
    let config = config.unwrap_or_else(|| {
        problems.mark_removed(WHOLE_FILE.to_owned());
        Config::default()
    });
    LoadOutcome { config, key_lines, problems, environment }
}

/// What is left of the file, and where everything in it was.
struct Tree<'i> {
    root: DeTable<'i>,
    entries: Entries,
}

impl Tree<'_> {
    fn max_problems(&self) -> usize {
        (MAX_REVISITED_KEYS / self.entries.len().max(1)).clamp(1, MAX_PROBLEMS)
    }

    /// Reports values that no key takes, and removes them. Returns `false` if there are too many.
    fn reject(&mut self, values: Vec<RejectedValue>, problems: &mut Problems) -> bool {
        let mut found = BTreeSet::new();
        let are_few = values.len() <= self.max_problems();
        for RejectedValue { span, what, hint } in values.into_iter().take(self.max_problems()) {
            match self.entries.at(&span, false) {
                Some(id) => {
                    let entry = self.entries.get(id);
                    problems.push(entry.path.clone(), Some(entry.line), what, Some(hint));
                    found.insert(id);
                }
                None => problems.push(WHOLE_FILE.to_owned(), None, what, Some(hint)),
            }
        }
        if !are_few {
            push_more(problems);
        }
        // Removed only now, because a value may have several faults.
        are_few && found.into_iter().all(|id| self.remove(id, problems))
    }

    /// Deserializes the tree, and reports and removes what is in the way. `None` if that does not
    /// succeed; the reason is among the problems.
    fn deserialize(&mut self, span: &Range<usize>, problems: &mut Problems) -> Option<Config> {
        for _ in 0..self.max_problems() {
            let attempt = Config::deserialize(Deserializer::from(Spanned::new(span.clone(), self.root.clone())));
            let error = match attempt {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let is_about_array = is_about_array(error.message());
            let id = error.span().and_then(|span| self.entries.at(&span, is_about_array));
            let entry = id.map(|id| self.entries.get(id));
            let (path, line) = entry.map_or((WHOLE_FILE, None), |entry| (&entry.path, Some(entry.line)));
            let (what, hint) = rephrase(path, error.message());
            problems.push(path.to_owned(), line, what, hint);
            if !self.remove(id?, problems) {
                return None;
            }
        }
        push_more(problems);
        None
    }

    /// Removes a key or an element, and remembers that. Returns `false` if the tree does not hold
    /// it.
    fn remove(&mut self, id: EntryId, problems: &mut Problems) -> bool {
        let Some(removal) = self.entries.remove(&mut self.root, id) else { return false };
        let path = self.entries.get(id).path.clone();
        match removal {
            Removal::Removed | Removal::EmptiedElement => {}
            Removal::RemovedElement => problems.mark_shifted(&path),
        }
        problems.mark_removed(path);
        true
    }
}

/// Says that the report is not complete.
fn push_more(problems: &mut Problems) {
    problems.push(WHOLE_FILE.to_owned(), None, "there may be more problems than these".to_owned(), None);
}
