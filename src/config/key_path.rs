//! Paths of keys, and their lines in the file.
//!
//! A path identifies a key in problems and in `explain`: `issuers.main.issuer`,
//! `routes[2].scopes[0]`. A key that is not a bare TOML key is quoted as in the file:
//! `routes[0].claims."/https:~1~1example.com~1roles"`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The line of each key of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyLines {
    lines: BTreeMap<String, usize>,
}

impl KeyLines {
    /// The line of `key_path`, counted from 1. If the file does not contain the key, it is the line
    /// of the innermost table or array around it that the file contains; `None` if there is none.
    #[must_use]
    pub fn line(&self, key_path: &str) -> Option<usize> {
        let mut path = key_path;
        loop {
            if let Some(line) = self.lines.get(path) {
                return Some(*line);
            }
            path = &path[..path.rfind(['.', '['])?];
        }
    }

    /// Whether the file contains this key.
    #[must_use]
    pub fn contains(&self, key_path: &str) -> bool {
        self.lines.contains_key(key_path)
    }

    pub(super) fn insert(&mut self, key_path: &str, line: usize) {
        self.lines.insert(key_path.to_owned(), line);
    }
}

/// The path of `key` in the table at the path `table`. The path of the root is empty.
#[must_use]
pub(crate) fn child(table: &str, key: &str) -> String {
    let mut path = table.to_owned();
    if !path.is_empty() {
        path.push('.');
    }
    if !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-') {
        path.push_str(key);
    } else {
        write!(path, "\"{}\"", super::problem::escaped(key).replace('"', "\\\"")).expect("a String takes all text");
    }
    path
}

/// The path of an element of the array at the path `array`.
#[must_use]
pub(crate) fn element(array: &str, index: usize) -> String {
    format!("{array}[{index}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_is_not_in_the_file_has_the_line_of_the_table_around_it() {
        let mut key_lines = KeyLines::default();
        key_lines.insert("issuers.main", 3);
        key_lines.insert("routes[1].claims", 9);
        for (path, line) in [
            ("issuers.main", Some(3)),
            ("issuers.main.issuer", Some(3)),
            ("issuers.other.issuer", None),
            ("routes[1].claims.\"/https:~1~1example.com[x]\"", Some(9)),
            ("routes[1].path", None),
            ("", None),
        ] {
            assert_eq!(key_lines.line(path), line, "{path}");
        }
    }

    #[test]
    fn a_key_that_is_not_bare_is_quoted() {
        assert_eq!(child("", "server"), "server");
        assert_eq!(child("identity.headers", "X-Identity-Subject"), "identity.headers.X-Identity-Subject");
        assert_eq!(child("upstreams", "a.b"), "upstreams.\"a.b\"");
        assert_eq!(child("upstreams", ""), "upstreams.\"\"");
        assert_eq!(child("upstreams", "a\"\n"), "upstreams.\"a\\\"\\n\"");
        assert_eq!(element("routes", 2), "routes[2]");
    }
}
