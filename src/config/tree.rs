//! The parsed file before it becomes structs: a tree of TOML values with their spans.
//!
//! The loader assigns a path and a line to each key, replaces references to the environment, and
//! removes what cannot be deserialized, so that the rest can be.
//!
//! **Removal always makes progress.** An error of serde names a span, and several keys can have the
//! same one: an array with a `[[header]]` and its only element do. [`Entries::at`] therefore
//! returns only what is still in the tree, and [`Entries::remove`] says whether it has changed the
//! tree; the loader gives up when it has not. Without these rules the loader would remove the same
//! key for ever.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::environment::{EnvironmentReferences, substitute};
use super::key_path::{KeyLines, child, element};
use super::problem::quoted;

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

/// Longest path that is recorded, in bytes. Real ones have a tenth of it. Without a limit, a table
/// with a long name and many keys would need the product of the two in memory.
const MAX_PATH_BYTES: usize = 1024;

/// One key or one element of an array, and where it is in the file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: String,
    pub(super) line: usize,
    key: Option<Range<usize>>,
    value: Range<usize>,
    is_array: bool,
    /// Whether the entry is no longer in the tree.
    is_removed: bool,
}

/// All keys and elements of the file, parents before children. Those whose path would be too long
/// are left out; an error in one of them counts as an error in the value around it.
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
            self.add(&path, line, Some(key.span()), value, lines);
        }
    }

    fn add(
        &mut self,
        path: &str,
        line: usize,
        key: Option<Range<usize>>,
        value: &Spanned<DeValue<'_>>,
        lines: &LineIndex,
    ) {
        if path.len() <= MAX_PATH_BYTES {
            let is_array = value.get_ref().is_array();
            self.0.push(Entry { path: path.to_owned(), line, key, value: value.span(), is_array, is_removed: false });
            self.add_value(value.get_ref(), path, lines);
        }
    }

    fn add_value(&mut self, value: &DeValue<'_>, path: &str, lines: &LineIndex) {
        match value {
            DeValue::Table(table) => self.add_table(table, path, lines),
            DeValue::Array(elements) => {
                for (index, value) in elements.iter().enumerate() {
                    let path = element(path, index);
                    let line = lines.line(value.span().start);
                    self.add(&path, line, None, value, lines);
                }
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => {}
        }
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn key_lines(&self) -> KeyLines {
        let mut key_lines = KeyLines::default();
        for entry in &self.0 {
            key_lines.insert(&entry.path, entry.line);
        }
        key_lines
    }

    /// The entry that an error at `span` is about: the key or value with exactly this span, else
    /// the smallest value around it. `None` if there is none in the tree, or no longer.
    ///
    /// An array that is written with `[[header]]` has the span of its first element.
    /// `is_about_array` says which of the two the error is about.
    pub(super) fn at(&self, span: &Range<usize>, is_about_array: bool) -> Option<EntryId> {
        let exact = |entry: &Entry| entry.key.as_ref() == Some(span) || entry.value == *span;
        let around = |entry: &Entry| entry.value.start <= span.start && span.end <= entry.value.end;
        let present = || self.0.iter().enumerate().filter(|(_, entry)| !entry.is_removed);
        let found = present()
            .filter(|(_, entry)| exact(entry))
            .max_by_key(|(_, entry)| (entry.is_array == is_about_array, entry.path.len()));
        let found =
            found.or_else(|| present().filter(|(_, entry)| around(entry)).min_by_key(|(_, entry)| entry.value.len()));
        found.map(|(index, _)| EntryId(index))
    }

    /// The entry that [`at`](Self::at) has found.
    pub(super) fn get(&self, id: EntryId) -> &Entry {
        &self.0[id.0]
    }

    /// Removes an entry from the tree. Returns how, or `None` if the tree did not hold it.
    pub(super) fn remove(&mut self, root: &mut DeTable<'_>, id: EntryId) -> Option<Removal> {
        let entry = &self.0[id.0];
        let removal = remove_from_table(root, entry)?;
        let path = entry.path.clone();
        // An emptied element is still there; what was in it is not.
        let is_gone = |other: &str| match removal {
            Removal::Removed | Removal::RemovedElement => is_within(other, &path),
            Removal::EmptiedElement => other != path && is_within(other, &path),
        };
        for other in &mut self.0 {
            other.is_removed = other.is_removed || is_gone(&other.path);
        }
        Some(removal)
    }
}

/// Identifies an entry of one [`Entries`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct EntryId(usize);

/// What [`Entries::remove`] has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Removal {
    /// A key is gone.
    Removed,
    /// An element of an array is an empty table now, so that the elements after it keep their
    /// indexes.
    EmptiedElement,
    /// An element of an array is gone, and the elements after it have moved up.
    RemovedElement,
}

/// Whether `path` is `ancestor` or below it.
fn is_within(path: &str, ancestor: &str) -> bool {
    path.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// A value that the loader rejects before it deserializes the file.
#[derive(Debug)]
pub(super) struct RejectedValue {
    pub(super) span: Range<usize>,
    pub(super) what: String,
    pub(super) hint: String,
}

/// Replaces references to the environment in every string. Returns those that cannot be replaced.
pub(super) fn replace_references(
    root: &mut DeTable<'_>,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (EnvironmentReferences, Vec<RejectedValue>) {
    let mut references = EnvironmentReferences::default();
    let mut rejected = Vec::new();
    for_each_value(root, &mut |span, value| {
        let DeValue::String(text) = value else { return };
        match substitute(text, environment, &mut references) {
            Ok(replaced) if replaced == **text => {}
            Ok(replaced) => *text = Cow::Owned(replaced),
            Err(errors) => rejected.extend(errors.into_iter().map(|error| RejectedValue {
                span: span.clone(),
                what: format!("{}: {error}", quoted(text)),
                hint: error.hint(),
            })),
        }
    });
    (references, rejected)
}

/// All dates and times. No key takes one, and serde would show them as tables with a key that is
/// not in the file.
pub(super) fn find_dates(root: &mut DeTable<'_>) -> Vec<RejectedValue> {
    let mut dates = Vec::new();
    for_each_value(root, &mut |span, value| {
        if let DeValue::Datetime(date) = value {
            dates.push(RejectedValue {
                span,
                what: format!("`{date}` is a date or a time, which no key takes"),
                hint: format!("for a text, write it in quotes: \"{date}\""),
            });
        }
    });
    dates
}

/// Calls `visit` for each value that is neither a table nor an array.
fn for_each_value<'i>(table: &mut DeTable<'i>, visit: &mut dyn FnMut(Range<usize>, &mut DeValue<'i>)) {
    for (_, value) in table.iter_mut() {
        for_each_value_in(value, visit);
    }
}

fn for_each_value_in<'i>(value: &mut Spanned<DeValue<'i>>, visit: &mut dyn FnMut(Range<usize>, &mut DeValue<'i>)) {
    let span = value.span();
    match value.get_mut() {
        DeValue::Array(elements) => elements.iter_mut().for_each(|element| for_each_value_in(element, visit)),
        DeValue::Table(table) => for_each_value(table, visit),
        scalar @ (DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_)) => visit(span, scalar),
    }
}

fn remove_from_table(table: &mut DeTable<'_>, entry: &Entry) -> Option<Removal> {
    let is_entry = |key: Range<usize>, value: Range<usize>| entry.key == Some(key) && value == entry.value;
    let key = table.iter().find(|(key, value)| is_entry(key.span(), value.span())).map(|(key, _)| key.clone());
    if let Some(key) = key {
        table.remove(&key);
        return Some(Removal::Removed);
    }
    table.iter_mut().find_map(|(_, value)| remove_from_value(value, entry))
}

/// Where the array holds tables, an element that is removed becomes an empty table at first, and is
/// taken out if that is wrong as well.
fn remove_from_value(value: &mut Spanned<DeValue<'_>>, entry: &Entry) -> Option<Removal> {
    match value.get_mut() {
        DeValue::Table(table) => remove_from_table(table, entry),
        DeValue::Array(elements) => {
            let is_entry = |value: &Spanned<DeValue<'_>>| entry.key.is_none() && value.span() == entry.value;
            let Some(index) = elements.iter().position(is_entry) else {
                return elements.iter_mut().find_map(|value| remove_from_value(value, entry));
            };
            let has_tables = elements.iter().any(|value| value.get_ref().is_table());
            let value = elements.get_mut(index)?.get_mut();
            if has_tables && !matches!(value, DeValue::Table(table) if table.is_empty()) {
                *value = DeValue::Table(DeTable::new());
                return Some(Removal::EmptiedElement);
            }
            let kept = std::mem::replace(elements, DeArray::new()).into_iter().enumerate();
            *elements = kept.filter(|(other, _)| *other != index).map(|(_, value)| value).collect();
            Some(Removal::RemovedElement)
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            None
        }
    }
}
