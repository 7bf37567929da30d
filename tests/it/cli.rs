//! The command line: the output and the exit code of each command.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{ChildStderr, Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::client::{self, Conn};
use crate::support::closed_port;
use crate::support::config::Config;
use crate::support::idp::Idp;
use crate::support::origin::Origin;
use crate::support::process::ChildGuard;
use crate::support::temporary::TempDir;
use crate::support::token::{TestKey, TokenBuilder};

fn portcullis(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_portcullis")).args(arguments).output().expect("the program starts")
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed by a signal")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const ROUTES: &str = r#"
[issuers.main]
issuer = "https://idp.example"
audiences = ["api"]
jwks_file = "KEYS"

[upstreams.orders]
servers = ["http://127.0.0.1:9"]

[[routes]]
path = "/*"
access = "public"
upstream = "orders"

[[routes]]
name = "read"
host = "api.example"
path = "/orders/{id}"
methods = ["GET"]
scopes = ["orders:read"]
roles = ["staff"]
upstream = "orders"
"#;

/// Writes [`ROUTES`] and the key file that it refers to.
fn write_config(directory: &TempDir) -> String {
    let keys = directory.write("keys.json", json!({ "keys": [TestKey::rsa("k1").public_jwk()] }).to_string());
    let text = ROUTES.replace("KEYS", keys.to_str().expect("UTF-8"));
    directory.write("gateway.toml", text).to_str().expect("UTF-8").to_owned()
}

#[test]
fn check_prints_the_routes_in_order_of_precedence() {
    let directory = TempDir::new();
    let file = write_config(&directory);
    let output = portcullis(&["check", "-c", &file]);
    assert_eq!(code(&output), 0, "{}", text(&output.stderr));
    let shown = text(&output.stdout).replace(&file, "gateway.toml");
    insta::assert_snapshot!(shown, @r"
    gateway.toml: ok (2 routes, 1 issuer, 1 upstream)

    HOST         PATH          METHODS  ACCESS                                  UPSTREAM  NAME
    api.example  /orders/{id}  GET      token, scopes orders:read, roles staff  orders    read
    any          /*            all      public                                  orders    /*

    warning: line 18, routes[1].path: `/ORDERS/x`, `/orders/x/`: served by the route `/*`, which is public. A service that takes these paths for `/orders/{id}` answers without the checks of the route `read`
       hint: replace `/*` with narrower paths, or add routes for these paths with the rules of `read`, or make sure that the service distinguishes them
    ");
}

/// PA-4, PA-12: what the warning says closes the gap, and then there is none.
#[test]
fn check_warns_of_paths_near_a_protected_one_until_they_are_closed() {
    let directory = TempDir::new();
    let file = write_config(&directory);
    let open = std::fs::read_to_string(&file).expect("the file");
    let added = "\n[[routes]]\nhost = \"api.example\"\npath = \"PATH\"\nscopes = [\"orders:read\"]\nroles = [\"staff\"]\nupstream = \"orders\"\n";
    let covered = ["/orders/{id}/", "/ORDERS/{id}"].map(|path| added.replace("PATH", path)).concat();
    for (name, config, warned) in [
        ("as it is", open.clone(), true),
        ("a narrower public route", open.replace("path = \"/*\"", "path = \"/public/*\""), false),
        ("the near paths covered", open.clone() + &covered, false),
    ] {
        std::fs::write(&file, config).expect("the file");
        let output = portcullis(&["check", "-c", &file]);
        assert_eq!(code(&output), 0, "{name}: {}", text(&output.stderr));
        assert_eq!(text(&output.stdout).contains("\nwarning: "), warned, "{name}: {}", text(&output.stdout));
    }
}

#[test]
fn check_prints_all_problems_to_stderr_and_exits_with_78() {
    let directory = TempDir::new();
    let path = directory.write("bad.toml", "[server]\nlisten = 1\n[routs]\n");
    let output = portcullis(&["check", "-c", path.to_str().expect("UTF-8")]);
    assert_eq!((code(&output), text(&output.stdout)), (78, String::new()));
    let printed = text(&output.stderr);
    for part in ["line 2", "server.listen", "line 3", "did you mean `routes`?"] {
        assert!(printed.contains(part), "{part} in {printed}");
    }
    assert_eq!(code(&portcullis(&["check", "-c", "/does/not/exist.toml"])), 78);
    assert_eq!(code(&portcullis(&["run", "-c", path.to_str().expect("UTF-8")])), 78);
}

#[tokio::test]
async fn check_online_contacts_issuers_and_upstreams() {
    let (idp, origin, directory) = (Idp::start().await, Origin::start().await, TempDir::new());
    let good = directory.write("good.toml", Config::minimal().to_toml(&idp.issuer(), origin.addr()));
    let output = portcullis(&["check", "--online", "-c", good.to_str().expect("UTF-8")]);
    assert_eq!(code(&output), 0, "{}{}", text(&output.stdout), text(&output.stderr));
    assert!(text(&output.stdout).contains("issuer main: ok, 1 key usable"), "{}", text(&output.stdout));
    let toml = Config::minimal().replace("issuers.main", "algorithms = [\"ES256\", \"EdDSA\"]");
    let other = directory.write("other.toml", toml.to_toml(&idp.issuer(), origin.addr()));
    let output = portcullis(&["check", "--online", "-c", other.to_str().expect("UTF-8")]);
    let expected =
        "FAILED  issuer main: its keys are for RS256, but `issuers.main.algorithms` accepts only ES256, EdDSA";
    assert_eq!(code(&output), 1);
    assert!(text(&output.stdout).contains(expected), "{}", text(&output.stdout));
    idp.fail_with(500);
    let output = portcullis(&["check", "--online", "-c", good.to_str().expect("UTF-8")]);
    assert_eq!(code(&output), 1);
    assert!(text(&output.stdout).contains("FAILED  issuer main"), "{}", text(&output.stdout));
}

#[test]
fn explain_shows_the_rule_behind_a_decision_and_its_line() {
    let directory = TempDir::new();
    let file = write_config(&directory);
    let claims = |name: &str, scope: &str, roles: Value| {
        let now = portcullis::clock::Clock::system().now().seconds();
        let claims = json!({ "iss": "https://idp.example", "aud": "api", "sub": "alice", "exp": now + 60, "scope": scope, "roles": roles });
        directory.write(name, claims.to_string()).to_str().expect("UTF-8").to_owned()
    };
    let reader = claims("reader.json", "orders:read", json!([]));
    let now = portcullis::clock::Clock::system().now().seconds();
    let id_token = json!({ "iss": "https://idp.example", "aud": "api", "sub": "alice", "exp": now + 60, "nonce": "n" });
    let id_token = directory.write("id_token.json", id_token.to_string());
    let url = "https://api.example/orders/7";
    for (name, arguments, status, parts) in [
        ("public", vec!["GET", "/anything"], 0, vec!["note  host       none given", "allowed", "public: no token"]),
        ("no token", vec!["GET", url], 1, vec!["401 credentials_missing", "routes[1].access"]),
        (
            "without the role",
            vec!["GET", url, "--claims", &reader],
            1,
            vec!["403 access_denied", "pass  demand", "FAIL  demand", "roles staff", ":21 routes[1].roles"],
        ),
        (
            "the claims of an ID token",
            vec!["GET", url, "--claims", id_token.to_str().expect("UTF-8")],
            1,
            vec!["401 token_invalid (not an access token: nonce)"],
        ),
        ("a dot segment", vec!["GET", "https://api.example/a/../b"], 1, vec!["400 path_refused"]),
        (
            "a form that the route could accept",
            vec!["GET", "https://api.example/orders/a%2Fb"],
            1,
            vec![
                "400 path_refused (path_encoded_slash)",
                "FAIL  path       the path has an escaped `/`: a route accepts it with unusual_paths = [\"encoded_slash\"]",
                ":15 routes[1].unusual_paths]",
            ],
        ),
        ("a path of two readings", vec!["GET", "https://api.example/orders/a%3Fb/c"], 1, vec!["(path_ambiguous)"]),
        ("a method without a route", vec!["POST", url], 1, vec!["405 method_not_allowed"]),
        (
            "a gRPC call",
            vec!["POST", url, "--grpc"],
            1,
            vec!["405 method_not_allowed", "the client reads: 200, grpc-status 12 UNIMPLEMENTED"],
        ),
    ] {
        let output = portcullis(&[&["explain", "-c", &file], &arguments[..]].concat());
        let printed = text(&output.stdout);
        assert_eq!(code(&output), status, "{name}: {printed}{}", text(&output.stderr));
        for part in parts {
            assert!(printed.contains(part), "{name}: {part} in\n{printed}");
        }
    }
}

#[test]
fn explain_names_an_identity_header_that_is_omitted() {
    let directory = TempDir::new();
    let config = Config::minimal().to_toml("https://idp.example", crate::support::closed_port());
    let file = directory.write("gateway.toml", config);
    let exp = portcullis::clock::Clock::system().now().seconds() + 60;
    let claims =
        json!({ "iss": "https://idp.example", "aud": "api", "sub": "alice", "exp": exp, "roles": ["r".repeat(5000)] });
    let claims = directory.write("claims.json", claims.to_string());
    let [file, claims] = [&file, &claims].map(|path| path.to_str().expect("UTF-8"));
    let output = portcullis(&["explain", "-c", file, "GET", "/token/a", "--claims", claims]);
    let printed = text(&output.stdout);
    assert_eq!(code(&output), 0, "{printed}{}", text(&output.stderr));
    for part in ["x-identity-subject: alice", "x-identity-roles: omitted, the value is too long"] {
        assert!(printed.contains(part), "{part} in\n{printed}");
    }
}

#[test]
fn explain_verifies_a_real_token_and_prints_json() {
    let directory = TempDir::new();
    let file = write_config(&directory);
    let token = TokenBuilder::new("https://idp.example").scope("other").to_jwt();
    let token_file = directory.write("token", &token);
    for arguments in [["--token", &token], ["--token-file", token_file.to_str().expect("UTF-8")]] {
        let output = portcullis(
            &[&["explain", "-c", &file, "GET", "https://api.example/orders/7", "--json"], &arguments[..]].concat(),
        );
        assert_eq!(code(&output), 1);
        let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!((&printed["allowed"], &printed["code"]), (&json!(false), &json!("scope_insufficient")), "{printed}");
        for key in ["routes[1].scopes", "routes[1].roles"] {
            assert!(
                printed["steps"].as_array().expect("steps").iter().any(|step| step["key"] == key),
                "{key}: {printed}"
            );
        }
    }
    let forged = format!("{}x", &token[..token.len() - 1]);
    let output = portcullis(&["explain", "-c", &file, "GET", "https://api.example/orders/7", "--token", &forged]);
    assert!(text(&output.stdout).contains("401 token_invalid"), "{}", text(&output.stdout));
}

/// The stages as docs/life-of-a-request.md draws them: `├─ 1 normalize …`.
fn documented_stages() -> Vec<String> {
    let document = include_str!("../../docs/life-of-a-request.md");
    let lines = document.lines().filter_map(|line| line.split_once("─ "));
    let numbered = lines.filter_map(|(_, text)| {
        let (number, rest) = text.split_once(' ')?;
        number.parse::<u32>().ok().map(|_| rest.split(' ').next().unwrap_or_default().to_owned())
    });
    numbered.collect()
}

/// `explain` runs the function that decides real requests, and so the same stages in the same
/// order.
#[test]
fn explain_goes_through_every_stage_of_a_request_in_order() {
    let directory = TempDir::new();
    let file = write_config(&directory);
    let text = std::fs::read_to_string(&file).expect("written above");
    let limits = "[limits.before]\nkey = \"ip\"\nrate = \"1/s\"\n[limits.after]\nkey = \"subject\"\nrate = \"1/s\"\n";
    let text = text.replace("roles = [\"staff\"]", "limits = [\"before\", \"after\"]");
    let file = directory.write("limited.toml", format!("{limits}{text}"));
    let token = TokenBuilder::new("https://idp.example").scope("orders:read").sign(&TestKey::rsa("k1"));
    let output = portcullis(&[
        "explain",
        "-c",
        file.to_str().expect("UTF-8"),
        "GET",
        "https://api.example/orders/7",
        "--json",
        "--token",
        &token,
    ]);
    let explanation: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(explanation["allowed"], json!(true), "{explanation}");
    let mut stages: Vec<_> = explanation["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| step["stage"].as_str().expect("text"))
        .collect();
    stages.dedup();
    assert_eq!(stages, documented_stages());
    assert_eq!(stages.len(), 8);
}

#[test]
fn schema_and_completions_print_machine_readable_output() {
    let schema: Value = serde_json::from_slice(&portcullis(&["schema"]).stdout).expect("JSON");
    for table in ["server", "admin", "issuers", "upstreams", "cors", "limits", "identity", "routes", "log"] {
        assert!(schema["properties"].get(table).is_some(), "{table}");
    }
    let script = text(&portcullis(&["completions", "bash"]).stdout);
    assert!(script.contains("portcullis") && script.contains("explain"), "{script}");
}

/// Every command has a page with its options, and the main page lists the commands and exit codes.
#[test]
fn each_command_has_a_manual_page() {
    let main = text(&portcullis(&["man"]).stdout);
    let help = text(&portcullis(&["--help"]).stdout);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .map_while(|line| line.strip_prefix("  ")?.split(' ').next())
        // A long description continues on a line of its own.
        .filter(|name| !name.is_empty())
        .collect();
    assert!(commands.contains(&"run") && commands.contains(&"man"), "{commands:?}");
    for command in commands {
        let title = format!("portcullis\\-{command}");
        assert!(main.contains(&title), "{title} is not in {main}");
        let page = text(&portcullis(&["man", command]).stdout);
        assert!(page.contains(&format!(".TH portcullis-{command} 1")), "{page}");
        assert!(page.contains(".SH OPTIONS"), "{page}");
    }
    for part in [".SH \"EXIT STATUS\"", "\n78\n", ".SH SIGNALS"] {
        assert!(main.contains(part), "{part} is not in {main}");
    }
}

#[test]
fn usage_errors_exit_with_64_and_help_with_0() {
    for (arguments, expected) in [
        (&["--version"][..], 0),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&[], 64),
        (&["serve"], 64),
        (&["check", "--nope"], 64),
        (&["health", "ftp://x"], 64),
        (&["completions", "tcsh"], 64),
        (&["man", "serve"], 64),
    ] {
        assert_eq!(code(&portcullis(arguments)), expected, "{arguments:?}");
    }
}

/// `portcullis run` in a process of its own, killed when dropped.
struct RunProcess {
    child: ChildGuard,
    addresses: Vec<SocketAddr>,
}

impl RunProcess {
    /// Starts the gateway and reads the addresses of its two listeners from its log.
    fn start(file: &str) -> Self {
        let (run, mut log) = Self::start_unread(file);
        // Keeps reading, so that no event is lost.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        run
    }

    /// Like [`start`](Self::start), with the pipe of the log, which is read no further.
    fn start_unread(file: &str) -> (Self, BufReader<ChildStderr>) {
        let child = Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .args(["run", "-c", file])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut child = ChildGuard(child);
        let mut log = BufReader::new(child.0.stderr.take().expect("a pipe"));
        let mut addresses = Vec::new();
        while addresses.len() < 2 {
            let mut line = String::new();
            assert!(log.read_line(&mut line).expect("text") > 0, "the process ended before it listened");
            let event: Value = serde_json::from_str(&line).expect("events are JSON");
            addresses.extend(event["address"].as_str().map(|text| text.parse::<SocketAddr>().expect("an address")));
        }
        (Self { child, addresses }, log)
    }

    fn signal(&self, name: &str) {
        let status =
            Command::new("kill").args([name, &self.child.0.id().to_string()]).status().expect("kill can be run");
        assert!(status.success());
    }
}

#[tokio::test]
async fn run_reloads_on_sighup_and_drains_on_sigterm() {
    let (idp, origin, directory) = (Idp::start().await, Origin::start().await, TempDir::new());
    let write = |config: Config| directory.write("gateway.toml", config.to_toml(&idp.issuer(), origin.addr()));
    let file = write(Config::minimal()).to_str().expect("UTF-8").to_owned();
    let mut run = RunProcess::start(&file);
    let [data, admin] = run.addresses[..] else { panic!("two addresses: {:?}", run.addresses) };
    let url = format!("http://{admin}/readyz");
    idp.wait_for_fetches(1).await;
    crate::support::with_deadline("ready", async { while code(&portcullis(&["health", &url])) != 0 {} }).await;
    assert_eq!(client::get(data, "/extra", &[]).await.status, 404);
    write(Config::minimal().route("extra", "path = \"/extra\"\naccess = \"public\""));
    run.signal("-HUP");
    crate::support::with_deadline("the new route", async {
        while client::get(data, "/extra", &[]).await.status != 200 {}
    })
    .await;
    run.signal("-TERM");
    let ended = tokio::task::spawn_blocking(move || run.child.0.wait().map(|status| (status, run)));
    let (status, _run) = crate::support::with_deadline("the end", ended).await.expect("no panic").expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert_eq!(code(&portcullis(&["health", &url])), 1);
}

/// Events are queued: a pipe that is not read, which holds 64 KiB, delays no request.
#[tokio::test]
async fn run_serves_while_its_events_are_not_read() {
    const REQUESTS: usize = 1_000;
    let (idp, directory) = (Idp::start().await, TempDir::new());
    let config = Config::minimal().append("[log]\nlevel = \"debug\"");
    let file = directory.write("gateway.toml", config.to_toml(&idp.issuer(), closed_port()));
    let (run, log) = RunProcess::start_unread(file.to_str().expect("UTF-8"));
    let mut connection = Conn::open(run.addresses[0]).await;
    for number in 0..REQUESTS {
        connection.send("GET /public/a HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
        assert_eq!(connection.read_response().await.status, 502, "{number}");
    }
    drop(log);
}

/// Behind a proxy that it does not trust, the gateway takes all clients for one. The operator reads
/// so in the log, once a worker has seen enough requests.
#[tokio::test]
async fn run_reports_a_proxy_that_is_not_trusted() {
    const WINDOW: usize = 10_000;
    let (idp, directory) = (Idp::start().await, TempDir::new());
    for (name, trusted, field, reported) in [
        ("not trusted", "", "X-Forwarded-For", true),
        ("trusted", "trusted_proxies = [\"127.0.0.1\"]", "X-Forwarded-For", false),
        ("nothing is forwarded", "", "X-Other", false),
    ] {
        let config = Config::minimal().one_worker();
        let config = if trusted.is_empty() { config } else { config.add("server", trusted) };
        let file = directory.write("gateway.toml", config.to_toml(&idp.issuer(), closed_port()));
        let (run, mut log) = RunProcess::start_unread(file.to_str().expect("UTF-8"));
        let request = |connection| {
            format!("GET /nowhere HTTP/1.1\r\nHost: a\r\n{field}: 203.0.113.9\r\nConnection: {connection}\r\n\r\n")
        };
        let requests = request("keep-alive").repeat(WINDOW - 1) + &request("close");
        let responses = client::raw(run.addresses[0], requests).await;
        assert_eq!(responses.matches("HTTP/1.1 404 ").count(), WINDOW, "{name}");
        run.signal("-TERM");
        let reading = tokio::task::spawn_blocking(move || {
            let mut events = String::new();
            log.read_to_string(&mut events).map(|_| events)
        });
        let events = crate::support::with_deadline("the end", reading).await.expect("no panic").expect("text");
        assert_eq!(events.contains("list it in server.trusted_proxies"), reported, "{name}: {events}");
    }
}

/// However long the drain may take.
#[tokio::test]
async fn a_second_sigterm_ends_the_process_at_once() {
    let (idp, origin, directory) = (Idp::start().await, Origin::start().await, TempDir::new());
    let config = Config::minimal().replace("server", "drain_delay = \"1h\"");
    let file = directory.write("gateway.toml", config.to_toml(&idp.issuer(), origin.addr()));
    let mut run = RunProcess::start(file.to_str().expect("UTF-8"));
    let admin = run.addresses[1];
    run.signal("-TERM");
    crate::support::with_deadline("draining", async {
        while !client::get(admin, "/readyz", &[]).await.text().contains("draining") {}
    })
    .await;
    run.signal("-TERM");
    let ended = tokio::task::spawn_blocking(move || run.child.0.wait());
    let status = crate::support::with_deadline("the end", ended).await.expect("no panic").expect("it ends");
    assert_eq!(status.code(), Some(0));
}
