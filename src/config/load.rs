//! Reading a configuration file: everything that is wrong with it, in one run.
//!
//! serde stops at its first error. So an error's span says which key it is about, the key is taken out of the parsed tree, and the rest is
//! read again, until it can be read. What was left out is remembered, so that it is not reported as missing on top.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize as _;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::nearest::did_you_mean;
use super::tree::{Entries, Lines, replace_references, take_out};
use super::{Config, KeyLines, Problems};

/// Largest file that is read, in bytes: a thousand routes take a tenth of it.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Most problems that are looked for; behind the first hundreds nobody reads on.
const MAX_PROBLEMS: usize = 500;

/// A hash of a file's content, to see whether it has changed.
pub type TextHash = u64;

/// What came of reading a file.
#[derive(Clone, Debug)]
pub struct LoadOutcome {
    /// What the operator wrote, without what could not be read.
    pub config: Config,
    /// Where everything stands.
    pub key_lines: KeyLines,
    /// What is wrong so far.
    pub problems: Problems,
    /// Names of the environment variables that were taken.
    pub environment: Vec<String>,
}

/// Reads the file at `path`. A file that cannot be read is a problem like others.
#[must_use]
pub fn load(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> LoadOutcome {
    let name = path.display().to_string();
    match read(path) {
        Ok(text) => load_text(&name, &text, environment),
        Err(error) => {
            let mut problems = Problems::new(name);
            problems.add("", format!("cannot be read: {error}"));
            LoadOutcome { config: Config::default(), key_lines: KeyLines::default(), problems, environment: Vec::new() }
        }
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if read as u64 > MAX_FILE_BYTES {
        return Err(std::io::Error::other(format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    Ok(text)
}

/// The hash of the file's content now; `None` if it cannot be read.
#[must_use]
pub fn file_hash(path: &Path) -> Option<TextHash> {
    let text = read(path).ok()?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Some(hasher.finish())
}

/// Reads `text`, which problems call `name`.
#[must_use]
pub fn load_text(name: &str, text: &str, environment: &dyn Fn(&str) -> Option<String>) -> LoadOutcome {
    let mut problems = Problems::new(name);
    let lines = Lines::of(text);
    let (root, errors) = DeTable::parse_recoverable(text);
    // What a broken line was meant to be cannot be known; what follows from it is not reported.
    for error in &errors {
        let line = error.span().map(|span| lines.line(span.start));
        problems.push(String::new(), line, first_line(error.message()), None);
    }
    if !errors.is_empty() {
        return LoadOutcome {
            config: Config::default(),
            key_lines: KeyLines::default(),
            problems,
            environment: Vec::new(),
        };
    }
    let span = root.span();
    let mut root = root.into_inner();
    let entries = Entries::of(&root, &lines);
    let taken = replace_references(&mut root, &entries, environment, &mut problems);
    let environment = taken.names().map(str::to_owned).collect();
    problems.conceal(taken);
    let config = loop {
        let attempt = Config::deserialize(Deserializer::from(Spanned::new(span.clone(), root.clone())));
        let error = match attempt {
            Ok(config) => break config,
            Err(error) => error,
        };
        let entry = error.span().and_then(|span| entries.at(&span));
        let (what, hint) = told(error.message());
        let Some(entry) = entry.filter(|_| problems.len() < MAX_PROBLEMS) else {
            problems.push(String::new(), None, what, hint);
            break Config::default();
        };
        problems.push(entry.path.clone(), Some(entry.line), what, hint);
        problems.leave_out(entry.path.clone());
        take_out(&mut root, entry);
    };
    LoadOutcome { config, key_lines: entries.key_lines(), problems, environment }
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// serde's words in ours: what was found, and what would be right.
fn told(message: &str) -> (String, Option<String>) {
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((name, expected)) = rest.split_once("`, expected ")
    {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let hint =
            did_you_mean(name, known.iter().copied()).unwrap_or_else(|| format!("known here: {}", known.join(", ")));
        return (format!("unknown key `{name}`"), Some(hint));
    }
    if let Some(rest) = message.strip_prefix("unknown variant `")
        && let Some((name, expected)) = rest.split_once("`, expected ")
    {
        let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        let words = known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let wanted = if known.len() == 1 { words } else { format!("one of {words}") };
        return (format!("`{name}` is not {wanted}"), did_you_mean(name, known.iter().copied()));
    }
    (first_line(message), None)
}
