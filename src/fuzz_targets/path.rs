//! The normal form of a path.

use crate::gateway::matching::path::{NormalPath, UnusualForms};

/// The normal form is a fixed point, contains nothing that a reader could take for something else,
/// and does not depend on which unusual forms a route accepts.
pub fn path(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let strict = NormalPath::parse(text, UnusualForms::NONE);
    let Ok(normal) = NormalPath::parse(text, UnusualForms::ALL) else {
        assert!(strict.is_err(), "{text:?} is accepted only where fewer forms are");
        return;
    };
    let path = normal.as_str();
    match &strict {
        Ok(strict) => assert_eq!(strict.as_str(), path, "{text:?} has two normal forms"),
        Err(_) => assert!(!normal.forms().is_empty(), "{text:?} is refused for no form that a route can accept"),
    }
    let again = NormalPath::parse(path, UnusualForms::ALL).expect("a normal form is accepted");
    assert_eq!(again.as_str(), path, "{text:?} has a normal form that is not final");
    assert!(path.starts_with('/'), "{path:?}");
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\?#\"<>".contains(&byte)), "{path:?}");
    let segments: Vec<&str> = normal.segments().collect();
    assert_eq!(format!("/{}", segments.join("/")), path);
    for segment in path.split('/') {
        let dots = segment.replace("%2E", ".").replace("%2e", ".");
        assert!(dots != "." && dots != "..", "{path:?} has a dot segment");
    }
    if strict.is_ok() {
        assert!(
            !path.contains("//") && !path.contains(';') && !path.contains("%2F") && !path.contains("%5C"),
            "{path:?}"
        );
    }
}
