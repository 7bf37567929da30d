//! Tokens whose form is wrong: segments, base64url, JSON. The signature is real wherever there can
//! be one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::token::{TestKey, base64url};

/// No limit on failed tokens: the tables are full of them.
async fn start() -> Fixture {
    Fixture::start(Config::minimal().without_auth_failure_limit()).await
}

/// RFC 7515 §7.1, RFC 8259; threats J-17, J-18, J-48: header and payload are one JSON object each,
/// of bounded depth.
#[tokio::test]
async fn header_and_payload_must_each_be_one_json_object() {
    let fixture = start().await;
    let key = TestKey::rsa("k1");
    let good_header = r#"{"alg":"RS256","kid":"k1"}"#;
    let (sent, claims) = (fixture.good_token(), |token: &str| {
        let payload = token.split('.').nth(1).expect("three segments");
        URL_SAFE_NO_PAD.decode(payload).expect("base64url")
    });
    let good_claims = claims(&sent);
    let text = String::from_utf8(good_claims.clone()).expect("JSON is UTF-8");
    let members = text.strip_suffix('}').expect("an object");
    let by_header = |bytes: &[u8]| fixture.token().raw_header(bytes).sign(&key);
    let by_payload = |bytes: &[u8]| fixture.token().raw_payload(bytes).sign(&key);
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    let nested_in =
        |before: &str, depth: usize| [format!("{before},\"x\":").into_bytes(), nested(depth), b"}".to_vec()].concat();
    let mut rows = vec![
        ("white space", by_header(format!(" {good_header}\n").as_bytes()), Ok(())),
        ("moderate depth in the payload", by_payload(&nested_in(members, 60)), Ok(())),
        ("depth in the payload", by_payload(&nested_in(members, 200)), Err("claims malformed")),
        ("great depth in the payload", by_payload(&nested_in(members, 2_000)), Err("claims malformed")),
        ("depth in the header", by_header(&nested_in(r#"{"alg":"RS256""#, 2_000)), Err("header malformed")),
        ("brackets only", by_header(&vec![b'['; 5_000]), Err("header malformed")),
    ];
    let not_one_object: &[(&str, &[u8])] = &[
        ("array", b"[]"),
        ("string", b"\"x\""),
        ("number", b"1"),
        ("null", b"null"),
        ("true", b"true"),
        ("nothing but a space", b" "),
        ("cut off", b"{\"alg\":\"RS256\""),
        ("a NUL", b"{\"alg\":\"RS256\"}\0"),
        ("single quotes", b"{'alg':'RS256'}"),
        ("a trailing comma", b"{\"alg\":\"RS256\",}"),
        ("a comment", b"{\"alg\":\"RS256\"/**/}"),
        ("not UTF-8", b"{\"alg\":\"RS256\",\"x\":\"\xff\"}"),
        ("half a surrogate pair", b"{\"alg\":\"RS256\",\"x\":\"\\ud800\"}"),
        ("a byte order mark", b"\xef\xbb\xbf{\"alg\":\"RS256\"}"),
        ("NaN", b"{\"alg\":\"RS256\",\"x\":NaN}"),
    ];
    for (name, bytes) in not_one_object {
        rows.push((name, by_header(bytes), Err("header malformed")));
        rows.push((name, by_payload(bytes), Err("claims malformed")));
    }
    let twice = [&good_claims[..], &good_claims[..]].concat();
    rows.push(("two documents", by_payload(&twice), Err("claims malformed")));
    rows.push(("an empty object", by_header(b"{}"), Err("header malformed")));
    fixture.assert_verdicts("/token/x", rows).await;
}

/// The base64url alphabet, in the order of the values (RFC 4648 §5).
const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 7515 §2, RFC 4648 §3.5; threats J-02, J-19a, J-19b, J-20, A16, A17: a token has three
/// segments and only one valid spelling.
#[tokio::test]
async fn a_token_must_have_three_segments_in_canonical_base64url() {
    let fixture = start().await;
    let token = fixture.good_token();
    let (signed, signature) = token.rsplit_once('.').expect("three segments");
    let (head, payload) = signed.split_once('.').expect("two segments");
    // 256 bytes leave four bits of the last character unused: sixteen spellings decode to one
    // signature.
    let (start, last) = signature.split_at(signature.len() - 1);
    let at = ALPHABET.find(last).expect("of the alphabet");
    let respelt = format!("{signed}.{start}{}", &ALPHABET[at + 1..at + 2]);
    let (no_jwt, no_base64) = (Err("not a JWT"), Err("not base64url"));
    fixture
        .assert_verdicts(
            "/token/x",
            [
                ("as issued, and then cached", token.clone(), Ok(())),
                ("unused bits set", respelt, no_base64),
                ("padded", format!("{token}=="), no_base64),
                ("the other alphabet", format!("{signed}.{}+/", &signature[2..]), no_base64),
                ("a tilde", format!("{signed}.{}~", &signature[1..]), no_base64),
                ("one segment", head.to_owned(), no_jwt),
                ("two segments", signed.to_owned(), no_jwt),
                ("no signature", format!("{signed}."), no_jwt),
                ("no payload", format!("{head}..{signature}"), no_jwt),
                ("no header", format!(".{payload}.{signature}"), no_jwt),
                ("a leading dot", format!(".{token}"), no_jwt),
                ("a trailing dot", format!("{token}."), no_jwt),
                ("four segments", format!("{token}.{signature}"), no_jwt),
                ("five segments", format!("{token}.{signature}.{signature}"), Err("encrypted token")),
                ("six segments", format!("{token}.e30.e30.e30"), no_jwt),
                ("dots", ".".repeat(8_192), no_jwt),
                (
                    "a byte of the payload changed",
                    format!("{head}.{}.{signature}", flipped(payload)),
                    Err("claims malformed"),
                ),
                ("as issued, from the cache", token.clone(), Ok(())),
            ],
        )
        .await;
}

/// The segment with one bit of its first byte flipped.
fn flipped(segment: &str) -> String {
    let mut bytes = URL_SAFE_NO_PAD.decode(segment).expect("base64url");
    bytes[0] ^= 1;
    base64url(bytes)
}
