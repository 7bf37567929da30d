//! A gateway on the thread that measures it: downstream, pipeline and pool share one event loop
//! with a client and an origin that allocate nothing.
//!
//! What is measured during a round trip (time, allocations) belongs to the gateway and the kernel.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use portcullis::clock::Clock;
use portcullis::internals::AccessLog;
use portcullis::internals::Adopter;
use portcullis::internals::CurrentRuntime;
use portcullis::internals::LineFormat;
use portcullis::internals::Metrics;
use portcullis::internals::Plan;
use portcullis::internals::handles;
use portcullis::internals::load_text;
use portcullis::internals::random;
use portcullis::internals::shutdown::{self, Trigger};
use portcullis::internals::{BindOptions, Copies, Downstream, InheritedSockets, bind, serve};
use portcullis::internals::{ConnectionLimits, Maximum};
use portcullis::internals::{Gateway, Worker};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};

use crate::token::{TestKey, TokenBuilder};

/// The issuer of the rig's tokens.
pub(crate) const ISSUER: &str = "https://idp.example";

/// The origin's response to every request.
const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"status\":\"shipped\"}";

/// The gateway, with a client connection to it and an origin behind it.
pub(crate) struct Rig {
    runtime: LocalRuntime,
    client: TcpStream,
    buffer: Box<[u8]>,
    key: TestKey,
    files: PathBuf,
    _trigger: Trigger,
}

/// Optional features of the gateway that the rig turns on.
#[derive(Clone, Copy, Default)]
pub(crate) struct Features {
    /// An access log that is discarded.
    pub(crate) access_log: bool,
    /// CORS, and a rate limit on each caller.
    pub(crate) cors_and_limit: bool,
}

impl Rig {
    /// # Panics
    ///
    /// If it cannot be set up.
    pub(crate) fn start(features: Features) -> Self {
        let runtime =
            Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).expect("a runtime");
        let key = TestKey::rsa("rig");
        let files = std::env::temp_dir().join(format!("portcullis-rig-{}", random::hex(&random::bytes::<8>())));
        std::fs::create_dir(&files).expect("a new directory");
        let keys = files.join("jwks.json");
        std::fs::write(&keys, serde_json::json!({ "keys": [key.public_jwk()] }).to_string()).expect("a file");
        let (trigger, shutdown) = shutdown::channel();
        let client = runtime.block_on(async {
            let origin = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let text = configuration(&keys.display().to_string(), origin.local_addr().expect("bound"), features);
            let loaded = load_text("the rig", &text, &|_| None);
            let plan = Plan::compile(loaded).unwrap_or_else(|problems| panic!("{problems}"));
            let (clock, metrics) = (Clock::system(), Metrics::new(Clock::system()));
            let log = if features.access_log {
                let (log, writer) = AccessLog::new(LineFormat::Json, Box::new(std::io::sink()), &metrics);
                std::thread::spawn(move || writer.run());
                log
            } else {
                AccessLog::off()
            };
            let adopted =
                Adopter::new(Arc::clone(&metrics), clock, log).adopt(&plan, None).expect("a plan that can be adopted");
            for issuer in adopted.issuers().iter() {
                tokio::task::spawn_local(Arc::clone(issuer.keys()).run(shutdown.clone()));
            }
            let options = BindOptions { unix_mode: plan.server.unix_mode, workers: 1, copies: Copies::NotKept };
            let mut bound =
                bind(&plan.server.listeners, options, &mut InheritedSockets::default()).expect("a free port");
            let listeners = bound.by_worker.remove(0);
            let address = bound.addresses[0].to_string();
            let limits = ConnectionLimits::new(Maximum { configured: 16, possible: 16 }, metrics.connections());
            let downstream = Downstream { limits, handle: handles(1).remove(0) };
            let gateway = Rc::new(Gateway::new(Worker::new(CurrentRuntime::new(adopted), shutdown.clone())));
            tokio::task::spawn_local(serve(listeners, gateway, downstream, shutdown));
            tokio::task::spawn_local(serve_origin(origin));
            TcpStream::connect(address).await.expect("the gateway listens")
        });
        let mut rig = Self { runtime, client, buffer: vec![0; 16 * 1024].into(), key, files, _trigger: trigger };
        // Repeats until the gateway has fetched the keys.
        let good = Self::request(&rig.token("warm-up"));
        while rig.round_trip(&good) != 200 {}
        rig
    }

    /// A good token of usual size for this subject.
    pub(crate) fn token(&self, subject: &str) -> String {
        Self::builder(subject).sign(&self.key)
    }

    /// The same, long expired.
    pub(crate) fn expired_token(&self, subject: &str) -> String {
        Self::builder(subject).claim("iat", 1_000_000).claim("exp", 1_000_300).sign(&self.key)
    }

    fn builder(subject: &str) -> TokenBuilder {
        TokenBuilder::new(ISSUER)
            .claim("sub", subject)
            .claim("jti", random::hex(&random::bytes::<16>()))
            .claim("client_id", "shop-web")
            .claim("realm_access", serde_json::json!({ "roles": ["customer", "newsletter"] }))
            .claim("email", format!("{subject}@shop.example"))
            .claim("preferred_username", subject)
            .claim("sid", "1b4ab2ba-67f1-4b7e-a1a5-b4b6d4b3c2d1")
            .scope("openid profile orders:read")
    }

    /// A request as browsers and HTTP clients send it.
    pub(crate) fn request(token: &str) -> Vec<u8> {
        format!(
            "GET /orders/4711 HTTP/1.1\r\nHost: api.example\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n\
             Origin: https://shop.example\r\nUser-Agent: rig\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        .into_bytes()
    }

    /// Sends a request and reads its response; returns the status.
    ///
    /// # Panics
    ///
    /// If there is no response.
    pub(crate) fn round_trip(&mut self, request: &[u8]) -> u16 {
        let Self { runtime, client, buffer, .. } = self;
        runtime.block_on(async {
            client.write_all(request).await.expect("the gateway reads");
            let mut length = 0;
            loop {
                let count = client.read(&mut buffer[length..]).await.expect("the gateway responds");
                assert_ne!(count, 0, "the gateway closed the connection");
                length += count;
                if is_whole(&buffer[..length]) {
                    return buffer[9..12].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
                }
            }
        })
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.files);
    }
}

/// Whether a response with `Content-Length` is complete. Allocates nothing.
fn is_whole(response: &[u8]) -> bool {
    let Some(head) = response.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let field = b"content-length: ";
    let at = response[..head].windows(field.len()).position(|name| name.eq_ignore_ascii_case(field));
    let digits = at.map_or(&b"0"[..], |at| &response[at + field.len()..head]);
    let length =
        digits.iter().take_while(|byte| byte.is_ascii_digit()).fold(0, |n, byte| n * 10 + usize::from(byte - b'0'));
    response.len() >= head + 4 + length
}

async fn serve_origin(origin: TcpListener) {
    loop {
        let (mut stream, _) = origin.accept().await.expect("a connection");
        tokio::task::spawn_local(async move {
            let mut buffer = vec![0; 16 * 1024];
            let mut length = 0;
            while let Ok(count @ 1..) = stream.read(&mut buffer[length..]).await {
                length += count;
                if buffer[..length].ends_with(b"\r\n\r\n") {
                    length = 0;
                    if stream.write_all(RESPONSE).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

fn configuration(keys: &str, origin: SocketAddr, features: Features) -> String {
    let Features { access_log: _, cors_and_limit } = features;
    let (tables, route) = if cors_and_limit {
        (
            "[cors.web]\norigins = [\"https://shop.example\"]\n[limits.caller]\nkey = \"subject\"\nrate = \"1000000/s\"\n",
            "cors = \"web\"\nlimits = [\"caller\"]\n",
        )
    } else {
        ("", "")
    };
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
workers = 1
[admin]
listen = "off"
[issuers.main]
issuer = "{ISSUER}"
audiences = ["api"]
jwks_file = "{keys}"
role_claims = "realm_access.roles"
[upstreams.orders]
servers = ["http://{origin}"]
[identity.headers]
X-Identity-Subject = "subject"
X-Identity-Scopes = "scopes"
X-Identity-Roles = "roles"
{tables}
[[routes]]
path = "/orders/*"
scopes = ["orders:read"]
upstream = "orders"
{route}
"#
    )
}
