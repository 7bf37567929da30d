//! Path normalization: one normal form for the path that is matched and the path that is forwarded,
//! or a refusal.
//!
//! Part of the normalize stage. Backends interpret paths differently: some merge slashes, some
//! remove `;parameters`, some decode twice, some treat `\` as `/`. A path that two backends could
//! interpret differently is refused here, or recognized as an [unusual form](UnusualForm) that only
//! a route can accept, so that the route that matches a path is the right one for what the upstream
//! makes of that path. Only the spelling of escapes is changed (RFC 3986 §6.2.2), and bytes that
//! browsers leave unescaped are escaped. The caller limits the length of the request target and
//! passes the path without the query.

#[cfg(test)]
pub(super) mod backend_model;
mod double_escape;
mod forms;
mod normal_form;
mod readings;
mod refusal;
mod segments;

use std::borrow::Cow;

pub(crate) use forms::UnusualForm;
pub use forms::UnusualForms;
pub(crate) use readings::Reading;
pub(crate) use refusal::{MAX_SEGMENTS, PathRefusal};

/// A path in normal form: absolute, without dot segments in any reading, not beginning with `//`,
/// with the escapes of unreserved characters decoded and the hex digits of all others in upper
/// case.
///
/// Letters keep their case, and a trailing slash matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalPath<'a> {
    text: Cow<'a, str>,
    marks: PathMarks,
}

/// What normalization has found in a path that backends may read in several ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PathMarks {
    /// Whether the path has a percent escape.
    has_escapes: bool,
    /// The unusual forms that the path has, in any reading.
    forms: UnusualForms,
    /// Whether the path has [`readings`](NormalPath::readings) other than itself.
    has_readings: bool,
}

/// A path prefix for `strip_prefix` and `add_prefix`, in normal form: empty, or `/a/b` without a
/// trailing slash.
///
/// Replacing a prefix that ends between two segments with another one keeps a path in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPrefix(Box<str>);

impl<'a> NormalPath<'a> {
    /// Brings `raw`, the path of a request target without its query, into normal form.
    ///
    /// Takes time linear in the length. Allocates only if something has to be rewritten, or if the
    /// path has an encoded slash or a double escape.
    ///
    /// # Errors
    ///
    /// A [`PathRefusal`] for every path that two backends could interpret differently, unless the
    /// forms in which they differ are all `accepted`.
    pub fn parse(raw: &'a str, accepted: UnusualForms) -> Result<Self, PathRefusal> {
        if !raw.starts_with('/') {
            return Err(PathRefusal::NotAbsolute);
        }
        let path = normal_form::normalize(raw)?;
        match path.forms().first_not_in(accepted) {
            Some(form) => Err(PathRefusal::Unusual(form)),
            None => Ok(path),
        }
    }

    /// Wraps text and marks of a path that [`NormalPath::parse`] returned before, without checking
    /// them again.
    ///
    /// Any others would make the decision about the request wrong. For a path that is stored next
    /// to the request target that it was parsed from.
    pub(crate) fn assume_normal(text: &'a str, marks: PathMarks) -> Self {
        debug_assert!(text.starts_with('/'), "a normal path is absolute");
        Self { text: Cow::Borrowed(text), marks }
    }

    /// The marks, to be stored.
    pub(crate) fn marks(&self) -> PathMarks {
        self.marks
    }

    /// The whole path, as it is matched and, byte for byte, as it is forwarded.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The segments between slashes. `/` has one, which is empty; `/a/` has two, and the last is
    /// empty.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.text[1..].split('/')
    }

    /// Whether the path has a percent escape.
    pub(super) fn has_escapes(&self) -> bool {
        self.marks.has_escapes
    }

    /// Everything that a backend may make of the path, except the path itself. Empty for most
    /// paths. `None` if there are too many.
    pub(super) fn readings(&self) -> Option<Vec<Reading>> {
        if self.marks.has_readings { readings::readings(&self.text, self.marks.forms) } else { Some(Vec::new()) }
    }

    /// The unusual forms that the path has, as it is or as a backend may read it. Lets the caller
    /// parse with [`UnusualForms::ALL`] before it knows the route, which accepts them or not.
    #[must_use]
    pub fn forms(&self) -> UnusualForms {
        self.marks.forms
    }
}

impl PathPrefix {
    /// Parses a prefix as the operator writes it. `/` alone is the empty prefix; a trailing slash
    /// is dropped.
    ///
    /// # Errors
    ///
    /// The [`PathRefusal`] that a request with this path would get from a route that accepts no
    /// unusual form.
    pub fn parse(text: &str) -> Result<Self, PathRefusal> {
        let path = NormalPath::parse(text, UnusualForms::NONE)?;
        let text = path.as_str();
        Ok(Self(text.strip_suffix('/').unwrap_or(text).into()))
    }

    /// Empty, or `/a/b` without a trailing slash.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The prefix's segments. The empty prefix has none.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/').skip(1)
    }
}

#[cfg(test)]
mod tests;
