//! A model of backends, for property tests: what servers, frameworks and file systems do to a path
//! before they look up a resource. Works on decoded text, unlike the code that it tests.

use proptest::prelude::*;

/// One thing that a backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::gateway::matching) enum Step {
    /// Decodes all escapes.
    Decode,
    /// Decodes all escapes except that of the slash, as Tomcat and Spring can.
    DecodeButSlash,
    /// Ends the path at `?` or `#`, as every URL parser does.
    EndAtQuery,
    /// Merges slashes, as nginx and Go do.
    MergeSlashes,
    /// Removes parameters at the end of the path, as Python's `urlparse` does.
    RemoveLastParameters,
    /// Removes parameters, as servlet containers do.
    RemoveParameters,
    /// Resolves the path as a URL, as Node's `new URL(request.url, base)` does.
    ResolveUrl,
    /// Drops dots and spaces at the end of the path, as Windows does.
    TrimEnd,
    /// Drops spaces around a name, and dots and spaces at its end, as frameworks and Windows do.
    TrimNames,
}

impl Step {
    /// Backends of up to six steps.
    pub(in crate::gateway::matching) fn sequences() -> impl Strategy<Value = Vec<Self>> {
        let step = prop::sample::select(vec![
            Self::Decode,
            Self::Decode,
            Self::DecodeButSlash,
            Self::EndAtQuery,
            Self::MergeSlashes,
            Self::RemoveLastParameters,
            Self::RemoveParameters,
            Self::ResolveUrl,
            Self::TrimEnd,
            Self::TrimNames,
        ]);
        prop::collection::vec(step, 0..=6)
    }

    fn apply(self, path: &str) -> String {
        let per_name = |change: &dyn Fn(&str) -> String| path.split('/').map(change).collect::<Vec<_>>().join("/");
        match self {
            Self::Decode => decode(path),
            Self::DecodeButSlash => {
                let pieces: Vec<String> = path.split("%2F").flat_map(|piece| piece.split("%2f")).map(decode).collect();
                pieces.join("%2F")
            }
            Self::EndAtQuery => path.split(['?', '#']).next().unwrap_or_default().to_owned(),
            Self::MergeSlashes => {
                let mut path = path.to_owned();
                while path.contains("//") {
                    path = path.replace("//", "/");
                }
                path
            }
            Self::RemoveParameters => per_name(&|name| name.split(';').next().unwrap_or_default().to_owned()),
            Self::RemoveLastParameters => {
                let last = path.rfind('/').unwrap_or_default();
                path[..path[last..].find(';').map_or(path.len(), |at| last + at)].to_owned()
            }
            Self::TrimEnd => path.trim_end_matches([' ', '.']).to_owned(),
            Self::ResolveUrl => match path.strip_prefix("//") {
                Some(rest) => rest.split_once('/').map_or("/".to_owned(), |(_, after)| format!("/{after}")),
                None => path.to_owned(),
            },
            Self::TrimNames => per_name(&|name| name.trim_start_matches(' ').trim_end_matches([' ', '.']).to_owned()),
        }
    }
}

/// `path` as a backend reads it that does `steps` in this order.
pub(in crate::gateway::matching) fn read(path: &str, steps: &[Step]) -> String {
    steps.iter().fold(path.to_owned(), |path, step| step.apply(&path))
}

fn decode(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}
