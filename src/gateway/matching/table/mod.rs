//! Route table: one tree of path segments for each host pattern, searched without allocating.
//!
//! Cost: a node of the tree stands for one prefix of a pattern and has one parent, so a search
//! visits each node at most once, even when it backtracks, and never goes deeper than the patterns.
//! At each segment there are two branches, the literal and the bound segment (and literals that
//! differ only in escapes, if the operator writes such patterns). The search backtracks only where
//! patterns share a prefix up to a bound segment. So the work is at most the length of the path
//! times the number of patterns that share its prefix; in practice it is one binary search per
//! segment. A client can make the path longer but cannot add branches.
//!
//! A path with escapes is looked up once more as a backend reads it that decodes them, and a path
//! that backends may cut or merge once for each of its readings. Their number is limited.

mod leaf;
mod outcome;
mod tree;

use http::Method;

use self::leaf::Leaf;
pub(crate) use self::outcome::Conflict;
pub use self::outcome::RouteMatch;
use self::tree::{Comparison, Node};
use super::pattern::{HostPattern, PathPattern, is_reserved_path};
use crate::gateway::matching::host::Host;
use crate::gateway::matching::path::{NormalPath, UnusualForms};

/// What a route matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The hosts; `None` matches any host.
    pub host: Option<HostPattern>,
    /// The paths.
    pub path: PathPattern,
    /// The methods; an empty list matches every method. `GET` includes `HEAD`.
    pub methods: Vec<Method>,
    /// The unusual forms of path that the route accepts.
    pub unusual_paths: UnusualForms,
}

/// All routes, ready to be matched.
#[derive(Debug, Default)]
pub struct RouteTable {
    /// Trees of exact hosts, sorted by name.
    exact: Vec<(Box<str>, Node)>,
    /// Trees of wildcard hosts, sorted by the part after `*.`.
    wildcard: Vec<(Box<str>, Node)>,
    /// The tree of the routes without a host.
    any_host: Node,
    /// The unusual forms that each route accepts.
    unusual_paths: Vec<UnusualForms>,
    /// Whether a pattern has an escape. Then even a path without escapes can be interpreted as that
    /// pattern.
    has_escapes: bool,
}

impl RouteTable {
    /// Builds the table. A route is identified by its index in `patterns`.
    ///
    /// # Errors
    ///
    /// Every pair of routes that match the same requests.
    pub fn build(patterns: Vec<Pattern>) -> Result<Self, Vec<Conflict>> {
        let mut table = Self::default();
        let mut conflicts = Vec::new();
        for (index, pattern) in patterns.into_iter().enumerate() {
            table.has_escapes |= pattern.path.has_escapes();
            table.unusual_paths.push(pattern.unusual_paths);
            let root = match &pattern.host {
                None => &mut table.any_host,
                Some(host) if host.is_wildcard() => get_or_insert(&mut table.wildcard, host.name()),
                Some(host) => get_or_insert(&mut table.exact, host.name()),
            };
            root.leaf_for(&pattern.path).add(index, &pattern.methods, &mut conflicts);
        }
        if conflicts.is_empty() { Ok(table) } else { Err(conflicts) }
    }

    /// Finds the route for a request.
    #[must_use]
    pub fn find(&self, host: &Host, path: &NormalPath<'_>, method: &Method) -> RouteMatch {
        let host = host.name();
        let leaf = self.find_leaf(host, path.as_str(), Comparison::Exact);
        let found = leaf.map_or(RouteMatch::NotFound, |leaf| leaf.find(method));
        if !path.forms().is_empty()
            && let Some(refused) = self.refuse_form(&found, path.forms())
        {
            return refused;
        }
        if self.is_ambiguous(leaf, host, path) { RouteMatch::Ambiguous } else { found }
    }

    /// The refusal of a path with these forms, unless a route was found that accepts all of them.
    /// Such a path matches fewer patterns than what some backends make of it: 404 and 405 would say
    /// that there is no such route.
    fn refuse_form(&self, found: &RouteMatch, forms: UnusualForms) -> Option<RouteMatch> {
        let route = match found {
            RouteMatch::Found(index) => Some(*index),
            RouteMatch::Ambiguous
            | RouteMatch::MethodNotAllowed(_)
            | RouteMatch::NotFound
            | RouteMatch::UnusualForm { .. } => None,
        };
        let accepted = route.map_or(UnusualForms::NONE, |index| self.unusual_paths[index]);
        forms.first_not_in(accepted).map(|form| RouteMatch::UnusualForm { form, route })
    }

    /// Whether a backend may read `path`, which matches `leaf` as it is sent, as a path that
    /// matches something else, or that the gateway serves itself.
    fn is_ambiguous(&self, leaf: Option<&Leaf>, host: &str, path: &NormalPath<'_>) -> bool {
        let agrees = |reading: &str, may_be_unknown| match (leaf, self.find_leaf(host, reading, Comparison::Decoded)) {
            (Some(one), Some(other)) => std::ptr::eq(one, other),
            (None, None) => true,
            (Some(_), None) => may_be_unknown,
            (None, Some(_)) => false,
        };
        if (self.has_escapes || path.has_escapes()) && !agrees(path.as_str(), false) {
            return true;
        }
        let Some(readings) = path.readings() else { return true };
        // A route accepts an encoded slash as part of a name, which `{id}` binds. With the slash as
        // a separator, no pattern need match; only one of another route would be bypassed.
        readings.iter().any(|reading| is_reserved_path(&reading.text) || !agrees(&reading.text, reading.splits_names))
    }

    /// All routes, the most specific first, as the operator is shown them.
    #[must_use]
    pub fn by_precedence(&self) -> Vec<usize> {
        let mut wildcard: Vec<_> = self.wildcard.iter().collect();
        wildcard.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        let roots = self.exact.iter().chain(wildcard).map(|(_, root)| root).chain([&self.any_host]);
        let mut order = Vec::new();
        roots.for_each(|root| root.append_to(&mut order));
        order
    }

    fn find_leaf(&self, host: &str, path: &str, comparison: Comparison) -> Option<&Leaf> {
        let text = Some(&path[1..]);
        if self.exact.is_empty() && self.wildcard.is_empty() {
            return self.any_host.find_leaf(text, comparison);
        }
        let by_suffix = || {
            // From left to right, so that the longest suffix comes first.
            let suffixes = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
            suffixes
                .filter_map(|suffix| lookup(&self.wildcard, suffix))
                .find_map(|root| root.find_leaf(text, comparison))
        };
        lookup(&self.exact, host)
            .and_then(|root| root.find_leaf(text, comparison))
            .or_else(by_suffix)
            .or_else(|| self.any_host.find_leaf(text, comparison))
    }
}

/// The tree of a host, which is inserted if it does not exist.
fn get_or_insert<'n>(hosts: &'n mut Vec<(Box<str>, Node)>, name: &str) -> &'n mut Node {
    let at = hosts.binary_search_by(|(host, _)| (**host).cmp(name)).unwrap_or_else(|index| {
        hosts.insert(index, (name.into(), Node::default()));
        index
    });
    &mut hosts[at].1
}

fn lookup<'n>(hosts: &'n [(Box<str>, Node)], name: &str) -> Option<&'n Node> {
    hosts.binary_search_by(|(host, _)| (**host).cmp(name)).ok().map(|at| &hosts[at].1)
}

#[cfg(test)]
mod tests;
