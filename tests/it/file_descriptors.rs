//! File descriptors: the gateway raises its limit, and clients do not take those that everything
//! else needs.
//!
//! Each test runs the program below a shell that sets the limits.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::client::{self, Conn};
use crate::support::config::Config;
use crate::support::gateway::Samples;
use crate::support::idp::Idp;
use crate::support::origin::Origin;
use crate::support::process::ChildGuard;
use crate::support::temporary::TempDir;

/// A gateway whose process may open so many files.
struct LimitedGateway {
    idp: Idp,
    origin: Origin,
    /// Events up to the last one before it serves; if it does not start, all lines.
    events: Vec<String>,
    addresses: Vec<SocketAddr>,
    child: ChildGuard,
    _directory: TempDir,
}

impl LimitedGateway {
    async fn start(soft: u32, hard: u32, config: Config) -> Self {
        let (idp, origin, directory) = (Idp::start().await, Origin::start().await, TempDir::new());
        let file = directory.write("gateway.toml", config.to_toml(&idp.issuer(), origin.addr()));
        let script = format!("ulimit -S -n {soft} && ulimit -H -n {hard} && exec \"$0\" run -c \"$1\"");
        let child = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_portcullis")])
            .arg(file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut child = ChildGuard(child);
        let mut log = BufReader::new(child.0.stderr.take().expect("a pipe"));
        let (mut events, mut addresses) = (Vec::new(), Vec::new());
        while addresses.len() < 2 {
            let mut line = String::new();
            if log.read_line(&mut line).expect("text") == 0 {
                break;
            }
            let event: Option<Value> = serde_json::from_str(&line).ok();
            let address = event.and_then(|event| event["address"].as_str().map(str::to_owned));
            addresses.extend(address.map(|text| text.parse::<SocketAddr>().expect("an address")));
            events.push(line);
        }
        // Keeps reading: a full pipe would block the process.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { idp, origin, events, addresses, child, _directory: directory }
    }

    async fn metrics(&self) -> Samples {
        Samples::parse(&client::get(self.addresses[1], "/metrics", &[]).await.text())
    }
}

#[tokio::test]
async fn the_soft_limit_is_raised_to_the_hard_limit() {
    let gateway = LimitedGateway::start(100, 3_000, Config::minimal().add("server", "max_connections = 500")).await;
    assert_eq!(gateway.metrics().await.count("process_max_fds"), 3_000);
    assert!(!gateway.events.concat().contains("\"warn\""), "{:?}", gateway.events);
    gateway.idp.wait_for_fetches(1).await;
}

/// Threat DO-8: 10 000 clients were allowed, and there are 400 descriptors. Requests still reach
/// their upstream, and the admin listener answers.
#[tokio::test]
async fn clients_leave_descriptors_for_upstreams_and_the_admin_listener() {
    let gateway = LimitedGateway::start(400, 400, Config::minimal()).await;
    let warning = gateway.events.iter().find(|event| event.contains("max_connections is lowered"));
    let warning: Value = serde_json::from_str(warning.expect("a warning")).expect("events are JSON");
    assert_eq!((&warning["level"], &warning["limit"]), (&"warn".into(), &400.into()));
    assert!(warning["needed"].as_u64() > Some(11_000), "{warning}");
    let possible = warning["max_connections"].as_u64().expect("a number");
    assert!((16..200).contains(&possible), "{warning}");

    let mut held = Vec::new();
    for client in 1..=6 {
        for _ in 0..70 {
            held.push(Conn::open_as(client, gateway.addresses[0]).await);
        }
    }
    let mut conn = Conn::open_as(9, gateway.addresses[0]).await;
    assert_eq!(conn.request("GET", "/public/a", &[], b"").await.status, 200);
    assert_eq!(gateway.origin.requests().len(), 1);
    let samples = gateway.metrics().await;
    assert_eq!(samples.count("portcullis_accept_errors_total"), 0);
    assert!(samples.count("portcullis_connections_open") <= possible, "{possible}");
    assert!(samples.count("portcullis_connections_refused_total") > 0, "each client has a share of what is possible");
}

#[tokio::test]
async fn a_limit_that_is_too_low_is_an_error_with_both_figures() {
    let mut gateway = LimitedGateway::start(64, 64, Config::minimal()).await;
    assert_eq!(gateway.child.0.wait().expect("it ends").code(), Some(1));
    let text = gateway.events.concat();
    assert!(text.contains("may open 64 files") && text.contains("to start and up to 11"), "{text}");
}
