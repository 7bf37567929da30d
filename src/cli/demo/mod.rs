//! `portcullis demo`: runs a local issuer, a sample upstream and the gateway in one process, and
//! prints commands to try.

mod config;
mod guide;
mod serve;
mod upstream;

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio::signal::unix::{SignalKind, signal};

use super::FAILED;
use crate::app::{self, ConfigSource, Options, RunningGateway, block_on_local};
use crate::local_issuer::{Client, LocalIssuer, LocalIssuerSettings};
use crate::primitives::clock::Clock;
use config::Addresses;
use guide::Tokens;

/// Lifetime of the demo's tokens.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// How long to wait for the gateway to become ready.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `demo`. Port 0 means any free port.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port of the gateway
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Port of the local issuer
    #[arg(long, default_value_t = 8081)]
    issuer_port: u16,
    /// Port of the sample upstream
    #[arg(long, default_value_t = 8082)]
    upstream_port: u16,
    /// Port of the admin listener
    #[arg(long, default_value_t = 9090)]
    admin_port: u16,
    /// Print the gateway's configuration and exit
    #[arg(long)]
    print_config: bool,
}

/// Runs the demo until it is interrupted.
#[must_use]
#[expect(clippy::print_stderr, reason = "the command's report")]
pub fn run(args: &Args) -> ExitCode {
    let loopback = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    if args.print_config {
        let addresses = Addresses {
            gateway: loopback(args.port),
            issuer: loopback(args.issuer_port),
            upstream: loopback(args.upstream_port),
            admin: loopback(args.admin_port),
        };
        return super::print(&config::text(&addresses));
    }
    match start(args) {
        Ok(demo) => demo.wait_for_interrupt(),
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(FAILED)
        }
    }
}

/// A running demo.
struct Demo {
    running: RunningGateway,
    guide: String,
}

fn start(args: &Args) -> Result<Demo, String> {
    let issuer_listener = bind(args.issuer_port, "--issuer-port")?;
    let upstream_listener = bind(args.upstream_port, "--upstream-port")?;
    // The gateway binds its own listeners later. Binding all four ports here at the same time finds
    // free ones and reports conflicts with the flag that resolves them.
    let gateway = bind(args.port, "--port")?;
    let admin = bind(args.admin_port, "--admin-port")?;
    let address = |listener: &TcpListener| listener.local_addr().map_err(|error| error.to_string());
    let addresses = Addresses {
        gateway: address(&gateway)?,
        issuer: address(&issuer_listener)?,
        upstream: address(&upstream_listener)?,
        admin: address(&admin)?,
    };
    drop((gateway, admin));
    let settings = LocalIssuerSettings {
        issuer: format!("http://{}", addresses.issuer),
        audience: config::AUDIENCE.to_owned(),
        lifetime: TOKEN_LIFETIME,
        clients: clients(),
    };
    let issuer = Arc::new(LocalIssuer::new(settings, Clock::system()).map_err(|error| error.to_string())?);
    let tokens = tokens(&issuer).ok_or("a demo client is missing")?;
    serve::spawn_server("issuer", issuer_listener, move |request| issuer.respond(&request.issuer_request()))?;
    serve::spawn_server("upstream", upstream_listener, upstream::echo)?;
    let mut options = Options::new(std::path::PathBuf::new());
    options.source = ConfigSource::Text { name: "demo.toml".to_owned(), text: config::text(&addresses) };
    let running = app::start(options).map_err(|error| error.to_string())?;
    wait_until_ready(addresses.admin)?;
    Ok(Demo { running, guide: guide::text(&addresses, &tokens) })
}

fn bind(port: u16, flag: &str) -> Result<TcpListener, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(|error| {
        format!("cannot listen on 127.0.0.1:{port}: {error}; choose another port with {flag}, 0 for any free one")
    })
}

fn clients() -> Vec<Client> {
    let claims = |value: Value| match value {
        Value::Object(claims) => claims,
        _ => Map::new(),
    };
    vec![
        Client { id: "reader", secret: "demo", scopes: &["orders:read"], claims: claims(json!({ "plan": "free" })) },
        Client {
            id: "writer",
            secret: "demo",
            scopes: &["orders:read", "orders:write"],
            claims: claims(json!({ "plan": "gold" })),
        },
        Client {
            id: "admin",
            secret: "demo",
            scopes: &["orders:read", "orders:write"],
            claims: claims(json!({ "plan": "gold", "roles": ["admin"] })),
        },
    ]
}

fn tokens(issuer: &LocalIssuer) -> Option<Tokens> {
    Some(Tokens {
        reader: issuer.token("reader")?,
        writer: issuer.token("writer")?,
        admin: issuer.token("admin")?,
        expired: issuer.expired_token("reader")?,
    })
}

/// Polls the admin listener until the gateway is ready.
fn wait_until_ready(admin: SocketAddr) -> Result<(), String> {
    const POLL_INTERVAL: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + READY_TIMEOUT;
    while Instant::now() < deadline {
        if is_ready(admin).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Err("the gateway did not become ready; check whether it can connect to the local issuer".to_owned())
}

fn is_ready(admin: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&admin, READY_TIMEOUT)?;
    stream.set_read_timeout(Some(READY_TIMEOUT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut response = String::new();
    stream.take(16 * 1024).read_to_string(&mut response)?;
    Ok(response.starts_with("HTTP/1.1 200 "))
}

impl Demo {
    fn wait_for_interrupt(self) -> ExitCode {
        super::print(&self.guide);
        block_on_local(async {
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        self.running.stop();
        ExitCode::SUCCESS
    }
}
