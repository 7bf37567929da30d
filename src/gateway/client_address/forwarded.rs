//! Forwarded header: elements and their parameters, parsed strictly (RFC 7239 §4).

use std::borrow::Cow;
use std::net::IpAddr;

use super::parse_node;
use crate::primitives::field_syntax::is_token;

/// The element does not match the grammar, or has a parameter twice that the gateway reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The elements of one line, last to first.
///
/// The line is split from the right. So text that the client wrote at the start, such as an
/// unclosed quote, cannot change where an element that a proxy appended begins.
pub(super) fn split_from_right(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut remaining = Some(line);
    std::iter::from_fn(move || {
        let text = remaining?;
        let comma = last_comma(text);
        remaining = comma.map(|at| &text[..at]);
        Some(comma.map_or(text, |at| &text[at + 1..]))
    })
}

/// The last comma outside a quoted string.
fn last_comma(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            b'"' => {
                let backslashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                // In a quoted string, a quote after an odd number of backslashes is escaped.
                if !(quoted && backslashes % 2 == 1) {
                    quoted = !quoted;
                }
            }
            b',' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// The parameters of one element that the gateway reads; the others are only parsed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element<'a> {
    node: Option<Cow<'a, str>>,
    /// `proto`.
    pub proto: Option<Cow<'a, str>>,
    /// `host`.
    pub host: Option<Cow<'a, str>>,
}

impl<'a> Element<'a> {
    /// Parses the whole element, so that no part of a malformed element is believed.
    pub(super) fn parse(element: &'a str) -> Result<Self, Malformed> {
        let mut found = Self::default();
        let mut rest = element;
        loop {
            rest = rest.trim_start_matches([' ', '\t']);
            if let Some((name, after)) = rest.split_once('=').filter(|(name, _)| is_token(name.as_bytes())) {
                let (value, after) = parse_value(after)?;
                if found.parameter(name).is_some_and(|parameter| parameter.replace(value).is_some()) {
                    return Err(Malformed);
                }
                rest = after.trim_start_matches([' ', '\t']);
            }
            match rest.strip_prefix(';') {
                Some(after) => rest = after,
                None => return if rest.is_empty() { Ok(found) } else { Err(Malformed) },
            }
        }
    }

    fn parameter(&mut self, name: &str) -> Option<&mut Option<Cow<'a, str>>> {
        match name {
            name if name.eq_ignore_ascii_case("for") => Some(&mut self.node),
            name if name.eq_ignore_ascii_case("proto") => Some(&mut self.proto),
            name if name.eq_ignore_ascii_case("host") => Some(&mut self.host),
            _ => None,
        }
    }

    /// The address in the `for` parameter. `None` if there is no parameter, or no address in it.
    pub(super) fn address(&self) -> Option<IpAddr> {
        parse_node(self.node.as_deref()?, false)
    }
}

/// Parses a token or a quoted string (RFC 9110 §5.6.2, §5.6.4). Returns its value and the text
/// after it.
fn parse_value(text: &str) -> Result<(Cow<'_, str>, &str), Malformed> {
    let Some(inside) = text.strip_prefix('"') else {
        let (token, after) = text.split_at(text.find([';', ' ', '\t']).unwrap_or(text.len()));
        return if is_token(token.as_bytes()) { Ok((Cow::Borrowed(token), after)) } else { Err(Malformed) };
    };
    let end = inside.find(['"', '\\']).ok_or(Malformed)?;
    if inside[end..].starts_with('"') {
        return Ok((Cow::Borrowed(&inside[..end]), &inside[end + 1..]));
    }
    let mut unescaped = String::new();
    let mut characters = inside.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((Cow::Owned(unescaped), &inside[at + 1..])),
            '\\' => unescaped.push(characters.next().ok_or(Malformed)?.1),
            other => unescaped.push(other),
        }
    }
    Err(Malformed)
}
