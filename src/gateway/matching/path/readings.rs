//! Readings of a path: the paths that a backend may make of a path in normal form.
//!
//! A backend changes a path in steps before it looks up a resource: one removes parameters, one
//! ends the path at an unescaped `?`, one merges slashes. Which steps it takes, and in which order,
//! depends on the server, the framework and the file system. So every step is taken in every order,
//! and the route table looks up all that come out: a request is ambiguous if one of them belongs to
//! another route. Otherwise `/admin%3Fx` would pass under the policy of `/*` to a backend that
//! reads it as `/admin`.
//!
//! Escapes that no step looks at stay as they are; the table decodes them when it compares.

use super::double_escape::{decode_twice, has_double_escape};
use super::forms::{UnusualForm, UnusualForms};

/// The most readings of one path. Paths in use have one or two.
const MAX_READINGS: usize = 64;

/// What a backend may make of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The path, in normal form except that segments may be empty.
    pub text: String,
    /// Whether an encoded slash, which a route accepts as part of a name, is read as a separator.
    pub splits_names: bool,
}

/// Something that a backend may do to a path.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Decodes twice.
    DecodeTwice,
    /// Takes what follows `//` at the start for a host, as in a URL without a scheme (RFC 3986
    /// §4.2).
    DropHost,
    /// Decodes first, and so ends the path at an escaped `?` or `#`.
    EndAtQuery,
    /// Merges consecutive slashes.
    MergeSlashes,
    /// Decodes first, and so removes parameters whose `;` was escaped.
    RemoveDecodedParameters,
    /// Removes parameters.
    RemoveParameters,
    /// Decodes first, and so takes an encoded slash for a separator.
    SplitNames,
    /// Drops spaces around a name, and dots and spaces at its end, as Windows does.
    TrimNames,
}

impl Step {
    const ALL: [Self; 8] = [
        Self::DecodeTwice,
        Self::DropHost,
        Self::EndAtQuery,
        Self::MergeSlashes,
        Self::RemoveDecodedParameters,
        Self::RemoveParameters,
        Self::SplitNames,
        Self::TrimNames,
    ];

    /// Whether some backend does this to a path with these forms.
    fn applies_to(self, forms: UnusualForms) -> bool {
        match self {
            Self::DecodeTwice => forms.contains(UnusualForm::DoubleEscape),
            Self::SplitNames => forms.contains(UnusualForm::EncodedSlash),
            Self::DropHost
            | Self::EndAtQuery
            | Self::MergeSlashes
            | Self::RemoveDecodedParameters
            | Self::RemoveParameters
            | Self::TrimNames => true,
        }
    }

    /// What this step may make of `path`; nothing if there is nothing for it to do.
    fn apply(self, path: &str) -> Vec<String> {
        let has = |needle: &str| path.contains(needle);
        match self {
            // The whole path has been decoded twice before; no part of it has anything else.
            Self::DecodeTwice if has_double_escape(path) => decode_twice(path).into_iter().collect(),
            Self::DropHost => {
                let rest = path.strip_prefix("//");
                rest.map(|rest| rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned()).into_iter().collect()
            }
            Self::EndAtQuery => vec![path[..find_any(path, &["%3F", "%23"])].to_owned()],
            Self::MergeSlashes if has("//") => vec![merge_slashes(path)],
            Self::RemoveDecodedParameters if has("%3B") || has(";") => {
                change_names(path, |name| &name[..find_any(name, &[";", "%3B"])])
            }
            Self::RemoveParameters if has(";") => change_names(path, |name| &name[..find_any(name, &[";"])]),
            Self::SplitNames => vec![path.replace("%2F", "/")],
            Self::TrimNames if has("%20") || has("./") || path.ends_with('.') => change_names(path, trim),
            Self::DecodeTwice
            | Self::MergeSlashes
            | Self::RemoveDecodedParameters
            | Self::RemoveParameters
            | Self::TrimNames => Vec::new(),
        }
    }
}

/// Everything that a backend may make of `path`, which has these forms, except `path` itself.
/// `None` if there are more than [`MAX_READINGS`].
pub(super) fn readings(path: &str, forms: UnusualForms) -> Option<Vec<Reading>> {
    let mut found: Vec<Reading> = Vec::new();
    // A reading that can be had without splitting names is found in the first round, and so counts
    // as one without.
    for may_split_names in [false, true] {
        let is_taken = |step: &Step| step.applies_to(forms) && (may_split_names || !matches!(step, Step::SplitNames));
        let mut next = Some(path.to_owned());
        let mut visited = 0;
        while let Some(current) = next {
            for text in Step::ALL.into_iter().filter(is_taken).flat_map(|step| step.apply(&current)) {
                if text == path || found.iter().any(|known| known.text == text) {
                    continue;
                }
                if found.len() == MAX_READINGS {
                    return None;
                }
                found.push(Reading { text, splits_names: may_split_names });
            }
            next = found.get(visited).map(|reading| reading.text.clone());
            visited += 1;
        }
        if !forms.contains(UnusualForm::EncodedSlash) {
            break;
        }
    }
    Some(found)
}

/// Where the first of `needles` begins, or the length of `text`.
fn find_any(text: &str, needles: &[&str]) -> usize {
    needles.iter().filter_map(|needle| text.find(needle)).min().unwrap_or(text.len())
}

fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for segment in path.split('/').skip(1) {
        if !merged.ends_with('/') {
            merged.push('/');
        }
        merged.push_str(segment);
    }
    merged
}

/// `path` with its names changed, in two ways: once all that stay names, and, for each that
/// `change` leaves nothing of, that one alone. A backend may change some segments only, such as the
/// last. Which, makes a difference only for those that become empty: `{id}` matches them before and
/// not after.
fn change_names(path: &str, change: impl Fn(&str) -> &str) -> Vec<String> {
    let rebuild = |emptied: Option<usize>| {
        let mut changed = String::with_capacity(path.len());
        for (index, name) in path[1..].split('/').enumerate() {
            changed.push('/');
            match emptied {
                Some(emptied) if emptied == index => {}
                Some(_) => changed.push_str(name),
                None if change(name).is_empty() => changed.push_str(name),
                None => changed.push_str(change(name)),
            }
        }
        changed
    };
    let becomes_empty = |(_, name): &(usize, &str)| !name.is_empty() && change(name).is_empty();
    let emptied = path[1..].split('/').enumerate().filter(becomes_empty).map(|(index, _)| Some(index));
    // One more than is allowed suffices to refuse the path.
    std::iter::once(None).chain(emptied.take(MAX_READINGS)).map(rebuild).collect()
}

fn trim(segment: &str) -> &str {
    let mut rest = segment.trim_start_matches("%20");
    while let Some(shorter) = rest.strip_suffix('.').or_else(|| rest.strip_suffix("%20")) {
        rest = shorter;
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PA-5, PA-11: a backend that changes one name, or knows one of two spellings, makes something
    /// else of a path than one that changes all.
    #[test]
    fn each_step_is_taken_alone_as_well() {
        for (name, path, expected) in [
            ("only the raw semicolon begins parameters", "/a%3Bx;y", "/a%3Bx"),
            ("the escaped one does too", "/a%3Bx;y", "/a"),
            ("a name that would be empty stays", "/;x/b;y", "/;x/b"),
            ("or becomes empty", "/;x/b;y", "//b;y"),
            ("or all are changed", "/;x/b;y", "//b"),
            ("spaces and dots", "/%20/b.", "/%20/b"),
        ] {
            let forms = UnusualForms::from_iter([UnusualForm::Parameters]);
            let found = readings(path, forms).unwrap();
            assert!(found.iter().any(|reading| reading.text == expected), "{name}: {expected} in {found:?}");
        }
    }
}
