//! Tree of path segments: all path patterns of one host pattern.

use std::cmp::Ordering;

use percent_encoding::percent_decode_str;

use super::leaf::Leaf;
use crate::gateway::matching::pattern::{PathPattern, Segment};

/// One prefix of a pattern, which may be a whole pattern.
#[derive(Debug, Default)]
pub(super) struct Node {
    /// Sorted by decoded text, then by text.
    literals: Vec<Literal>,
    /// The child for a bound segment.
    bound: Option<Box<Node>>,
    /// The routes of the pattern that ends here.
    end: Option<Leaf>,
    /// The routes of the pattern that ends here with `*`.
    star: Option<Leaf>,
}

/// How the segments of a path are compared with literals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    /// With all escapes decoded, as a backend does. A literal that is spelled alike comes first.
    Decoded,
    /// Byte for byte.
    Exact,
}

#[derive(Debug)]
struct Literal {
    text: Box<str>,
    /// `text` with all escapes decoded.
    decoded: Box<[u8]>,
    node: Node,
}

impl Node {
    /// The leaf of a pattern, which is inserted if it does not exist.
    pub(super) fn leaf_for(&mut self, path: &PathPattern) -> &mut Leaf {
        let mut node = self;
        for segment in &path.segments {
            node = match segment {
                Segment::Bound(_) => node.bound.get_or_insert_default(),
                Segment::Literal(text) => node.literal_child(text),
            };
        }
        let leaf = if path.ends_with_star { &mut node.star } else { &mut node.end };
        leaf.get_or_insert_with(Leaf::new)
    }

    /// The child for a literal, which is inserted if it does not exist.
    fn literal_child(&mut self, text: &str) -> &mut Self {
        let decoded: Box<[u8]> = percent_decode_str(text).collect();
        let order = |literal: &Literal| (&literal.decoded, &*literal.text).cmp(&(&decoded, text));
        let at = self.literals.binary_search_by(order).unwrap_or_else(|index| {
            self.literals.insert(index, Literal { text: text.into(), decoded, node: Self::default() });
            index
        });
        &mut self.literals[at].node
    }

    /// The most specific leaf below this node for the remaining path: the text after the next
    /// slash, or `None` at the end of the path.
    pub(super) fn find_leaf(&self, remaining: Option<&str>, comparison: Comparison) -> Option<&Leaf> {
        let Some(text) = remaining else { return self.end.as_ref().or(self.star.as_ref()) };
        let (segment, after) = text.split_once('/').map_or((text, None), |(segment, after)| (segment, Some(after)));
        let candidates = self.literals_like(segment);
        let is_identical = |literal: &&Literal| *literal.text == *segment;
        let identical = candidates.iter().filter(is_identical);
        let equivalent =
            candidates.iter().filter(|literal| comparison == Comparison::Decoded && !is_identical(literal));
        let bound =
            || self.bound.as_ref().filter(|_| !segment.is_empty()).and_then(|node| node.find_leaf(after, comparison));
        identical
            .chain(equivalent)
            .find_map(|literal| literal.node.find_leaf(after, comparison))
            .or_else(bound)
            .or(self.star.as_ref())
    }

    /// Appends all routes below this node to `order`, the most specific first.
    pub(super) fn append_to(&self, order: &mut Vec<usize>) {
        if let Some(end) = &self.end {
            end.append_to(order);
        }
        self.literals.iter().for_each(|literal| literal.node.append_to(order));
        if let Some(bound) = &self.bound {
            bound.append_to(order);
        }
        if let Some(star) = &self.star {
            star.append_to(order);
        }
    }

    /// The literals that equal `segment` once both are decoded; rarely more than one.
    fn literals_like(&self, segment: &str) -> &[Literal] {
        let order = |literal: &Literal| -> Ordering {
            if segment.contains('%') {
                literal.decoded.iter().copied().cmp(percent_decode_str(segment))
            } else {
                (*literal.decoded).cmp(segment.as_bytes())
            }
        };
        let start = self.literals.partition_point(|literal| order(literal).is_lt());
        let from = &self.literals[start..];
        &from[..from.iter().take_while(|literal| order(literal).is_eq()).count()]
    }
}
