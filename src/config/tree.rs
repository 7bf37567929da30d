//! The parsed file before it becomes structs: a tree of TOML values with their spans.
//!
//! The loader does three things with it: it assigns a path and a line to each key, replaces
//! references to the environment, and removes what cannot be deserialized, so that the rest can be.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::environment::{EnvironmentReferences, substitute};
use super::key_path::{KeyLines, child, element};
use super::problem::{Problems, quoted};

/// The positions of the line breaks of a text.
#[derive(Debug)]
pub(super) struct LineIndex(Vec<usize>);

impl LineIndex {
    pub(super) fn new(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    /// The line of a byte, counted from 1.
    pub(super) fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|&newline| newline < byte) + 1
    }
}

/// One key or one element of an array, and where it is in the file.
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
    pub(super) fn new(root: &DeTable<'_>, lines: &LineIndex) -> Self {
        let mut entries = Self::default();
        entries.add_table(root, "", lines);
        entries
    }

    fn add_table(&mut self, table: &DeTable<'_>, path: &str, lines: &LineIndex) {
        for (key, value) in table {
            let path = child(path, key.get_ref());
            let line = lines.line(key.span().start);
            self.0.push(Entry { path: path.clone(), line, key: Some(key.span()), value: value.span() });
            self.add_value(value.get_ref(), &path, lines);
        }
    }

    fn add_value(&mut self, value: &DeValue<'_>, path: &str, lines: &LineIndex) {
        match value {
            DeValue::Table(table) => self.add_table(table, path, lines),
            DeValue::Array(elements) => {
                for (index, value) in elements.iter().enumerate() {
                    let path = element(path, index);
                    let line = lines.line(value.span().start);
                    self.0.push(Entry { path: path.clone(), line, key: None, value: value.span() });
                    self.add_value(value.get_ref(), &path, lines);
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

    /// The entry that an error at `span` is about: the key or value with exactly this span, else
    /// the smallest value around it.
    pub(super) fn at(&self, span: &Range<usize>) -> Option<&Entry> {
        let exact = |entry: &&Entry| entry.key.as_ref() == Some(span) || entry.value == *span;
        // An array and its only element can have the same span; the longer path is that of the
        // element.
        self.0.iter().filter(exact).max_by_key(|entry| entry.path.len()).or_else(|| {
            let around = |range: &Range<usize>| range.start <= span.start && span.end <= range.end;
            self.0.iter().filter(|entry| around(&entry.value)).min_by_key(|entry| entry.value.len())
        })
    }
}

/// Replaces references to the environment in every string. If a reference cannot be replaced, the
/// function reports it and removes the string.
pub(super) fn replace_references(
    root: &mut DeTable<'_>,
    entries: &Entries,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) -> EnvironmentReferences {
    let mut references = EnvironmentReferences::default();
    let mut failed = Vec::new();
    for_each_string(root, &mut |span, text| match substitute(text, environment, &mut references) {
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
        remove(root, entry);
        problems.mark_removed(entry.path.clone());
    }
    references
}

fn for_each_string<'i>(table: &mut DeTable<'i>, visit: &mut dyn FnMut(Range<usize>, &mut Cow<'i, str>)) {
    for (_, value) in table.iter_mut() {
        for_each_string_in(value, visit);
    }
}

fn for_each_string_in<'i>(value: &mut Spanned<DeValue<'i>>, visit: &mut dyn FnMut(Range<usize>, &mut Cow<'i, str>)) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => visit(span, text),
        DeValue::Array(elements) => elements.iter_mut().for_each(|element| for_each_string_in(element, visit)),
        DeValue::Table(table) => for_each_string(table, visit),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}

/// Removes `entry` from the tree. An element of an array of tables is replaced by an empty table,
/// so that the elements after it keep their indexes.
pub(super) fn remove(table: &mut DeTable<'_>, entry: &Entry) {
    let kept = std::mem::take(table);
    for (key, mut value) in kept {
        if !(entry.key == Some(key.span()) && value.span() == entry.value) {
            remove_from_value(value.get_mut(), entry);
            table.insert(key, value);
        }
    }
}

fn remove_from_value<'i>(value: &mut DeValue<'i>, entry: &Entry) {
    match value {
        DeValue::Table(table) => remove(table, entry),
        DeValue::Array(elements) => {
            let is_entry = |value: &Spanned<DeValue<'i>>| entry.key.is_none() && value.span() == entry.value;
            let has_tables = elements.iter().any(|value| value.get_ref().is_table());
            let kept = std::mem::replace(elements, DeArray::new());
            for mut value in kept {
                if !is_entry(&value) {
                    remove_from_value(value.get_mut(), entry);
                    elements.push(value);
                } else if has_tables {
                    elements.push(Spanned::new(value.span(), DeValue::Table(DeTable::new())));
                }
            }
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {}
    }
}
