//! Path normalisation: one normal form for the path that is matched and the path that is forwarded, or a refusal.
//!
//! Part of intake. Backends read paths in different ways: some merge slashes, some cut `;parameters` off, some decode twice, some
//! take `\` for `/`. Whatever two of them could read differently is refused here, so that the rule found for a path is the rule
//! for what the upstream will make of it. Nothing is repaired but the spelling of escapes (RFC 3986 §6.2.2). The length of the
//! whole target is bounded before this is called; the query never comes here.

mod normalize;
mod refusal;

use std::borrow::Cow;
use std::fmt;

pub use refusal::{MAX_SEGMENTS, PathRefusal};

/// A path in normal form: absolute, no dot segment, no empty segment but the last, escapes of unreserved characters decoded, the
/// hex digits of all others upper case.
///
/// Letters keep their case and a trailing slash counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a>(Cow<'a, str>);

/// A path prefix for `strip_prefix` and `add_prefix`, in normal form: empty, or `/a/b` without a slash at the end.
///
/// A normal path from whose front one is taken off between segments, and another put there, is a normal path still.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(Box<str>);

/// May a segment carry `;parameters` (RFC 3986 §3.3)?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathParameters {
    /// A raw `;` is kept, as part of its segment.
    Allow,
    /// A raw `;` is refused.
    Refuse,
}

impl<'a> NormalPath<'a> {
    /// Brings `raw`, the path of a request target without its query, into normal form.
    ///
    /// Linear in the length; allocates only if something has to be rewritten.
    ///
    /// # Errors
    ///
    /// A [`PathRefusal`] for everything that two backends could read as two paths.
    pub fn parse(raw: &'a str, parameters: PathParameters) -> Result<Self, PathRefusal> {
        if !raw.starts_with('/') {
            return Err(PathRefusal::NotAbsolute);
        }
        normalize::normal_form(raw, parameters).map(Self)
    }

    /// Takes text that came out of [`NormalPath::parse`] before, without looking at it again.
    ///
    /// Nothing may be decided on any other text: for tests and for a path that is kept beside the target it was read from.
    pub(crate) fn assume_normal(text: &'a str) -> Self {
        debug_assert!(text.starts_with('/'), "a normal path is absolute");
        Self(Cow::Borrowed(text))
    }

    /// The whole path: what is matched, and byte for byte what is forwarded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments between slashes. `/` has one, the empty one; `/a/` has two, the last of them empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0[1..].split('/')
    }

    /// Whether a raw `;` is in the path. Lets a caller parse with [`PathParameters::Allow`] before the route, and with it the
    /// setting, is known.
    #[must_use]
    pub fn has_parameters(&self) -> bool {
        self.0.as_bytes().contains(&b';')
    }

    /// The same path, borrowing nothing.
    #[must_use]
    pub fn into_owned(self) -> NormalPath<'static> {
        NormalPath(Cow::Owned(self.0.into_owned()))
    }
}

impl fmt::Display for NormalPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PathPrefix {
    /// Reads a prefix as an operator writes it; `/` alone is the empty prefix, a slash at the end is dropped.
    ///
    /// # Errors
    ///
    /// What a request path would be refused for, `;` included.
    pub fn parse(text: &str) -> Result<Self, PathRefusal> {
        let path = NormalPath::parse(text, PathParameters::Refuse)?;
        let text = path.as_str();
        Ok(Self(text.strip_suffix('/').unwrap_or(text).into()))
    }

    /// Empty, or `/a/b` without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The prefix's segments; none for the empty prefix.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

#[cfg(test)]
mod tests;
