//! The rules for whole segments: which names are never accepted, and which forms are unusual.

use super::double_escape::{decode_twice, has_double_escape};
use super::forms::UnusualForm;
use super::{MAX_SEGMENTS, PathMarks, PathRefusal};

/// Checks the rules that concern more than one character, and completes `marks`. The characters of
/// `text` are already in normal form.
pub(super) fn check_segments(text: &str, marks: &mut PathMarks) -> Result<(), PathRefusal> {
    check_split(text, marks)?;
    // The search needs the normal form: in `%25%32%66`, the two digits are themselves escaped.
    if marks.has_escapes && has_double_escape(text) {
        marks.forms.insert(UnusualForm::DoubleEscape);
        // What a backend gets that decodes twice obeys the same rules.
        let twice = decode_twice(text)?;
        if twice.contains("%2F") {
            marks.forms.insert(UnusualForm::EncodedSlash);
        }
        check_split(&twice, marks)?;
    }
    marks.has_readings |= !marks.forms.is_empty();
    Ok(())
}

/// Checks each segment. If the path has an encoded slash, the segments on both sides of it: whether
/// a backend takes it for a separator or for a character, there are no others.
fn check_split(text: &str, marks: &mut PathMarks) -> Result<(), PathRefusal> {
    if marks.forms.contains(UnusualForm::EncodedSlash) {
        check_each(&text.replace("%2F", "/"), marks)
    } else {
        check_each(text, marks)
    }
}

fn check_each(text: &str, marks: &mut PathMarks) -> Result<(), PathRefusal> {
    let mut segments = text[1..].split('/').enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        if index >= MAX_SEGMENTS {
            return Err(PathRefusal::TooManySegments);
        }
        let is_last = segments.peek().is_none();
        if segment.starts_with(';') || (segment.is_empty() && !is_last) {
            // `//host/path` is a reference to another host (RFC 3986 §4.2) for a backend that
            // resolves it as a URL, and a redirect made of it leads there.
            if index == 0 {
                return Err(PathRefusal::LeadingEmptySegment);
            }
            marks.forms.insert(UnusualForm::EmptySegment);
        }
        if is_dot_segment(segment) {
            return Err(PathRefusal::DotSegment);
        }
        marks.has_readings |= segment.ends_with('.');
    }
    Ok(())
}

/// Whether `segment` is `.` or `..`, also for a backend that removes parameters, spaces or what it
/// treats as a query.
///
/// Servlet containers remove `;…` before they resolve dots, Windows drops dots and spaces at the
/// end of a name, some frameworks drop spaces at its start, and a backend that decodes before it
/// parses ends the path at `?` and `#`. More than two dots are a name, unless there are spaces
/// among them.
fn is_dot_segment(segment: &str) -> bool {
    if !segment.starts_with(['.', '%']) {
        return false;
    }
    let (mut rest, mut dots, mut spaces) = (segment, 0, 0);
    loop {
        if let Some(after) = rest.strip_prefix('.') {
            (rest, dots) = (after, dots + 1);
        } else if let Some(after) = rest.strip_prefix("%20") {
            (rest, spaces) = (after, spaces + 1);
        } else {
            break;
        }
    }
    let is_whole = rest.is_empty() || [";", "%3B", "%3F", "%23"].iter().any(|end| rest.starts_with(end));
    is_whole && dots > 0 && (dots <= 2 || spaces > 0)
}
