//! Route patterns: the `host` and `path` of a route, as the operator writes them.
//!
//! Patterns are not regular expressions: `.` is a dot, and an unmatched brace is an error. Literals
//! are stored in the normal form of request paths. A path that would be refused in a request is
//! refused in a pattern too, because it could never match.

use std::fmt;

use thiserror::Error;

use crate::gateway::matching::host::{Host, HostRefusal};
use crate::gateway::matching::path::{NormalPath, PathPrefix, PathRefusal, UnusualForms};

/// The hosts that a route matches: one name, or `*.example.com`, which is every name with at least
/// one more label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: Box<str>,
    is_wildcard: bool,
}

/// The paths that a route matches: `/a/b` exactly, `/a/{id}/b` with one bound segment, `/a/*` for
/// `/a`, `/a/` and everything below.
///
/// `==` compares the names of bound segments too; [`RouteTable`](super::RouteTable) ignores them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    pub(super) segments: Box<[Segment]>,
    /// Whether the pattern ends with `*`.
    pub(super) ends_with_star: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Matches any one segment that is not empty.
    Bound(Box<str>),
    /// Matches this text. An empty literal is always the last segment and means a trailing slash.
    Literal(Box<str>),
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// The braces do not enclose the whole segment.
    #[error("the braces in `{}` do not enclose the whole segment", .segment.escape_debug())]
    Brace {
        /// The segment.
        segment: String,
    },
    /// Two bound segments have the same name.
    #[error("the name `{name}` is used twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The host is neither a name, an address, nor `*.` and a name.
    #[error(transparent)]
    Host(#[from] HostRefusal),
    /// The host has a port. Routes match the name only.
    #[error("the host has a port")]
    HostPort,
    /// A name is not a letter or `_` followed by letters, digits and `_`.
    #[error("`{}` is not a valid name for a bound segment", .name.escape_debug())]
    InvalidName {
        /// The text between the braces.
        name: String,
    },
    /// A request with this path would be refused.
    #[error(transparent)]
    Path(#[from] PathRefusal),
    /// A `*` is not the whole last segment.
    #[error("`*` is allowed only as the whole last segment")]
    Star,
}

impl HostPattern {
    /// Parses a host as the operator writes it. Case and a trailing dot do not matter.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern::Host`] or [`InvalidPattern::HostPort`].
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let (name, is_wildcard) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        if is_wildcard && name.starts_with('[') {
            return Err(HostRefusal::InvalidName.into());
        }
        let host = Host::parse(name)?;
        if host.port().is_some() {
            return Err(InvalidPattern::HostPort);
        }
        Ok(Self { name: host.name().into(), is_wildcard })
    }

    /// The name, in lower case. For a wildcard, the part after `*.`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the pattern starts with `*.`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.is_wildcard
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.is_wildcard { "*." } else { "" }, self.name)
    }
}

impl PathPattern {
    /// Parses a path as the operator writes it.
    ///
    /// Unusual forms are refused even if the route accepts them in requests: a literal with one
    /// would itself have several readings.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`], for the first problem that is found.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut written: Vec<&str> = text.strip_prefix('/').ok_or(PathRefusal::NotAbsolute)?.split('/').collect();
        let ends_with_star = written.pop_if(|last| *last == "*").is_some();
        let names = written.iter().map(|segment| bound_name(segment)).collect::<Result<Vec<_>, _>>()?;
        for (index, name) in names.iter().enumerate() {
            if let Some(name) = name
                && names[..index].contains(&Some(*name))
            {
                return Err(InvalidPattern::DuplicateName { name: (*name).to_owned() });
            }
        }
        // Bound segments and the star are replaced with a letter. What remains is then checked and
        // normalized like the path of a request.
        let mut example = String::with_capacity(text.len());
        for (segment, name) in written.iter().zip(&names) {
            example.push('/');
            example.push_str(if name.is_some() { "x" } else { segment });
        }
        if ends_with_star {
            example.push_str("/x");
        }
        let example = NormalPath::parse(&example, UnusualForms::NONE)?;
        let segments = example
            .segments()
            .zip(names)
            .map(|(literal, name)| {
                name.map_or_else(|| Segment::Literal(literal.into()), |name| Segment::Bound(name.into()))
            })
            .collect();
        Ok(Self { segments, ends_with_star })
    }

    /// Whether all matching paths are below `prefix`, because the pattern's literals begin with it.
    #[must_use]
    pub fn starts_with_literal(&self, prefix: &PathPrefix) -> bool {
        self.has_literal_prefix(prefix.segments())
    }

    /// Whether the pattern ends with `*`.
    #[must_use]
    pub fn is_subtree(&self) -> bool {
        self.ends_with_star
    }

    /// A path that the pattern matches, with `x` for each bound segment and without what `*` stands
    /// for.
    #[must_use]
    pub fn example(&self) -> String {
        self.example_with(ToOwned::to_owned)
    }

    /// A path that the pattern would match if the case of letters did not matter. `None` if its
    /// literals have no letters.
    #[must_use]
    pub fn example_in_other_case(&self) -> Option<String> {
        let has_lower = |text: &str| text.bytes().any(|byte| byte.is_ascii_lowercase());
        let other = self.example_with(|literal| {
            // In upper case, escapes stay in normal form.
            if has_lower(literal) { literal.to_ascii_uppercase() } else { lower_case(literal) }
        });
        (other != self.example()).then(|| if self.ends_with_star { other + "/x" } else { other })
    }

    /// The path of the pattern's segments, if the last of them is a literal with a name.
    #[must_use]
    pub fn last_literal_path(&self) -> Option<String> {
        match self.segments.last()? {
            Segment::Literal(text) => (!text.is_empty()).then(|| self.example()),
            Segment::Bound(_) => None,
        }
    }

    fn example_with(&self, spell: impl Fn(&str) -> String) -> String {
        let segments = self.segments.iter().map(|segment| match segment {
            Segment::Bound(_) => "/x".to_owned(),
            Segment::Literal(text) => format!("/{}", spell(text)),
        });
        segments.collect()
    }

    /// Whether a literal contains a percent escape.
    pub(super) fn has_escapes(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Literal(text) if text.contains('%')))
    }

    fn has_literal_prefix<'a>(&self, mut prefix: impl Iterator<Item = &'a str>) -> bool {
        let mut own = self.segments.iter();
        prefix.all(|wanted| matches!(own.next(), Some(Segment::Literal(literal)) if **literal == *wanted))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Bound(name) => write!(f, "/{{{name}}}")?,
                Segment::Literal(text) => write!(f, "/{text}")?,
            }
        }
        f.write_str(if self.ends_with_star { "/*" } else { "" })
    }
}

/// Whether the pattern's literals name a path that the gateway serves itself: `/.portcullis/*`, or
/// `/.well-known/oauth-protected-resource` (RFC 9728 §3) and below.
///
/// `/*` and `/{a}/{b}` also match these paths but are allowed: the gateway responds to such
/// requests before it matches routes.
#[must_use]
pub(crate) fn targets_reserved_path(pattern: &PathPattern) -> bool {
    RESERVED.iter().any(|reserved| pattern.has_literal_prefix(reserved.iter().copied()))
}

/// Whether the gateway serves `path`, which is in normal form, itself, so that no route may match
/// it.
#[must_use]
pub(crate) fn is_reserved_path(path: &str) -> bool {
    RESERVED.iter().any(|reserved| {
        let mut own = path[1..].split('/');
        reserved.iter().all(|wanted| own.next() == Some(*wanted))
    })
}

const RESERVED: [&[&str]; 2] = [&[".portcullis"], &[".well-known", "oauth-protected-resource"]];

/// `text` in lower case, except for the digits of escapes.
fn lower_case(text: &str) -> String {
    let mut lower = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        lower.push_str(&before.to_ascii_lowercase());
        let end = escape.len().min(3);
        lower.push_str(&escape[..end]);
        rest = &escape[end..];
    }
    lower.push_str(&rest.to_ascii_lowercase());
    lower
}

/// The name between the braces, or `None` for a literal.
fn bound_name(segment: &str) -> Result<Option<&str>, InvalidPattern> {
    if let Some(name) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        return if is_name { Ok(Some(name)) } else { Err(InvalidPattern::InvalidName { name: name.to_owned() }) };
    }
    if segment.contains(['{', '}']) {
        return Err(InvalidPattern::Brace { segment: segment.to_owned() });
    }
    if segment.contains('*') {
        return Err(InvalidPattern::Star);
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
