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

/// The most readings of one path. Paths in use have one or two.
pub(crate) const MAX_READINGS: usize = 64;

/// Something that a backend may do to a path.
#[derive(Clone, Copy, Debug)]
enum Step {
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
    /// Drops spaces around a name, and dots and spaces at its end, as Windows does.
    Trim,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::DropHost,
        Self::EndAtQuery,
        Self::MergeSlashes,
        Self::RemoveDecodedParameters,
        Self::RemoveParameters,
        Self::Trim,
    ];

    /// `path` after this step, or `None` if there is nothing for it to do.
    fn apply(self, path: &str) -> Option<String> {
        let has = |needle: &str| path.contains(needle);
        match self {
            Self::DropHost => {
                let rest = path.strip_prefix("//")?;
                Some(rest.find('/').map_or("/", |slash| &rest[slash..]).to_owned())
            }
            Self::EndAtQuery => {
                let end = find_any(path, &["%3F", "%23"]);
                (end < path.len()).then(|| path[..end].to_owned())
            }
            Self::MergeSlashes => has("//").then(|| merge_slashes(path)),
            Self::RemoveDecodedParameters => (has("%3B") || has(";"))
                .then(|| map_segments(path, |segment| &segment[..find_any(segment, &[";", "%3B"])])),
            Self::RemoveParameters => {
                has(";").then(|| map_segments(path, |segment| &segment[..find_any(segment, &[";"])]))
            }
            Self::Trim => (has("%20") || has("./") || path.ends_with('.')).then(|| map_segments(path, trim)),
        }
    }
}

/// Everything that a backend may make of `path`, except `path` itself. `None` if there are more
/// than [`MAX_READINGS`].
pub(super) fn readings(path: &str) -> Option<Vec<String>> {
    let mut found: Vec<String> = Vec::new();
    let mut next = Some(path.to_owned());
    let mut visited = 0;
    while let Some(current) = next {
        for step in Step::ALL {
            let Some(changed) = step.apply(&current) else { continue };
            if changed != path && !found.contains(&changed) {
                if found.len() == MAX_READINGS {
                    return None;
                }
                found.push(changed);
            }
        }
        next = found.get(visited).cloned();
        visited += 1;
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

fn map_segments(path: &str, change: impl Fn(&str) -> &str) -> String {
    let mut changed = String::with_capacity(path.len());
    for segment in path[1..].split('/') {
        changed.push('/');
        changed.push_str(change(segment));
    }
    changed
}

fn trim(segment: &str) -> &str {
    let mut rest = segment.trim_start_matches("%20");
    while let Some(shorter) = rest.strip_suffix('.').or_else(|| rest.strip_suffix("%20")) {
        rest = shorter;
    }
    rest
}
