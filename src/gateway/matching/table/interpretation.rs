//! Interpretations of a path: what a backend may make of its escapes and parameters.
//!
//! The normal form keeps `%3A` and `:` distinct, and `admin;x` and `admin` too. A backend that
//! decodes escapes or removes parameters does not. So the table looks up a path with escapes or
//! parameters once more for each such interpretation, and matches no route if the results differ.
//! Otherwise `/users/me%3Areset` would pass under the policy of `/users/*` although there is a
//! route for `/users/me:reset`.

/// A way in which a backend may interpret a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interpretation {
    /// Byte for byte as it is forwarded.
    AsSent,
    /// With all escapes decoded.
    Decoded,
    /// Decoded first; then parameters are removed, including those whose `;` was escaped.
    DecodedThenStripped,
    /// Parameters are removed first; then the rest is decoded.
    StrippedThenDecoded,
}

impl Interpretation {
    /// The segment without what this interpretation strips. Escapes are left as they are: the tree
    /// decodes them when it compares.
    pub(super) fn strip(self, segment: &str) -> &str {
        match self {
            Self::AsSent | Self::Decoded => segment,
            Self::StrippedThenDecoded => segment.split(';').next().unwrap_or(segment),
            Self::DecodedThenStripped => {
                let end = segment.find(';').into_iter().chain(segment.find("%3B")).min();
                &segment[..end.unwrap_or(segment.len())]
            }
        }
    }
}
