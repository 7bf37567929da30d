//! A certified third-party OpenID provider (`tests/provider/issuer.mjs`) as a child process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::client::{self, Response};
use super::process::ChildGuard;
use super::{background, skip, with_deadline};

/// The provider's process. It is killed when this is dropped, and ends by itself when the test
/// process ends, even by a crash.
#[derive(Debug)]
pub(crate) struct Provider {
    process: ChildGuard,
    issuer: String,
    addr: SocketAddr,
}

impl Provider {
    /// The resource whose tokens are JWTs; also their audience.
    pub(crate) const RESOURCE: &str = "https://orders.example.test";
    /// The resource whose tokens are opaque.
    pub(crate) const OPAQUE_RESOURCE: &str = "https://legacy.example.test";

    /// Returns `None`, and writes the reason to stderr, if Node.js or its packages are missing.
    ///
    /// # Panics
    ///
    /// If they are missing and `CI` is `true`.
    pub(crate) async fn start() -> Option<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/provider");
        if !folder.join("node_modules/oidc-provider").is_dir() {
            skip("the OpenID provider", "tests/provider/node_modules is missing");
            return None;
        }
        let mut command = Command::new("node");
        // On stderr it only warns about production use.
        command
            .arg("issuer.mjs")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let Ok(child) = command.spawn() else {
            skip("the OpenID provider", "Node.js is missing");
            return None;
        };
        let mut process = ChildGuard(child);
        let stdout = process.0.stdout.take().expect("its stdout is a pipe");
        let first_line = background().spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stdout).read_line(&mut line).map(|_| line)
        });
        let line = with_deadline("the provider's first line", first_line).await.expect("reading does not panic");
        let line = line.expect("the provider's output can be read");
        let ready: Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("not the provider's first line: {line:?}"));
        let issuer = ready["issuer"].as_str().expect("the first line names the issuer").to_owned();
        let addr = issuer.trim_start_matches("http://").parse().expect("the issuer is an address");
        Some(Self { process, issuer, addr })
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    /// A new access token by the client credentials grant (RFC 6749 §4.4) for a resource (RFC
    /// 8707). Its subject is `svc`.
    pub(crate) async fn token(&self, scope: &str, resource: &str) -> String {
        let encode =
            |text: &str| percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let form = format!("grant_type=client_credentials&scope={}&resource={}", encode(scope), encode(resource));
        let credentials = format!("Basic {}", base64_padded("svc:svc-secret"));
        let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Authorization", &*credentials)];
        let response = client::request(self.addr, "POST", "/token", &headers, form.as_bytes()).await;
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["access_token"].as_str().expect("a response with a token").to_owned()
    }

    /// Signs with a new key from now on. The old keys stay in the key set unless `drop_old` is set.
    pub(crate) async fn rotate(&self, drop_old: bool) {
        let headers: &[_] = if drop_old { &[("X-Drop", "1")] } else { &[] };
        let response: Response = client::request(self.addr, "POST", "/__rotate", headers, b"").await;
        assert_eq!(response.status, 200, "{}", response.text());
    }

    /// Requests for the key set so far.
    pub(crate) async fn jwks_fetches(&self) -> u64 {
        client::get(self.addr, "/__count", &[]).await.json()["jwks"].as_u64().expect("a count")
    }

    /// The process id, to check whether the process has ended.
    pub(crate) fn process_id(&self) -> u32 {
        self.process.0.id()
    }
}

/// HTTP's Basic credentials use base64 with padding (RFC 7617 §2).
fn base64_padded(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
