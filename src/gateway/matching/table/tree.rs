//! Tree of path segments: all patterns of one host.

use std::cmp::Ordering;

use percent_encoding::percent_decode_str;

use super::leaf::Leaf;
use super::reading::Reading;
use crate::gateway::matching::pattern::{PathPattern, Segment};

/// One beginning of a pattern.
#[derive(Debug, Default)]
pub(super) struct Node {
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

impl Node {
    pub(super) fn leaf_for(&mut self, path: &PathPattern) -> &mut Leaf {
        let mut node = self;
        for segment in &path.segments {
            node = match segment {
                Segment::Bound(_) => node.bound.get_or_insert_default(),
                Segment::Literal(text) => node.literal(text),
            };
        }
        let leaf = if path.ends_with_star { &mut node.rest } else { &mut node.end };
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
    pub(super) fn find_leaf(&self, remaining: Option<&str>, reading: Reading) -> Option<&Leaf> {
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

    pub(super) fn list(&self, order: &mut Vec<usize>) {
        if let Some(end) = &self.end {
            end.list(order);
        }
        self.literals.iter().for_each(|literal| literal.node.list(order));
        if let Some(bound) = &self.bound {
            bound.list(order);
        }
        if let Some(rest) = &self.rest {
            rest.list(order);
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
