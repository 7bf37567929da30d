use super::*;

/// What is passed on when the bytes arrive in these pieces, and whether two framings were found.
fn filter_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, is_tunnel: impl Fn(usize) -> bool) -> (Vec<u8>, bool) {
    let mut filter = HeadFilter::default();
    let mut passed = Vec::new();
    for (index, piece) in pieces.into_iter().enumerate() {
        if filter.found_two_framings() {
            break;
        }
        let Filtered { unchanged, rest } = filter.filter(piece, is_tunnel(index));
        passed.extend_from_slice(&piece[..unchanged]);
        passed.extend_from_slice(&rest);
    }
    (passed, filter.found_two_framings())
}

/// The result for the bytes in one piece. Checks that it does not depend on the pieces.
fn filter(name: &str, bytes: &[u8]) -> (String, bool) {
    let whole = filter_pieces([bytes], |_| false);
    assert_eq!(filter_pieces(bytes.chunks(1), |_| false).1, whole.1, "{name}: byte by byte");
    for at in 0..bytes.len() {
        let (start, end) = bytes.split_at(at);
        let (passed, found) = filter_pieces([start, end], |_| false);
        assert_eq!(found, whole.1, "{name}: in two pieces at {at}");
        if found {
            // A part of the line that shows the fault may have been passed on, but not its end.
            assert!(bytes.starts_with(&passed) && passed.len() < bytes.len(), "{name}: in two pieces at {at}");
        } else {
            assert_eq!(passed, whole.0, "{name}: in two pieces at {at}");
        }
    }
    (String::from_utf8_lossy(&whole.0).into_owned(), whole.1)
}

#[test]
fn escapes_raw_bytes_of_a_target_that_the_uri_type_refuses() {
    for (name, request, expected) in [
        (
            "a query",
            "GET /a?b=\"<c>\" HTTP/1.1\r\nHost: g\r\n\r\n",
            "GET /a?b=%22%3Cc%3E%22 HTTP/1.1\r\nHost: g\r\n\r\n",
        ),
        ("a path", "GET /<`>?` HTTP/1.1\r\n\r\n", "GET /%3C%60%3E?` HTTP/1.1\r\n\r\n"),
        ("an absolute target", "GET http://g/a?\" HTTP/1.1\r\n\r\n", "GET http://g/a?%22 HTTP/1.1\r\n\r\n"),
        ("after an empty line", "\r\nGET /?\" HTTP/1.1\r\n\r\n", "\r\nGET /?%22 HTTP/1.1\r\n\r\n"),
        ("after empty lines", "\r\n\r\nGET /?\" HTTP/1.1\r\n\r\n", "\r\n\r\nGET /?%22 HTTP/1.1\r\n\r\n"),
        (
            "lines that end with LF",
            "GET /?\" HTTP/1.1\n\nGET /?< HTTP/1.1\n\n",
            "GET /?%22 HTTP/1.1\n\nGET /?%3C HTTP/1.1\n\n",
        ),
        ("a second question mark", "GET /?a?\" HTTP/1.1\r\n\r\n", "GET /?a?%22 HTTP/1.1\r\n\r\n"),
    ] {
        assert_eq!(filter(name, request.as_bytes()), (expected.to_owned(), false), "{name}");
    }
}

#[test]
fn passes_everything_else_on_unchanged() {
    for (name, bytes) in [
        ("methods, versions and fields", "G\"<T / HTTP/\"1.1\r\nX-<A>: \"?b\r\n\r\n"),
        ("a version after a path", "GET / HTTP/<1.1\r\n\r\n"),
        ("a version after a query", "GET /? HTTP/\"1.1\r\n\r\n"),
        ("a method alone", "GET\nA /?\" b\n\n"),
        ("a path without a version", "GET /\nA:<b>\n\n"),
        ("a query without a version", "GET /?\nA:\"b\"\n\n"),
        ("escapes", "GET /%3c?%22 HTTP/1.1\r\n\r\n"),
        ("a length", "POST / HTTP/1.1\r\nContent-Length: 14\r\n\r\nGET /?\" HTTP/1\r\n"),
        ("two equal lengths", "POST / HTTP/1.1\r\nContent-Length: 8\r\ncontent-length:8 \r\n\r\nGET /?\" "),
        (
            "chunks",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n8 ;\"x\r\nGET /?\" \r\n0\r\nGET /?\" : 1\r\n\r\n",
        ),
        ("another coding", "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nGET /?\" \r\n"),
        (
            "two codings",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\nGET /?\" \r\n",
        ),
        ("an invalid length", "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nGET /?\" \r\n"),
        ("no length", "POST / HTTP/1.1\r\nContent-Length:\r\n\r\nGET /?\" \r\n"),
        ("two lengths", "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nGET /?\" \r\n"),
        (
            "two lengths, of which the last is the shorter",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 2\r\n\r\nhiGET /?\" HTTP/1.1\r\n\r\n",
        ),
        (
            "another coding of what looks like the last chunk",
            "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n0\r\n\r\nGET /?\" HTTP/1.1\r\n\r\n",
        ),
        (
            "two codings of what looks like the last chunk",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /?\" HTTP/1.1\r\n\r\n",
        ),
        (
            "a head inside a chunk",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n\r\n\r\nGET /?\" 11\r\n\r\n0\r\n\r\n",
        ),
        (
            "a LF in an extension, and then a chunk",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;\n\r\nx\r\n0\r\n\r\nGET /?\" HTTP/1.1\r\n\r\n",
        ),
        (
            "another byte in place of the last line end",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\rxGET /?\" HTTP/1.1\r\n\r\n",
        ),
        ("an invalid chunk", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\nGET /?\" \r\n"),
        (
            "a chunk too large",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nGET /?\" \r\n",
        ),
        ("a LF in an extension", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;\nGET /?\" \r\n"),
        ("a chunk without its end", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxGET /?\" \r\n"),
        (
            "look-alikes",
            "POST / HTTP/1.1\r\nContent-Lengths: 1\r\nXTransfer-Encoding: chunked\r\ncontent_length: 5\r\n\r\n",
        ),
    ] {
        assert_eq!(filter(name, bytes.as_bytes()), (bytes.to_owned(), false), "{name}");
    }
}

/// A field line may be as long as a head, and every connection has a filter.
#[test]
fn keeps_only_the_beginning_of_a_line_that_arrives_in_pieces() {
    let mut filter = HeadFilter::default();
    filter.filter(b"GET / HTTP/1.1\r\nA: ", false);
    for _ in 0..1_000 {
        filter.filter(&[b'x'; 100], false);
        assert!(filter.partial_line.len() <= MAX_PARTIAL_LINE_BYTES, "{}", filter.partial_line.len());
    }
}

/// The next head begins where the body ends, and nowhere else.
#[test]
fn finds_the_head_after_a_body() {
    for (name, before) in [
        ("no body", "GET / HTTP/1.1\r\nHost: g\r\n\r\n"),
        ("an empty body", "POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"),
        ("a length", "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"),
        ("equal lengths with zeros", "POST / HTTP/1.1\r\nContent-Length: 05\r\nContent-Length: 5\r\n\r\nhello"),
        (
            "chunks",
            "POST / HTTP/1.1\r\nTRANSFER-encoding:\tChunked \r\n\r\n5\r\nhello\r\nA \r\n0123456789\r\n0\r\n\r\n",
        ),
        ("an extension", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0;c\r\n\r\n"),
        ("trailers", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: b\r\nC: d\r\n\r\n"),
        ("an offer that is not accepted", "GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n"),
    ] {
        let bytes = format!("{before}GET /?\" HTTP/1.1\r\n\r\n");
        let expected = format!("{before}GET /?%22 HTTP/1.1\r\n\r\n");
        assert_eq!(filter(name, bytes.as_bytes()), (expected, false), "{name}");
    }
}

/// After an offer that was accepted, the bytes are not HTTP.
#[test]
fn a_tunnel_passes_unchanged() {
    let offer = b"GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
    let tunnel = b"GET /?\" HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n";
    let expected = [&offer[..], tunnel].concat();
    assert_eq!(filter_pieces([&offer[..], tunnel], |index| index == 1), (expected, false));
}

/// FR-1; RFC 9112 §6.1.
#[test]
fn holds_back_a_head_with_two_framings() {
    let long = format!("Content-Length: {}5", " ".repeat(300));
    for (name, fields) in [
        ("a length first", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
        ("a coding first", "Transfer-Encoding: chunked\r\nContent-Length: 5"),
        ("fields between", "content-length: 0\r\nHost: g\r\nTRANSFER-ENCODING: gzip\r\nA: b"),
        ("an invalid length", "Content-Length: x\r\nTransfer-Encoding: chunked"),
        ("lines that end with LF", "Content-Length: 5\nTransfer-Encoding: chunked"),
        ("a long line", &format!("Transfer-Encoding: chunked\r\n{long}")),
    ] {
        let first = "POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi";
        let bytes = format!("{first}POST /b HTTP/1.1\r\n{fields}\r\n\r\n0\r\n\r\n");
        let (passed, found) = filter(name, bytes.as_bytes());
        assert!(found && passed.starts_with(first), "{name}: {passed}");
        assert!(!passed[first.len()..].contains("\r\n\r\n"), "{name}: {passed}");
    }
}
