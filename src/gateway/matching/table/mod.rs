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

use std::cmp::Ordering;

use http::{HeaderValue, Method};
use percent_encoding::percent_decode_str;

use super::pattern::{HostPattern, PathPattern, Segment};
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

/// One beginning of a pattern.
#[derive(Debug, Default)]
struct Node {
    /// Sorted by meaning, then text.
    literals: Vec<Literal>,
    bound: Option<Box<Node>>,
    /// Patterns that end here.
    end: Option<Leaf>,
    /// Patterns that end here with `*`.
    rest: Option<Leaf>,
}

#[derive(Debug)]
struct Literal {
    text: Box<str>,
    /// The text with all escapes decoded.
    meaning: Box<[u8]>,
    node: Node,
}

/// How a backend may read a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    AsWritten,
    Decoded,
    /// Decoded, and then parameters cut off, escaped ones too.
    DecodedThenCut,
    /// Parameters cut off, and then decoded.
    CutThenDecoded,
}

/// The routes of one pattern.
#[derive(Debug)]
struct Leaf {
    by_method: Vec<(Method, usize)>,
    any_method: Option<usize>,
    allow: HeaderValue,
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

impl Node {
    fn leaf_for(&mut self, path: &PathPattern) -> &mut Leaf {
        let mut node = self;
        for segment in &path.segments {
            node = match segment {
                Segment::Bound(_) => node.bound.get_or_insert_default(),
                Segment::Literal(text) => node.literal(text),
            };
        }
        let leaf = if path.has_rest { &mut node.rest } else { &mut node.end };
        leaf.get_or_insert_with(Leaf::new)
    }

    /// The child under `text`, made if there is none.
    fn literal(&mut self, text: &str) -> &mut Self {
        let meaning: Box<[u8]> = percent_decode_str(text).collect();
        let order = |own: &Literal| (&own.meaning, &*own.text).cmp(&(&meaning, text));
        let at = self.literals.binary_search_by(order).unwrap_or_else(|place| {
            self.literals.insert(place, Literal { text: text.into(), meaning, node: Self::default() });
            place
        });
        &mut self.literals[at].node
    }

    /// The best leaf below, for what is left of the path: `None` when it has ended, else the text after the last slash.
    fn find_leaf(&self, remaining: Option<&str>, reading: Reading) -> Option<&Leaf> {
        let Some(text) = remaining else { return self.end.as_ref().or(self.rest.as_ref()) };
        let (segment, after) = text.split_once('/').map_or((text, None), |(segment, after)| (segment, Some(after)));
        let segment = reading.of(segment);
        let alike = self.alike(segment);
        let written = alike.iter().filter(|literal| *literal.text == *segment);
        let decoded = alike.iter().filter(|literal| reading != Reading::AsWritten && *literal.text != *segment);
        let bound =
            || self.bound.as_ref().filter(|_| !segment.is_empty()).and_then(|node| node.find_leaf(after, reading));
        written
            .chain(decoded)
            .find_map(|literal| literal.node.find_leaf(after, reading))
            .or_else(bound)
            .or(self.rest.as_ref())
    }

    fn list(&self, order: &mut Vec<usize>) {
        let of_leaf = |leaf: &Leaf, order: &mut Vec<usize>| {
            for index in leaf.by_method.iter().map(|(_, index)| *index).chain(leaf.any_method) {
                // A route stands once under each of its methods.
                if !order.contains(&index) {
                    order.push(index);
                }
            }
        };
        if let Some(end) = &self.end {
            of_leaf(end, order);
        }
        self.literals.iter().for_each(|literal| literal.node.list(order));
        if let Some(bound) = &self.bound {
            bound.list(order);
        }
        if let Some(rest) = &self.rest {
            of_leaf(rest, order);
        }
    }

    /// The children that mean the same as `segment`; hardly ever more than one.
    fn alike(&self, segment: &str) -> &[Literal] {
        let order = |own: &Literal| -> Ordering {
            if segment.contains('%') {
                own.meaning.iter().copied().cmp(percent_decode_str(segment))
            } else {
                (*own.meaning).cmp(segment.as_bytes())
            }
        };
        let start = self.literals.partition_point(|own| order(own).is_lt());
        let from = &self.literals[start..];
        &from[..from.iter().take_while(|own| order(own).is_eq()).count()]
    }
}

impl Reading {
    fn of(self, segment: &str) -> &str {
        match self {
            Self::AsWritten | Self::Decoded => segment,
            Self::CutThenDecoded => segment.split(';').next().unwrap_or(segment),
            Self::DecodedThenCut => {
                let end = segment.find(';').into_iter().chain(segment.find("%3B")).min();
                &segment[..end.unwrap_or(segment.len())]
            }
        }
    }
}

impl Leaf {
    fn new() -> Self {
        Self { by_method: Vec::new(), any_method: None, allow: HeaderValue::from_static("") }
    }

    fn add(&mut self, route: usize, methods: &[Method], conflicts: &mut Vec<Conflict>) {
        if methods.is_empty() {
            match self.any_method {
                Some(first) => conflicts.push(Conflict { first, second: route }),
                None => self.any_method = Some(route),
            }
            return;
        }
        for method in methods {
            match self.listed(method) {
                Some(first) if first == route => {}
                Some(first) => {
                    let conflict = Conflict { first, second: route };
                    if !conflicts.contains(&conflict) {
                        conflicts.push(conflict);
                    }
                }
                None => self.by_method.push((method.clone(), route)),
            }
        }
        self.allow = self.allowed_methods();
    }

    fn listed(&self, method: &Method) -> Option<usize> {
        self.by_method.iter().find(|(listed, _)| listed == method).map(|(_, route)| *route)
    }

    /// A route that lists the method before one that lists none. `HEAD` is what `GET` answers without the content
    /// (RFC 9110 §9.3.2), so it goes where `GET` goes unless a route asks for it by name.
    fn choose(&self, method: &Method) -> RouteMatch {
        self.listed(method)
            .or_else(|| if method == Method::HEAD { self.listed(&Method::GET) } else { None })
            .or(self.any_method)
            .map_or_else(|| RouteMatch::MethodNotAllowed(self.allow.clone()), RouteMatch::Found)
    }

    fn allowed_methods(&self) -> HeaderValue {
        let mut names: Vec<&str> = self.by_method.iter().map(|(method, _)| method.as_str()).collect();
        if names.contains(&"GET") {
            names.push("HEAD");
        }
        names.sort_unstable();
        names.dedup();
        HeaderValue::from_str(&names.join(", ")).expect("methods are tokens (RFC 9110 §9.1)")
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
