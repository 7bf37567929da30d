//! `portcullis demo`: the whole thing in one process: a local issuer, a sample upstream, the gateway; and commands to paste.

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
use crate::local_issuer::{Client, LocalIssuer, Settings};
use crate::primitives::clock::Clock;
use config::Addresses;
use guide::Tokens;

/// How long a demo token lives.
const LIFETIME: Duration = Duration::from_secs(3600);

/// How long the gateway may take to have the issuer's keys.
const PATIENCE: Duration = Duration::from_secs(10);

/// Arguments of `demo`. Port 0 is any free one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The gateway's port
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// The local issuer's port
    #[arg(long, default_value_t = 8081)]
    issuer_port: u16,
    /// The sample upstream's port
    #[arg(long, default_value_t = 8082)]
    upstream_port: u16,
    /// The admin listener's port
    #[arg(long, default_value_t = 9090)]
    admin_port: u16,
    /// Print the gateway's configuration and end
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
        Ok(demo) => demo.until_interrupted(),
        Err(what) => {
            eprintln!("error: {what}");
            ExitCode::from(FAILED)
        }
    }
}

/// A demo that runs.
struct Demo {
    running: RunningGateway,
    guide: String,
}

fn start(args: &Args) -> Result<Demo, String> {
    let issuer_listener = bind(args.issuer_port, "--issuer-port")?;
    let upstream_listener = bind(args.upstream_port, "--upstream-port")?;
    // The gateway binds its own; here it is only found out whether it can, while all four are held at once.
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
    let settings = Settings {
        issuer: format!("http://{}", addresses.issuer),
        audience: config::AUDIENCE.to_owned(),
        lifetime: LIFETIME,
        clients: clients(),
    };
    let issuer = Arc::new(LocalIssuer::new(settings, Clock::system()).map_err(|error| error.to_string())?);
    let tokens = tokens(&issuer).ok_or("a demo client is missing")?;
    serve::in_background("issuer", issuer_listener, move |request| issuer.answer(&request.question()))?;
    serve::in_background("upstream", upstream_listener, upstream::echo)?;
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

/// Asks the admin listener until it says that the keys are there.
fn wait_until_ready(admin: SocketAddr) -> Result<(), String> {
    const BETWEEN: Duration = Duration::from_millis(20);
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if is_ready(admin).unwrap_or(false) {
            return Ok(());
        }
        std::thread::sleep(BETWEEN);
    }
    Err("the gateway did not get ready; is something between it and the local issuer?".to_owned())
}

fn is_ready(admin: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(16 * 1024).read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200 "))
}

impl Demo {
    fn until_interrupted(self) -> ExitCode {
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
