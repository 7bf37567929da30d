//! Errors of serde and of the TOML parser in the words of a configuration file.

use super::nearest::did_you_mean;
use super::problem::quoted;

/// How serde names what it expects or has found, and what a file calls it.
const WORDS: [(&str, &str); 7] = [
    ("invalid type: map,", "invalid type: a table,"),
    ("invalid type: sequence,", "invalid type: an array,"),
    ("` as i128,", "`,"),
    (", expected a sequence", ", expected an array"),
    ("wanted string or table", "expected a string in quotes"),
    (", expected a nonzero u32", ", expected a number from 1 to 4294967295"),
    (", expected u32", ", expected a number from 0 to 4294967295"),
];

/// Whether an error of serde says that an array is of the wrong type.
pub(super) fn is_about_array(message: &str) -> bool {
    message.starts_with("invalid type: sequence,")
}

/// The first line of a message of the TOML parser; the others show the text of the file.
pub(super) fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}

/// Turns an error of serde into what is wrong, and a hint.
pub(super) fn rephrase(message: &str) -> (String, Option<String>) {
    if let Some((name, known)) = unknown_name(message, "unknown field `") {
        let hint = did_you_mean(name, known.iter().copied());
        let hint = hint.unwrap_or_else(|| format!("known keys: {}", known.join(", ")));
        return (format!("unknown key {}", quoted(name)), Some(hint));
    }
    if let Some((name, known)) = unknown_name(message, "unknown variant `") {
        let words = known.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ");
        let expected = if known.len() == 1 { words } else { format!("one of {words}") };
        return (format!("{} is not {expected}", quoted(name)), did_you_mean(name, known.iter().copied()));
    }
    let message = first_line(message);
    let hint = array_of(&message);
    (WORDS.iter().fold(message, |message, (from, to)| message.replace(from, to)), hint)
}

/// The array to write, if a string is where an array should be.
fn array_of(message: &str) -> Option<String> {
    let text = message.strip_prefix("invalid type: string ")?.strip_suffix(", expected a sequence")?;
    Some(format!("write an array: [{text}]"))
}

/// The unknown name and the known ones in an error of serde that starts with `prefix`.
fn unknown_name<'a>(message: &'a str, prefix: &str) -> Option<(&'a str, Vec<&'a str>)> {
    let (name, expected) = message.strip_prefix(prefix)?.split_once("`, expected ")?;
    Some((name, expected.split('`').skip(1).step_by(2).collect()))
}
