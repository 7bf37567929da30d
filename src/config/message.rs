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

/// Hints for values of the wrong type that are likely: the key, how serde's message about the value
/// begins, and the hint. The key is the end of a path.
const LIKELY_VALUES: [(&str, &str, &str); 6] = [
    (".health", "invalid type: string", "write a table: `health = { path = \"/health\" }`"),
    (".eject", "invalid type: boolean `false`", "write `eject = \"off\"`"),
    (".eject", "invalid type: boolean `true`", "leave the key out; servers are ejected by default"),
    ("server.unix_mode", "invalid type: integer", "write it in quotes and with a zero first, such as \"0660\""),
    (
        "server.tls",
        "invalid type: boolean",
        "write a table: `tls = { certificates = [{ cert = \"/path/tls.crt\", key = \"/path/tls.key\" }] }`; \
         without TLS, leave the key out",
    ),
    (
        ".tls",
        "invalid type: boolean",
        "leave the key out; the URL in `servers` says whether it is used: `https://` or `http://`",
    ),
];

/// Turns an error of serde about the value at `path` into what is wrong, and a hint.
pub(super) fn rephrase(path: &str, message: &str) -> (String, Option<String>) {
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
    let is_about = |(key, start, _): &&(&str, &str, &str)| path.ends_with(key) && message.starts_with(start);
    let likely = LIKELY_VALUES.iter().find(is_about).map(|(_, _, hint)| (*hint).to_owned());
    let hint = likely.or_else(|| array_of(&message));
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
