//! Identity headers: what the upstream learns about the caller comes from the verified token,
//! whatever the client sends.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use portcullis::clock::Clock;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{forwarded, values};
use crate::support::client::{self, h2};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::idp::Idp;
use crate::support::origin::{Origin, RecordedRequest};
use crate::support::process::ChildGuard;
use crate::support::temporary::TempDir;
use crate::support::token::TokenBuilder;
use crate::support::with_deadline;

/// The identity headers, in any spelling that a backend may treat as ours, sorted.
fn identity(received: &RecordedRequest) -> Vec<(String, String)> {
    let folds = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-").starts_with("x-identity-");
    let mut found: Vec<_> = received.headers.iter().filter(|(name, _)| folds(name)).cloned().collect();
    found.sort();
    found
}

const FORGED: [(&str, &str); 12] = [
    ("X-Identity-Subject", "admin"),
    ("x-identity-subject", "admin"),
    ("X_Identity_Subject", "admin"),
    ("X.Identity.Subject", "admin"),
    ("x-identity_roles", "admin"),
    ("X_IDENTITY-ROLES", "admin"),
    ("X-Identity-Roles", "admin"),
    ("X-Identity-Client", "admin"),
    ("X-Identity-Issuer", "https://evil.example"),
    ("X-Identity-Scopes", "admin"),
    ("X-Identity-Anything", "admin"),
    ("X-Identity-", "admin"),
];

/// HH-1, I3, C2, A60–A63.
#[tokio::test]
async fn forged_identity_headers_never_reach_the_upstream() {
    let config = Config::minimal()
        .route("optional", "access = \"optional\"")
        .route("report", "report_only = true\nscopes = [\"never\"]");
    let fixture = Fixture::start(config).await;
    let token = fixture.token().claim("client_id", "shop").claim("roles", json!(["buyer", "seller"])).scope("b a");
    let bearer = token.to_bearer();
    let issuer = fixture.idp.issuer();
    let whole = [
        ("x-identity-client", "shop"),
        ("x-identity-issuer", &*issuer),
        ("x-identity-roles", "buyer,seller"),
        ("x-identity-scopes", "a b"),
        ("x-identity-subject", "alice"),
    ];
    let owned = |lines: &[(&str, &str)]| lines.iter().map(|&(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>();
    for (name, target, token, expected) in [
        ("a token", "/token/a", Some(&*bearer), &whole[..]),
        ("a public route", "/public/a", None, &[]),
        ("a public route and a token", "/public/a", Some(&bearer), &[]),
        ("an optional route", "/optional/a", None, &[]),
        ("an optional route and a token", "/optional/a", Some(&bearer), &whole),
        ("a report-only route and a bad token", "/report/a", Some("Bearer a.b.c"), &[]),
        ("a report-only route and a token without the scope", "/report/a", Some(&bearer), &whole),
    ] {
        let token: Vec<_> = token.map(|token| ("Authorization", token)).into_iter().collect();
        let received = forwarded(&fixture, target, &[&FORGED[..], &token].concat()).await;
        assert_eq!(identity(&received), owned(expected), "{name}");
        let over_h2: Vec<_> = FORGED.iter().chain(&token).map(|&(n, v)| (n.to_ascii_lowercase(), v)).collect();
        let over_h2: Vec<_> = over_h2.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        assert_eq!(h2(fixture.gateway.addr()).await.get(target, &over_h2).await.status, 200, "{name}");
        assert_eq!(identity(&fixture.origin.requests().pop().expect(name)), owned(expected), "{name}, HTTP/2");
    }
    for target in ["/token/a", "/nowhere", "/publicly"] {
        let before = fixture.origin.requests().len();
        assert!(matches!(fixture.get(target, &FORGED).await.status, 401 | 404), "{target}");
        assert_eq!(fixture.origin.requests().len(), before, "{target}");
    }
    let similar =
        forwarded(&fixture, "/public/a", &[("XIdentitySubject", "x"), ("Identity-Subject", "y"), ("X-Identity", "z")])
            .await;
    assert_eq!(
        ["xidentitysubject", "identity-subject", "x-identity"].map(|n| similar.header(n)),
        [Some("x"), Some("y"), Some("z")]
    );
}

/// HH-1, HH-8: what backends made for other systems read can be filled by the gateway, and is then
/// the gateway's alone.
#[tokio::test]
async fn identity_headers_of_other_systems_can_be_the_gateways() {
    let names = ["X-Forwarded-User", "X-Auth-Request-Email", "Remote-User", "X-WEBAUTH-USER", "X-SSL-Client-DN"];
    let table = names.map(|name| format!("{name} = \"subject\"\n")).concat();
    for proxies in ["[]", "[\"127.0.0.1\"]"] {
        let config = Config::minimal()
            .add("server", &format!("trusted_proxies = {proxies}"))
            .append(&format!("[identity.headers]\n{table}"));
        let fixture = Fixture::start(config).await;
        let aliases = names.map(|name| name.replace('-', "_"));
        let mut fields: Vec<_> =
            names.iter().copied().chain(aliases.iter().map(String::as_str)).map(|n| (n, "admin")).collect();
        fields.extend([("X-Forwarded-Groups", "admin"), ("X-Identity-Subject", "admin")]);
        let anonymous = forwarded(&fixture, "/public/a", &fields).await;
        let bearer = fixture.bearer("alice");
        fields.push(("Authorization", &bearer));
        let known = forwarded(&fixture, "/token/a", &fields).await;
        for name in names {
            let name = name.to_ascii_lowercase();
            assert_eq!(values(&anonymous, &name), Vec::<&str>::new(), "{proxies}: {name}");
            assert_eq!(values(&known, &name), ["alice"], "{proxies}: {name}");
        }
        for received in [anonymous, known] {
            assert!(!received.headers.iter().any(|(_, value)| value == "admin"), "{:?}", received.headers);
        }
    }
}

/// HH-1, RS-1: a value can neither break a header nor be mistaken for another value.
#[tokio::test]
async fn identity_values_are_encoded_and_bounded_or_omitted() {
    let table = r#"
[identity.headers]
X-Identity-Subject = "subject"
X-Identity-Roles = "roles"
X-Identity-Email = "claim:email"
X-User = "claim:/https:~1~1e.example~1user"
"#;
    let fixture = Fixture::start(Config::minimal().append(table)).await;
    let (limit, over) = ("a".repeat(4096), "a".repeat(4097));
    for (name, claim, value, header, expected) in [
        ("as it is", "sub", json!("alice smith"), "x-identity-subject", Some("alice smith")),
        ("not ASCII", "sub", json!("jürgen"), "x-identity-subject", Some("j%C3%BCrgen")),
        (
            "a line break",
            "email",
            json!("a\r\nX-Identity-Roles: admin"),
            "x-identity-email",
            Some("a%0D%0AX-Identity-Roles: admin"),
        ),
        ("a NUL and a tab", "email", json!("a\0\tb"), "x-identity-email", Some("a%00%09b")),
        ("a percent sign", "sub", json!("100%25"), "x-identity-subject", Some("100%2525")),
        ("spaces at its ends", "sub", json!(" a "), "x-identity-subject", Some("%20a%20")),
        ("a comma in a role", "roles", json!(["a,admin", "b"]), "x-identity-roles", Some("a%2Cadmin,b")),
        ("no roles", "roles", json!([]), "x-identity-roles", None),
        ("a claim", "email", json!("a@b.example"), "x-identity-email", Some("a@b.example")),
        ("a claim that is null", "email", Value::Null, "x-identity-email", None),
        ("a claim that is empty", "email", json!(""), "x-identity-email", None),
        ("a claim that is a number", "email", json!(7), "x-identity-email", Some("7")),
        ("a claim that is a large integer", "email", json!(u64::MAX), "x-identity-email", Some("18446744073709551615")),
        ("a claim that could be several integers", "email", json!([1, 1e19]), "x-identity-email", None),
        ("a claim with a URL for a name", "https://e.example/user", json!("u"), "x-user", Some("u")),
        ("as long as allowed", "email", json!(limit), "x-identity-email", Some(&*limit)),
        ("a byte longer", "email", json!(over), "x-identity-email", None),
        ("too long once encoded", "email", json!("é".repeat(1000)), "x-identity-email", None),
    ] {
        let bearer = fixture.token().claim(claim, value.clone()).to_bearer();
        let forged = [
            ("X-Identity-Subject", "admin"),
            ("X-Identity-Roles", "admin"),
            ("X-Identity-Email", "admin"),
            ("X_User", "admin"),
            ("X-Identity-Issuer", "admin"),
        ];
        let received = forwarded(&fixture, "/token/a", &[&forged[..], &[("Authorization", &bearer)]].concat()).await;
        assert_eq!(values(&received, header), expected.into_iter().collect::<Vec<_>>(), "{name}");
        assert!(!received.headers.iter().any(|(_, value)| value == "admin"), "{name}: {:?}", received.headers);
    }
    assert_eq!(fixture.gateway.count("portcullis_identity_headers_omitted_total").await, 2);
}

/// `identity.max_value_size`: a header that is too long does not vanish silently.
#[tokio::test]
async fn an_omitted_identity_header_is_in_the_access_log_of_each_request() {
    let roles = |count: usize| (0..count).map(|number| format!("{number:0>99}")).collect::<Vec<_>>();
    for (setting, largest) in
        [("", 40), ("[identity]\nmax_value_size = \"32 KiB\"", 80), ("[identity]\nmax_value_size = \"100 B\"", 1)]
    {
        let config = Config::minimal().add("server", "max_header_size = \"128 KiB\"\nmax_token_size = \"64 KiB\"");
        let config = if setting.is_empty() { config } else { config.append(setting) };
        let fixture = Fixture::start(config).await;
        let fits = fixture.token().claim("roles", roles(largest)).to_bearer();
        let received = forwarded(&fixture, "/token/a", &[("Authorization", &fits)]).await;
        assert_eq!(values(&received, "x-identity-roles"), [roles(largest).join(",")], "{setting}");
        let too_long = fixture.token().claim("roles", roles(if largest == 80 { 330 } else { 100 })).to_bearer();
        for _ in 0..2 {
            let received = forwarded(&fixture, "/token/a", &[("Authorization", &too_long)]).await;
            assert_eq!(received.header("x-identity-roles"), None, "{setting}");
            assert_eq!(received.header("x-identity-subject"), Some("alice"), "{setting}: the others stay");
        }
        let lines = fixture.gateway.wait_for_access_lines(3).await;
        let omitted: Vec<_> = lines.iter().map(|line| line["identity_omitted"].as_str()).collect();
        assert_eq!(omitted, [None, Some("x-identity-roles"), Some("x-identity-roles")], "{setting}");
        let count = fixture.gateway.count("portcullis_identity_headers_omitted_total").await;
        assert_eq!(count, 1, "{setting}: once for each token");
    }
}

/// An operator learns the header's name without looking for it.
#[tokio::test]
async fn an_omitted_identity_header_is_a_warning_with_its_name() {
    let (idp, origin, directory) = (Idp::start().await, Origin::start().await, TempDir::new());
    let config = Config::minimal().append("[identity]\nmax_value_size = \"64 B\"");
    let file = directory.write("gateway.toml", config.to_toml(&idp.issuer(), origin.addr()));
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.arg("run").arg("-c").arg(file).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = ChildGuard(command.spawn().expect("the program starts"));
    let log = BufReader::new(process.0.stderr.take().expect("a pipe"));
    let (sender, mut events) = mpsc::unbounded_channel();
    std::thread::spawn(move || log.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut wait_for = async |key: &str| loop {
        let line = with_deadline(key, events.recv()).await.expect("the process has not ended");
        let event: Value = serde_json::from_str(&line).expect("events are JSON");
        if event.get(key).is_some() {
            return event;
        }
    };
    let addr = wait_for("address").await["address"].as_str().expect("a text").parse().expect("an address");
    let now = Clock::system().now().seconds();
    let bearer = TokenBuilder::at(&idp.issuer(), now).claim("roles", json!(["r".repeat(65)])).to_bearer();
    let answered = async { while client::get(addr, "/token/a", &[("Authorization", &bearer)]).await.status != 200 {} };
    with_deadline("an answer, once there are keys", answered).await;
    let event = wait_for("header").await;
    let names = ["level", "message", "header", "issuer", "bytes", "max_value_size"];
    let expected =
        json!(["warn", "identity header omitted: its value is too long", "x-identity-roles", "main", 65, 64]);
    assert_eq!(json!(names.map(|name| event[name].clone())), expected);
}

/// A name that a backend may treat as one of ours, or that only resembles one.
fn any_name() -> impl Strategy<Value = String> {
    let separator = prop_oneof![Just("-"), Just("_"), Just("."), Just("--"), Just("")];
    let word = prop_oneof![
        Just("subject"),
        Just("ROLES"),
        Just("Issuer"),
        Just("client"),
        Just("scopes"),
        Just("Email"),
        Just("é"),
        Just("")
    ];
    (
        prop_oneof![Just("x"), Just("X"), Just("xx"), Just("")],
        separator.clone(),
        prop_oneof![Just("identity"), Just("IdEnTiTy"), Just("identit")],
        separator,
        word,
    )
        .prop_map(|(x, first, identity, second, word)| format!("{x}{first}{identity}{second}{word}"))
        .prop_filter("a field name", |name| http::HeaderName::try_from(name.as_str()).is_ok())
}

/// P2: whatever a client sends, the upstream sees exactly the verified token's identity, each
/// header once; or none without a token.
#[test]
fn whatever_names_are_sent_identity_is_the_tokens() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
    let fixture = runtime.block_on(Fixture::start(Config::minimal()));
    let bearer = fixture.bearer("alice");
    let names = proptest::collection::vec((any_name(), "[ -~]{0,12}"), 0..12);
    let config = ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(fields in names, known in any::<bool>(), nominate in any::<bool>(), version_2 in any::<bool>())| {
        let mut sent: Vec<(String, &str)> = fields.iter().map(|(n, v)| (if version_2 { n.to_ascii_lowercase() } else { n.clone() }, v.trim())).collect();
        let nominated = fields.iter().map(|(name, _)| name.as_str()).chain(["x-identity-subject"]).collect::<Vec<_>>().join(", ");
        if nominate && !version_2 {
            sent.push(("Connection".into(), &nominated));
        }
        if known {
            sent.push(("authorization".into(), &bearer));
        }
        let sent: Vec<_> = sent.iter().map(|(n, v)| (n.as_str(), *v)).collect();
        let target = if known { "/token/p" } else { "/public/p" };
        let status = runtime.block_on(async {
            if version_2 { h2(fixture.gateway.addr()).await.get(target, &sent).await.status } else { fixture.get(target, &sent).await.status }
        });
        prop_assert_eq!(status, 200);
        let received = fixture.origin.requests().pop().expect("a request at the origin");
        let issuer = fixture.idp.issuer();
        let expected = [("x-identity-issuer", issuer.as_str()), ("x-identity-scopes", "orders:read"), ("x-identity-subject", "alice")];
        let expected: Vec<_> = expected.iter().filter(|_| known).map(|&(n, v)| (n.to_owned(), v.to_owned())).collect();
        prop_assert_eq!(identity(&received), expected);
    });
}
