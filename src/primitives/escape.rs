//! Escaping: text that a peer wrote, made safe to log.

/// Longest piece of foreign text that is kept, in characters: enough to recognize a URL.
const MAX_CHARS: usize = 120;

/// Escapes control and special characters, and cuts the text after [`MAX_CHARS`] characters, so
/// that a peer can neither forge log lines nor fill the log.
#[must_use]
pub(crate) fn escape_for_log(text: &str) -> String {
    let mut escaped: String = text.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        escaped.push('…');
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_is_escaped_and_cut() {
        assert_eq!(escape_for_log("a\r\nb\u{1b}[0m"), "a\\r\\nb\\u{1b}[0m");
        assert_eq!(escape_for_log(&"x".repeat(500)).chars().count(), MAX_CHARS + 1);
    }
}
