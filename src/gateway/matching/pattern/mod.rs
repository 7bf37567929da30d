//! Route patterns: what an operator writes for `host` and `path`.
//!
//! Patterns are plain: there is no expression language, so `.` is a dot and an unknown brace is an error. Literals are kept in the
//! normal form of request paths, and what a request path is refused for cannot be written in a pattern: it could never match.

use std::fmt;

use thiserror::Error;

use crate::gateway::matching::host::{Host, HostRefusal};
use crate::gateway::matching::path::{NormalPath, PathParameters, PathPrefix, PathRefusal};

/// Hosts that a route is for: one name, or `*.example.com`, which is every name with at least one label more.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    name: Box<str>,
    is_wildcard: bool,
}

/// Paths that a route is for: `/a/b` exactly, `/a/{id}/b` with one bound segment, `/a/*` for `/a`, `/a/` and everything below.
///
/// Comparing two patterns compares the names of bound segments too; [`RouteTable`](super::RouteTable) does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    pub(super) segments: Box<[Segment]>,
    /// Ends with `*`.
    pub(super) has_rest: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    /// Any one segment that is not empty.
    Bound(Box<str>),
    /// This text. The empty one, which only stands last, is the trailing slash.
    Literal(Box<str>),
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidPattern {
    /// A brace that does not enclose a whole segment.
    #[error("`{}` has a brace that does not enclose the whole segment", .segment.escape_debug())]
    Brace {
        /// The segment.
        segment: String,
    },
    /// Two bound segments of one name.
    #[error("binds `{name}` twice")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// A host that is neither a name, an address, nor `*.` and a name.
    #[error("the host {0}")]
    Host(#[from] HostRefusal),
    /// A port in a host: routes are routed by name alone.
    #[error("the host has a port")]
    HostPort,
    /// A name that is not a letter or `_` followed by letters, digits and `_`.
    #[error("`{}` is not a name for a bound segment", .name.escape_debug())]
    InvalidName {
        /// What is between the braces.
        name: String,
    },
    /// What a request path would be refused for.
    #[error("the path {0}")]
    Path(#[from] PathRefusal),
    /// A `*` that is not the whole last segment.
    #[error("has a `*` that is not the whole last segment")]
    Star,
}

impl HostPattern {
    /// Reads a host as an operator writes it. Case and a trailing dot do not matter.
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

    /// The name, in lower case; of a wildcard what follows `*.`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Does the pattern start with `*.`?
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
    /// Reads a path as an operator writes it.
    ///
    /// `;` is refused even where the route allows it in requests: a literal is compared with and without parameters.
    ///
    /// # Errors
    ///
    /// [`InvalidPattern`], with what is wrong first from the left.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut written: Vec<&str> = text.strip_prefix('/').ok_or(PathRefusal::NotAbsolute)?.split('/').collect();
        let has_rest = written.pop_if(|last| *last == "*").is_some();
        let names = written.iter().map(|segment| bound_name(segment)).collect::<Result<Vec<_>, _>>()?;
        for (index, name) in names.iter().enumerate() {
            if let Some(name) = name
                && names[..index].contains(&Some(*name))
            {
                return Err(InvalidPattern::DuplicateName { name: (*name).to_owned() });
            }
        }
        // Bound segments and the star stand in as a letter, so that the rest is judged as the path of a request would be.
        let mut example = String::with_capacity(text.len());
        for (segment, name) in written.iter().zip(&names) {
            example.push('/');
            example.push_str(if name.is_some() { "x" } else { segment });
        }
        if has_rest {
            example.push_str("/x");
        }
        let example = NormalPath::parse(&example, PathParameters::Refuse)?;
        let segments = example
            .segments()
            .zip(names)
            .map(|(literal, name)| {
                name.map_or_else(|| Segment::Literal(literal.into()), |name| Segment::Bound(name.into()))
            })
            .collect();
        Ok(Self { segments, has_rest })
    }

    /// Do all paths that match lie under `prefix`, because the pattern's literals begin with it?
    #[must_use]
    pub fn starts_with_literal(&self, prefix: &PathPrefix) -> bool {
        self.leads_into(prefix.segments())
    }

    /// The names of the bound segments, from the left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }

    /// Name and value of each bound segment of `path`, which matches. Costs a walk along the path, no allocation.
    pub fn captures<'a>(&'a self, path: &'a NormalPath<'_>) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.segments.iter().zip(path.segments()).filter_map(|(segment, value)| Some((segment.name()?, value)))
    }

    /// Has a literal an escape?
    pub(super) fn has_escapes(&self) -> bool {
        self.segments.iter().any(|segment| matches!(segment, Segment::Literal(text) if text.contains('%')))
    }

    fn leads_into<'a>(&self, mut prefix: impl Iterator<Item = &'a str>) -> bool {
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
        f.write_str(if self.has_rest { "/*" } else { "" })
    }
}

impl Segment {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Bound(name) => Some(name),
            Self::Literal(_) => None,
        }
    }
}

/// Does the pattern claim a path that the gateway serves itself: `/.portcullis/*`, or
/// `/.well-known/oauth-protected-resource` (RFC 9728 §3) and below?
///
/// True where the literals lead there. `/*` and `/{a}/{b}` do not claim them: the gateway answers such requests before it matches.
#[must_use]
pub fn targets_reserved_path(pattern: &PathPattern) -> bool {
    RESERVED.iter().any(|reserved| pattern.leads_into(reserved.iter().copied()))
}

/// Is `path` one that the gateway serves itself, so that no route may apply?
#[must_use]
pub fn is_reserved_path(path: &NormalPath<'_>) -> bool {
    RESERVED.iter().any(|reserved| {
        let mut own = path.segments();
        reserved.iter().all(|wanted| own.next() == Some(*wanted))
    })
}

const RESERVED: [&[&str]; 2] = [&[".portcullis"], &[".well-known", "oauth-protected-resource"]];

/// The name between braces, `None` for a literal.
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
