//! Forwarded header: elements and parameters (RFC 7239 §4), strictly by the grammar.

use std::borrow::Cow;
use std::net::IpAddr;

use super::node;
use crate::primitives::field_syntax::is_token;

/// An element that does not meet the grammar, or has a parameter twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// The elements of one line, the last one first.
///
/// Found from the right: what a client put in front, an open quote say, cannot change where a proxy's own element begins.
pub(super) fn elements_from_right(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut remaining = Some(line);
    std::iter::from_fn(move || {
        let text = remaining?;
        let comma = last_comma(text);
        remaining = comma.map(|at| &text[..at]);
        Some(comma.map_or(text, |at| &text[at + 1..]))
    })
}

/// The last comma that is not within a quoted string.
fn last_comma(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in text.iter().enumerate().rev() {
        match byte {
            b'"' => {
                let slashes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                // Within a quoted string, a quote behind an odd number of backslashes is escaped.
                if !(quoted && slashes % 2 == 1) {
                    quoted = !quoted;
                }
            }
            b',' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// The address of the `for` parameter; `None` if there is none, or the element is malformed.
pub(super) fn client(element: &str) -> Option<IpAddr> {
    node(&parameter(element, "for").ok()??, false)
}

/// The `proto` parameter.
pub(super) fn proto(element: &str) -> Result<Option<Cow<'_, str>>, Malformed> {
    parameter(element, "proto")
}

/// The value of one parameter. Reads the whole element, so that what is malformed anywhere is not half believed.
fn parameter<'a>(element: &'a str, wanted: &str) -> Result<Option<Cow<'a, str>>, Malformed> {
    let mut found = None;
    let mut rest = element;
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some((name, after)) = rest.split_once('=').filter(|(name, _)| is_token(name.as_bytes())) {
            let (value, after) = value(after)?;
            if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
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

/// A token or a quoted string (RFC 9110 §5.6.2, §5.6.4), and what follows.
fn value(text: &str) -> Result<(Cow<'_, str>, &str), Malformed> {
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
