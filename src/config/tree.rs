//! The parsed file before it becomes structs: TOML values that still know where they stood.
//!
//! Three things are done on it: every key gets its path and line, references to the environment are replaced, and what does not fit is taken
//! out, so that what stands beside it can be looked at too.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::environment::{Taken, substitute};
use super::key_path::{KeyLines, child, element};
use super::problem::{Problems, quoted};

/// Where a byte of the text is.
#[derive(Debug)]
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|&newline| newline < byte) + 1
    }
}

/// One key or element, as it stood in the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) line: usize,
    key: Option<Range<usize>>,
    value: Range<usize>,
}

/// All keys and elements of the file, in no particular order.
#[derive(Debug, Default)]
pub(super) struct Entries(Vec<Entry>);

impl Entries {
    pub(super) fn of(root: &DeTable<'_>, lines: &Lines) -> Self {
        let mut entries = Self::default();
        entries.table(root, "", lines);
        entries
    }

    fn table(&mut self, table: &DeTable<'_>, path: &str, lines: &Lines) {
        for (key, value) in table {
            let path = child(path, key.get_ref());
            let line = lines.line(key.span().start);
            self.0.push(Entry { path: path.clone(), line, key: Some(key.span()), value: value.span() });
            self.value(value.get_ref(), &path, lines);
        }
    }

    fn value(&mut self, value: &DeValue<'_>, path: &str, lines: &Lines) {
        match value {
            DeValue::Table(table) => self.table(table, path, lines),
            DeValue::Array(elements) => {
                for (index, value) in elements.iter().enumerate() {
                    let path = element(path, index);
                    let line = lines.line(value.span().start);
                    self.0.push(Entry { path: path.clone(), line, key: None, value: value.span() });
                    self.value(value.get_ref(), &path, lines);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    pub(super) fn key_lines(&self) -> KeyLines {
        let mut key_lines = KeyLines::default();
        for entry in &self.0 {
            key_lines.insert(&entry.path, entry.line);
        }
        key_lines
    }

    /// What an error at `span` is about: the key or value that has exactly this span, else the smallest around it.
    pub(super) fn at(&self, span: &Range<usize>) -> Option<&Entry> {
        let exact = |entry: &&Entry| entry.key.as_ref() == Some(span) || entry.value == *span;
        // Of equal spans the longer path is the deeper one: an array of one element in brackets of its own.
        self.0.iter().filter(exact).max_by_key(|entry| entry.path.len()).or_else(|| {
            let around = |range: &Range<usize>| range.start <= span.start && span.end <= range.end;
            self.0.iter().filter(|entry| around(&entry.value)).min_by_key(|entry| entry.value.len())
        })
    }
}

/// Replaces references to the environment in every string. One that cannot be replaced is reported, and its string left out.
pub(super) fn replace_references(
    root: &mut DeTable<'_>,
    entries: &Entries,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> Taken {
    let mut taken = Taken::default();
    let mut failed = Vec::new();
    for_each_string(root, &mut |span, text| match substitute(text, environment, &mut taken) {
        Ok(replaced) if replaced == **text => {}
        Ok(replaced) => *text = Cow::Owned(replaced),
        Err(errors) => failed.push((span, text.to_string(), errors)),
    });
    for (span, text, errors) in failed {
        let Some(entry) = entries.at(&span) else { continue };
        for error in errors {
            let what = format!("{}: {error}", quoted(&text));
            problems.push(entry.path.clone(), Some(entry.line), what, Some(error.hint()));
        }
        take_out(root, entry);
        problems.leave_out(entry.path.clone());
    }
    taken
}

fn for_each_string<'i>(table: &mut DeTable<'i>, visit: &mut dyn FnMut(Range<usize>, &mut Cow<'i, str>)) {
    for (_, value) in table.iter_mut() {
        strings_of(value, visit);
    }
}

fn strings_of<'i>(value: &mut Spanned<DeValue<'i>>, visit: &mut dyn FnMut(Range<usize>, &mut Cow<'i, str>)) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => visit(span, text),
        DeValue::Array(elements) => elements.iter_mut().for_each(|element| strings_of(element, visit)),
        DeValue::Table(table) => for_each_string(table, visit),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// Takes `entry` out of the tree. A table in a list becomes an empty one, so that those behind it keep their numbers.
pub(super) fn take_out(root: &mut DeTable<'_>, entry: &Entry) {
    out_of_table(root, entry);
}

fn out_of_table(table: &mut DeTable<'_>, entry: &Entry) {
    let kept = std::mem::take(table);
    for (key, mut value) in kept {
        if !(entry.key == Some(key.span()) && value.span() == entry.value) {
            out_of_value(value.get_mut(), entry);
            table.insert(key, value);
        }
    }
}

fn out_of_value<'i>(value: &mut DeValue<'i>, entry: &Entry) {
    match value {
        DeValue::Table(table) => out_of_table(table, entry),
        DeValue::Array(elements) => {
            let is_it = |value: &Spanned<DeValue<'i>>| entry.key.is_none() && value.span() == entry.value;
            let of_tables = elements.iter().any(|value| value.get_ref().is_table());
            let kept = std::mem::replace(elements, DeArray::new());
            for mut value in kept {
                if !is_it(&value) {
                    out_of_value(value.get_mut(), entry);
                    elements.push(value);
                } else if of_tables {
                    elements.push(Spanned::new(value.span(), DeValue::Table(DeTable::new())));
                }
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}
