//! Which patterns are accepted, which are refused, and what can be asked of a pattern.

use super::*;
use crate::gateway::matching::path::UnusualForm;

#[test]
fn path_patterns_are_stored_in_normal_form() {
    for (name, text, expect) in [
        ("exact", "/a/b", "/a/b"),
        ("root", "/", "/"),
        ("everything", "/*", "/*"),
        ("subtree", "/a/*", "/a/*"),
        ("trailing slash", "/a/", "/a/"),
        ("bound segment", "/a/{id}/b", "/a/{id}/b"),
        ("bound segment and subtree", "/{tenant}/*", "/{tenant}/*"),
        ("escapes of unreserved characters", "/%61/%7e", "/a/~"),
        ("other escapes", "/caf%c3%a9", "/caf%C3%A9"),
        ("a dot is literal", "/a.b", "/a.b"),
    ] {
        assert_eq!(PathPattern::parse(text).map(|pattern| pattern.to_string()).as_deref(), Ok(expect), "{name}");
    }
}

#[test]
fn path_patterns_that_never_match_or_are_misleading_are_refused() {
    use InvalidPattern as I;
    let invalid_name = |name: &str| I::InvalidName { name: name.into() };
    let brace = |segment: &str| I::Brace { segment: segment.into() };
    for (name, text, expect) in [
        ("empty", "", I::Path(PathRefusal::NotAbsolute)),
        ("relative", "a/b", I::Path(PathRefusal::NotAbsolute)),
        ("a star alone", "*", I::Path(PathRefusal::NotAbsolute)),
        ("star in the middle", "/a/*/b", I::Star),
        ("star before a slash", "/a/*/", I::Star),
        ("star in a segment", "/a*", I::Star),
        ("two stars", "/a/**", I::Star),
        ("brace in a segment", "/a/x{id}", brace("x{id}")),
        ("unclosed brace", "/a/{id", brace("{id")),
        ("two names in one segment", "/a/{x}-{y}", invalid_name("x}-{y")),
        ("empty name", "/{}", invalid_name("")),
        ("name with a digit first", "/{1a}", invalid_name("1a")),
        ("name with a hyphen", "/{a-b}", invalid_name("a-b")),
        ("name with a star", "/{a*}", invalid_name("a*")),
        ("the same name twice", "/{id}/x/{id}", I::DuplicateName { name: "id".into() }),
        ("dots", "/a/../b", I::Path(PathRefusal::DotSegment)),
        ("escaped dots", "/a/%2e%2E/*", I::Path(PathRefusal::DotSegment)),
        ("two slashes", "/a//b", I::Path(PathRefusal::Unusual(UnusualForm::EmptySegment))),
        ("two slashes before the star", "/a//*", I::Path(PathRefusal::Unusual(UnusualForm::EmptySegment))),
        ("escaped slash", "/a%2Fb", I::Path(PathRefusal::Unusual(UnusualForm::EncodedSlash))),
        ("semicolon", "/a;b", I::Path(PathRefusal::Unusual(UnusualForm::Parameters))),
        ("query", "/a?b", I::Path(PathRefusal::ForbiddenByte)),
        ("space", "/a b", I::Path(PathRefusal::ForbiddenByte)),
    ] {
        assert_eq!(PathPattern::parse(text), Err(expect), "{name}");
    }
}

#[test]
fn examples_of_a_pattern_are_in_normal_form() {
    for (pattern, example, other_case) in [
        ("/a/{id}/b", "/a/x/b", Some("/A/x/B")),
        ("/A/*", "/A", Some("/a/x")),
        ("/aB/", "/aB/", Some("/AB/")),
        ("/CAF%C3%89/%3A", "/CAF%C3%89/%3A", Some("/caf%C3%89/%3A")),
        ("/caf%C3%A9", "/caf%C3%A9", Some("/CAF%C3%A9")),
        ("/1/{id}", "/1/x", None),
        ("/%C3%89", "/%C3%89", None),
        ("/*", "", None),
    ] {
        let parsed = PathPattern::parse(pattern).unwrap();
        assert_eq!((&*parsed.example(), parsed.example_in_other_case().as_deref()), (example, other_case), "{pattern}");
    }
}

#[test]
fn host_patterns_are_names_or_wildcards_without_port() {
    for (name, text, expect) in [
        ("name", "API.example.com.", Ok("api.example.com")),
        ("wildcard", "*.Example.com", Ok("*.example.com")),
        ("IPv6", "[::1]", Ok("[::1]")),
        ("a star alone", "*", Err(InvalidPattern::Host(HostRefusal::InvalidName))),
        ("a star and a dot", "*.", Err(InvalidPattern::Host(HostRefusal::Empty))),
        ("two wildcards", "*.*.com", Err(InvalidPattern::Host(HostRefusal::InvalidName))),
        ("wildcard in the middle", "a.*.com", Err(InvalidPattern::Host(HostRefusal::InvalidName))),
        ("wildcard of an address", "*.[::1]", Err(InvalidPattern::Host(HostRefusal::InvalidName))),
        ("port", "example.com:80", Err(InvalidPattern::HostPort)),
    ] {
        let parsed = HostPattern::parse(text).map(|pattern| pattern.to_string());
        assert_eq!(parsed, expect.map(str::to_owned), "{name}");
    }
}

#[test]
fn patterns_whose_literals_name_a_reserved_path_are_recognized() {
    for (pattern, expect) in [
        ("/.portcullis/*", true),
        ("/.portcullis/jwks.json", true),
        ("/.portcullis/{x}", true),
        ("/.%70ortcullis/x", true),
        ("/.well-known/oauth-protected-resource", true),
        ("/.well-known/oauth-protected-resource/*", true),
        ("/.well-known/oauth-protected-resource/orders", true),
        ("/*", false),
        ("/{a}/{b}", false),
        ("/.well-known/*", false),
        ("/.well-known/openid-configuration", false),
        ("/.portcullisx/y", false),
        ("/a/.portcullis/x", false),
    ] {
        assert_eq!(targets_reserved_path(&PathPattern::parse(pattern).unwrap()), expect, "{pattern}");
    }
}

#[test]
fn reserved_paths_are_recognized_in_requests() {
    for (path, expect) in [
        ("/.portcullis", true),
        ("/.portcullis/x", true),
        ("/.well-known/oauth-protected-resource/a/b", true),
        ("/.well-known/oauth-protected-resource", true),
        ("/.well-known/oauth-protected-resources", false),
        ("/.well-known", false),
        ("/", false),
    ] {
        assert_eq!(is_reserved_path(NormalPath::parse(path, UnusualForms::NONE).unwrap().as_str()), expect, "{path}");
    }
}

#[test]
fn a_prefix_is_covered_by_literals_only() {
    for (pattern, prefix, expect) in [
        ("/api/*", "/api", true),
        ("/api", "/api", true),
        ("/api/v1/{id}", "/api/v1", true),
        ("/api/{version}/x", "/api", true),
        ("/anything", "/", true),
        ("/api/{version}/x", "/api/v1", false),
        ("/apix/*", "/api", false),
        ("/*", "/api", false),
        ("/api/*", "/api/v1", false),
    ] {
        let prefix = PathPrefix::parse(prefix).unwrap();
        assert_eq!(PathPattern::parse(pattern).unwrap().starts_with_literal(&prefix), expect, "{pattern}");
    }
}
