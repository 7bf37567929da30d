//! Route table: a tree of segments for each host pattern, walked once for a request without allocating.
//!
//! Cost: each node of the tree stands for one beginning of a pattern and can be reached in one way only, so a walk visits it at most
//! once, however it turns back; and no deeper than the patterns are. There are two branches at a segment, its literal and the
//! bound one (and literals that differ only in escapes, if somebody writes such), and turning back happens only where patterns share a beginning up to the bound segment. So the work is at
//! most the path's length times the patterns that share its beginning, in practice one binary search for each segment; a client
//! can lengthen the path but not add branches.
//!
//! **Readings.** The normal form keeps `%3A` and `:` apart, and `admin;x` and `admin`; backends that decode, or cut parameters
//! off, do not. So a path with escapes or parameters is looked up as such a backend reads it, too, and unless the same
//! pattern comes out, nothing is routed: `/users/me%3Areset` must not pass by the rule of `/users/*` when there is one for
//! `/users/me:reset`.

mod leaf;
mod reading;
mod tree;

use http::{HeaderValue, Method};

use self::leaf::Leaf;
use self::reading::Reading;
use self::tree::Node;
use super::pattern::{HostPattern, PathPattern};
use crate::gateway::matching::host::Host;
use crate::gateway::matching::path::NormalPath;

/// What a route is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The hosts; `None` is any.
    pub host: Option<HostPattern>,
    /// The paths.
    pub path: PathPattern,
    /// The methods; empty is every one. `HEAD` is taken where `GET` is.
    pub methods: Vec<Method>,
}

/// Two routes that nothing tells apart: the same host and path pattern, whatever bound segments are called, and a method in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Place of the earlier one in the list given to [`RouteTable::build`].
    pub first: usize,
    /// Place of the later one.
    pub second: usize,
}

/// Which route applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteMatch {
    /// Read as written, with escapes decoded, and without `;parameters`, the path matches different patterns. What the upstream
    /// makes of it cannot be known, so no rule may be taken: to be refused as a path.
    Ambiguous,
    /// The place of the route in the list given to [`RouteTable::build`].
    Found(usize),
    /// A pattern matches, but none of its routes takes the method; the value is for `Allow` (RFC 9110 §10.2.1).
    MethodNotAllowed(HeaderValue),
    /// No pattern matches.
    NotFound,
}

/// All routes, ready to be matched.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// By name, sorted.
    exact: Vec<(Box<str>, Node)>,
    /// By what follows `*.`, sorted.
    wildcard: Vec<(Box<str>, Node)>,
    anywhere: Node,
    /// Whether a pattern has an escape, so that a path without any could be read as that pattern.
    has_escapes: bool,
}

impl RouteTable {
    /// Builds the table. Routes are known by their place in `patterns`.
    ///
    /// # Errors
    ///
    /// Every pair of routes that nothing tells apart.
    pub fn build(patterns: Vec<Pattern>) -> Result<Self, Vec<Conflict>> {
        let mut table = Self::default();
        let mut conflicts = Vec::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            table.has_escapes |= pattern.path.has_escapes();
            let root = match &pattern.host {
                None => &mut table.anywhere,
                Some(host) if host.is_wildcard() => root(&mut table.wildcard, host.name()),
                Some(host) => root(&mut table.exact, host.name()),
            };
            root.leaf_for(&pattern.path).add(index, &pattern.methods, &mut conflicts);
        }
        if conflicts.is_empty() { Ok(table) } else { Err(conflicts) }
    }

    /// The route for a request.
    #[must_use]
    pub fn find(&self, host: &Host, path: &NormalPath<'_>, method: &Method) -> RouteMatch {
        let host = host.name();
        let leaf = self.find_leaf(host, path, Reading::AsWritten);
        let is_same = |reading| match (leaf, self.find_leaf(host, path, reading)) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        };
        let text = path.as_str();
        let has_escapes = text.as_bytes().contains(&b'%');
        let is_clear = (!(self.has_escapes || has_escapes) || is_same(Reading::Decoded))
            && (!path.has_parameters() || is_same(Reading::CutThenDecoded))
            && (!(has_escapes && text.contains("%3B")) || is_same(Reading::DecodedThenCut));
        if !is_clear {
            return RouteMatch::Ambiguous;
        }
        leaf.map_or(RouteMatch::NotFound, |leaf| leaf.choose(method))
    }

    /// All routes in the order in which they are preferred: for people to read.
    #[must_use]
    pub fn by_precedence(&self) -> Vec<usize> {
        let mut wildcard: Vec<_> = self.wildcard.iter().collect();
        wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let roots = self.exact.iter().chain(wildcard).map(|(_, root)| root).chain([&self.anywhere]);
        let mut order = Vec::new();
        roots.for_each(|root| root.list(&mut order));
        order
    }

    fn find_leaf(&self, host: &str, path: &NormalPath<'_>, reading: Reading) -> Option<&Leaf> {
        let text = Some(&path.as_str()[1..]);
        if self.exact.is_empty() && self.wildcard.is_empty() {
            return self.anywhere.find_leaf(text, reading);
        }
        let by_suffix = || {
            // From the left, so that the longest suffix comes first.
            let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
            suffixes.filter_map(|suffix| lookup(&self.wildcard, suffix)).find_map(|root| root.find_leaf(text, reading))
        };
        lookup(&self.exact, host)
            .and_then(|root| root.find_leaf(text, reading))
            .or_else(by_suffix)
            .or_else(|| self.anywhere.find_leaf(text, reading))
    }
}

/// The tree of a host, made if there is none.
fn root<'n>(hosts: &'n mut Vec<(Box<str>, Node)>, name: &str) -> &'n mut Node {
    let at = hosts.binary_search_by(|(own, _)| (**own).cmp(name)).unwrap_or_else(|place| {
        hosts.insert(place, (name.into(), Node::default()));
        place
    });
    &mut hosts[at].1
}

fn lookup<'n>(hosts: &'n [(Box<str>, Node)], name: &str) -> Option<&'n Node> {
    hosts.binary_search_by(|(own, _)| (**own).cmp(name)).ok().map(|at| &hosts[at].1)
}

#[cfg(test)]
mod tests;
