//! Tables of accepted and refused paths.

use super::*;

mod properties;

fn parsed(raw: &str) -> Result<String, PathRefusal> {
    NormalPath::parse(raw, UnusualForms::NONE).map(|path| path.as_str().to_owned())
}

#[test]
fn accepted_paths_are_brought_into_normal_form() {
    for (name, raw, expect) in [
        ("root", "/", "/"),
        ("plain", "/orders/7", "/orders/7"),
        ("a trailing slash matters", "/orders/", "/orders/"),
        ("PA-4: letters keep their case", "/API/Admin", "/API/Admin"),
        ("unreserved escapes are decoded", "/%6Frders/%7e%2D%5f", "/orders/~-_"),
        ("a dot inside a segment", "/a%2Eb/...", "/a.b/..."),
        ("hidden files", "/.well-known/.x", "/.well-known/.x"),
        ("dots and spaces with a name", "/..a%20/.%20.b", "/..a%20/.%20.b"),
        ("hex digits become upper case", "/a%3a%2c%c3%a9", "/a%3A%2C%C3%A9"),
        ("sub-delimiters are unchanged", "/a!$&'()*+,=:@b", "/a!$&'()*+,=:@b"),
        ("and so are their escapes", "/%21%2A", "/%21%2A"),
        ("PA-6: escaped query and fragment marks stay escaped", "/a%3fb%23x", "/a%3Fb%23x"),
        ("an escaped percent sign without digits after it", "/100%25", "/100%25"),
        ("an escaped percent sign before one digit", "/100%25a", "/100%25a"),
        ("PA-5: an escaped semicolon stays escaped", "/a%3bb", "/a%3Bb"),
        ("PA-7: a longer name is a different name", "/api/adminx", "/api/adminx"),
        ("PA-13: what browsers leave unescaped is escaped", "/a[1]^b|c", "/a%5B1%5D%5Eb%7Cc"),
        ("PA-13: and so it is the same path", "/a%5b1%5D%5eb%7cc", "/a%5B1%5D%5Eb%7Cc"),
        ("three bytes of UTF-8", "/%e2%82%ac", "/%E2%82%AC"),
        ("four bytes of UTF-8", "/%f0%9f%98%80", "/%F0%9F%98%80"),
    ] {
        assert_eq!(parsed(raw).as_deref(), Ok(expect), "{name}");
    }
}

#[test]
fn ambiguous_paths_are_refused() {
    use PathRefusal::*;
    use UnusualForm::{DoubleEscape, EmptySegment, EncodedSlash, Parameters};
    for (name, raw, expect) in [
        ("empty", "", NotAbsolute),
        ("asterisk form", "*", NotAbsolute),
        ("A50: no leading slash", "api/admin/x", NotAbsolute),
        ("PA-1: dot segments", "/public/../api/x", DotSegment),
        ("PA-1: at the end", "/public/..", DotSegment),
        ("PA-1: single dot", "/api/./x", DotSegment),
        ("PA-1: escaped", "/public/%2e%2e/api/x", DotSegment),
        ("PA-1: half escaped, mixed case", "/public/.%2E/api/x", DotSegment),
        ("PA-1: escaped twice", "/public/%252e%252e/api/x", DotSegment),
        ("PA-1: followed by a space", "/public/..%20/api/x", DotSegment),
        ("PA-1: followed by an escaped semicolon", "/public/..%3b/api/x", DotSegment),
        ("PA-1: followed by an escaped question mark", "/public/..%3Fx", DotSegment),
        ("PA-11: after a space", "/public/%20../api/x", DotSegment),
        ("PA-11: with a space between", "/public/.%20./api/x", DotSegment),
        ("PA-11: with a space between, and parameters", "/public/.%20.%20%3Bx/api/x", DotSegment),
        ("PA-11: three dots and a space", "/public/...%20/api/x", DotSegment),
        ("PA-1: followed by a NUL", "/public/..%00/api/x", EncodedControl),
        ("PA-1: overlong dots", "/public/%c0%ae%c0%ae/api", InvalidUtf8),
        ("PA-2: escaped slash", "/public%2F..%2Fapi/x", DotSegment),
        ("PA-2: lower case", "/api%2fadmin", Unusual(EncodedSlash)),
        ("PA-2: escaped backslash", "/public/..%5capi", EncodedBackslash),
        ("PA-2: escaped backslash twice", "/public/..%255capi/x", EncodedBackslash),
        ("PA-2: an escape made of escapes", "/public/..%25%35%63api", EncodedBackslash),
        ("PA-2: an escape partly made of escapes", "/public%25%32f", Unusual(DoubleEscape)),
        ("PA-2: raw backslash", "/public\\..\\api", ForbiddenByte),
        ("PA-2: overlong slash", "/public%c0%af", InvalidUtf8),
        ("PA-3: two slashes", "/public//api", Unusual(EmptySegment)),
        ("PA-3: two leading slashes", "//evil.example/api", LeadingEmptySegment),
        ("PA-3: two slashes at the end", "/api/x//", Unusual(EmptySegment)),
        ("PA-5: parameters", "/api/admin;x=1/x", Unusual(Parameters)),
        ("PA-5: parameters after dots", "/public/..;/api/x", DotSegment),
        ("PA-6: raw fragment", "/api/x#/public", ForbiddenByte),
        ("PA-6: raw question mark", "/api/x?/public", ForbiddenByte),
        ("PA-10: raw space", "/a b", ForbiddenByte),
        ("PA-10: raw control", "/a\tb", ForbiddenByte),
        ("PA-10: raw NUL", "/a\0", ForbiddenByte),
        ("PA-10: raw non-ASCII", "/é", ForbiddenByte),
        ("PA-10: quote", "/a\"b", ForbiddenByte),
        ("PA-10: braces", "/a{b}", ForbiddenByte),
        ("PA-10: escaped line break", "/a%0d%0aX: y", EncodedControl),
        ("PA-10: escaped DEL", "/a%7F", EncodedControl),
        ("broken escape", "/a%", BrokenEscape),
        ("broken escape with one digit", "/a%4", BrokenEscape),
        ("broken escape with no hex digit", "/a%zz", BrokenEscape),
        ("broken escape before another", "/a%2%35", BrokenEscape),
        ("a lone continuation byte", "/%80", InvalidUtf8),
        ("a truncated character", "/%e2%82", InvalidUtf8),
        ("a surrogate", "/%ed%a0%80", InvalidUtf8),
    ] {
        assert_eq!(parsed(raw), Err(expect), "{name}");
    }
}

/// What a route accepts that lists forms, and what no list makes acceptable.
#[test]
fn unusual_forms_are_recognized_and_never_hide_a_segment() {
    use PathRefusal::*;
    use UnusualForm::{DoubleEscape, EmptySegment, EncodedSlash, Parameters};
    let forms = |raw: &str| {
        let path = NormalPath::parse(raw, UnusualForms::ALL)?;
        let has = |form: &UnusualForm| path.forms().contains(*form);
        Ok([DoubleEscape, EmptySegment, EncodedSlash, Parameters].into_iter().filter(has).collect::<Vec<_>>())
    };
    for (name, raw, expected) in [
        ("none", "/a%3Ab.c%20/", Ok(vec![])),
        ("parameters", "/a;v=1/b", Ok(vec![Parameters])),
        ("a segment of parameters", "/a/;v=1/b", Ok(vec![EmptySegment, Parameters])),
        ("a segment of parameters at the end", "/a/;v", Ok(vec![EmptySegment, Parameters])),
        ("an escaped semicolon", "/a/%3Bv", Ok(vec![])),
        ("an empty segment", "/a//b", Ok(vec![EmptySegment])),
        ("several", "/a///b", Ok(vec![EmptySegment])),
        ("at the end", "/a//", Ok(vec![EmptySegment])),
        ("an encoded slash", "/@scope%2fname", Ok(vec![EncodedSlash])),
        ("two side by side", "/a%2F%2Fb", Ok(vec![EmptySegment, EncodedSlash])),
        ("next to a slash", "/a%2F/b", Ok(vec![EmptySegment, EncodedSlash])),
        ("before a parameter", "/a%2F;b", Ok(vec![EmptySegment, EncodedSlash, Parameters])),
        ("at the end of the path", "/a%2F", Ok(vec![EncodedSlash])),
        ("an escaped escape", "/50%25ab", Ok(vec![DoubleEscape])),
        ("of a slash", "/a%252Fb", Ok(vec![DoubleEscape, EncodedSlash])),
        ("of an escape that begins UTF-8", "/50%25c3%25a9", Ok(vec![DoubleEscape])),
        ("of a slash next to a slash", "/a%252f/b", Ok(vec![DoubleEscape, EmptySegment, EncodedSlash])),
        ("an escaped percent sign", "/100%25/%25zz/%25u12", Ok(vec![])),
        ("dots before parameters", "/public/..;/api/x", Err(DotSegment)),
        ("escaped dots before parameters", "/public/%2e%2e;x=1/api", Err(DotSegment)),
        ("a single dot before parameters", "/a/.;x", Err(DotSegment)),
        ("dots after an encoded slash", "/a%2F..", Err(DotSegment)),
        ("dots before an encoded slash", "/a/..%2Fb", Err(DotSegment)),
        ("a dot between encoded slashes", "/a%2F.%2Fb", Err(DotSegment)),
        ("dots after an encoded slash, before parameters", "/a%2F..;x/b", Err(DotSegment)),
        ("dots escaped twice", "/a/%252e%252E/b", Err(DotSegment)),
        ("dots escaped twice, half", "/a/.%252e/b", Err(DotSegment)),
        ("dots escaped twice after a slash escaped twice", "/a%252f%252e%252e", Err(DotSegment)),
        ("dots before a semicolon escaped twice", "/a/..%253Bx", Err(DotSegment)),
        ("a leading empty segment", "//a", Err(LeadingEmptySegment)),
        ("made of an encoded slash", "/%2Fa", Err(LeadingEmptySegment)),
        ("made of a slash escaped twice", "/%252Fa", Err(LeadingEmptySegment)),
        ("made of parameters", "/;x/a", Err(LeadingEmptySegment)),
        ("a control byte escaped twice", "/a%2500", Err(EncodedControl)),
        ("a line break escaped twice", "/a%250d%250Ab", Err(EncodedControl)),
        ("DEL escaped twice", "/a%257f", Err(EncodedControl)),
        ("a backslash escaped twice", "/a%255Cb", Err(EncodedBackslash)),
        ("an encoded backslash", "/a%5Cb", Err(EncodedBackslash)),
        ("escaped three times", "/a%25252Fb", Err(NestedEscape)),
        ("escaped three times, with digits escaped too", "/a%25%25322Fb", Err(NestedEscape)),
        ("a percent sign escaped twice, before digits", "/a%25%254142", Err(NestedEscape)),
        ("old Microsoft escapes", "/a/%25u002e%25u002e/b", Err(NestedEscape)),
        ("overlong dots escaped twice", "/a/%25c0%25ae%25c0%25ae/b", Err(InvalidUtf8)),
        ("an overlong slash of three bytes escaped twice", "/a%25e0%2580%25af", Err(InvalidUtf8)),
        ("an overlong slash of four bytes escaped twice", "/a%25f0%2580%2580%25af", Err(InvalidUtf8)),
        ("too deep after splitting", &"/a%2Fb".repeat(MAX_SEGMENTS / 2 + 1), Err(TooManySegments)),
    ] {
        assert_eq!(forms(raw), expected, "{name}");
    }
}

#[test]
fn a_form_is_refused_unless_it_is_accepted() {
    use UnusualForm::{DoubleEscape, EmptySegment, EncodedSlash, Parameters};
    let every = [DoubleEscape, EmptySegment, EncodedSlash, Parameters];
    for (form, raw) in
        [(DoubleEscape, "/50%25ab"), (EmptySegment, "/a//b"), (EncodedSlash, "/a%2Fb"), (Parameters, "/a;b")]
    {
        let others: UnusualForms = every.into_iter().filter(|other| *other != form).collect();
        assert_eq!(NormalPath::parse(raw, others), Err(PathRefusal::Unusual(form)), "{raw}");
        let path = NormalPath::parse(raw, UnusualForms::from_iter([form])).unwrap();
        assert_eq!(path.as_str(), raw, "{raw} stays as it is");
    }
    assert_eq!(UnusualForms::from_iter(every), UnusualForms::ALL);
}

/// PA-9: normalization is linear in the length, and the depth is limited.
#[test]
fn the_number_of_segments_is_limited() {
    assert!(parsed(&"/a".repeat(MAX_SEGMENTS)).is_ok());
    assert_eq!(parsed(&"/a".repeat(MAX_SEGMENTS + 1)), Err(PathRefusal::TooManySegments));
}

#[test]
fn a_path_in_normal_form_is_not_copied() {
    let path = NormalPath::parse("/a/%C3%A9/b", UnusualForms::NONE).unwrap();
    assert!(matches!(path.text, Cow::Borrowed(_)));
    let path = NormalPath::parse("/a/%c3%a9/b", UnusualForms::NONE).unwrap();
    assert!(matches!(path.text, Cow::Owned(_)));
}

/// PA-8.
#[test]
fn a_prefix_follows_the_rules_of_paths() {
    for (text, expect) in [("/a/%7e/", "/a/~"), ("/api", "/api"), ("/", "")] {
        let prefix = PathPrefix::parse(text).unwrap();
        assert_eq!(prefix.as_str(), expect);
        assert_eq!(prefix.segments().fold(String::new(), |path, segment| path + "/" + segment), expect);
    }
    assert_eq!(PathPrefix::parse("/a//"), Err(PathRefusal::Unusual(UnusualForm::EmptySegment)));
    assert_eq!(PathPrefix::parse("/a/../b"), Err(PathRefusal::DotSegment));
    assert_eq!(PathPrefix::parse("/a;b"), Err(PathRefusal::Unusual(UnusualForm::Parameters)));
    assert_eq!(PathPrefix::parse("api"), Err(PathRefusal::NotAbsolute));
}
