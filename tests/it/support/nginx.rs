//! A real nginx as the upstream: an independent HTTP implementation for streaming, keep-alive and
//! upgrades.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use portcullis::internals::random;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::temporary::TempDir;
use super::{skip, with_deadline};

/// An nginx with one process. It ends when this is dropped and when the test process ends, even by
/// a crash.
#[derive(Debug)]
pub(crate) struct Nginx {
    addr: SocketAddr,
    process: Process,
    directory: TempDir,
}

impl Nginx {
    /// The response body of every path but those below: a JSON document of 120 bytes.
    pub(crate) const DOCUMENT: &str = concat!(
        r#"{"id":4711,"status":"shipped","customer":"c-0815","items":[{"sku":"A-1","quantity":2}],"#,
        r#""total":"59.80","currency":"EUR"}"#
    );
    /// The length of the file `/big`, in bytes.
    pub(crate) const BIG_BYTES: usize = 8 * 1024 * 1024;

    /// Everything under `/big` is a file of [`BIG_BYTES`](Self::BIG_BYTES). `/proxied/` is passed
    /// to `origin` unbuffered, including upgrades.
    ///
    /// Returns `None`, and writes the reason to stderr, if nginx is missing.
    ///
    /// # Panics
    ///
    /// If nginx is missing and `CI` is `true`, or if nginx is installed but does not start.
    pub(crate) async fn start(origin: SocketAddr) -> Option<Self> {
        let Some(program) = find() else {
            skip("nginx", "it is not installed");
            return None;
        };
        // Another program may take the chosen port before nginx does; then it tries the next one.
        for _ in 0..5 {
            if let Some(nginx) = Self::start_once(&program, origin).await {
                return Some(nginx);
            }
        }
        panic!("nginx found no free port");
    }

    async fn start_once(program: &Path, origin: SocketAddr) -> Option<Self> {
        let chosen = StdListener::bind(("127.0.0.1", 0)).expect("there is a free port");
        let addr = chosen.local_addr().expect("a bound socket has an address");
        drop(chosen);
        let directory = TempDir::new();
        let secret = random::hex(&random::bytes::<16>());
        directory.write("big", vec![b'x'; Self::BIG_BYTES]);
        let config = directory.write("nginx.conf", configuration(directory.path(), addr, origin, &secret));
        // The shell ties nginx to this process: its `read` returns when our end of the pipe closes,
        // which also happens when this process crashes.
        let mut command = Command::new("sh");
        command.args(["-c", r#""$@" <&- & nginx=$!; read -r _; kill "$nginx"; wait "$nginx""#, "sh"]);
        command.arg(program).arg("-c").arg(config).arg("-p").arg(directory.path());
        command.arg("-e").arg(directory.path().join("error.log"));
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let nginx = Self { addr, process: Process(command.spawn().expect("a shell can be started")), directory };
        let ready = with_deadline("nginx's start", async {
            loop {
                if let Some(response) = ask(addr).await {
                    break response.ends_with(&secret);
                }
                if nginx.error_log().contains("bind() to") {
                    break false;
                }
                tokio::task::yield_now().await;
            }
        });
        ready.await.then_some(nginx)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The error log so far.
    pub(crate) fn error_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("error.log")).unwrap_or_default()
    }
}

/// Also searches folders that are not in an ordinary user's `PATH`.
fn find() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("nginx")).find(|program| program.is_file())
}

/// `None` while nothing listens.
async fn ask(addr: SocketAddr) -> Option<String> {
    let mut stream = TcpStream::connect(addr).await.ok()?;
    let mut response = String::new();
    stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").await.ok()?;
    stream.read_to_string(&mut response).await.ok()?;
    Some(response)
}

fn configuration(directory: &Path, addr: SocketAddr, origin: SocketAddr, secret: &str) -> String {
    let directory = directory.display();
    let mut text = format!(
        // A single process: killing it leaves nothing behind, and it does not need to change its
        // user.
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {directory}/pid;\n\
         error_log {directory}/error.log warn;\nevents {{ worker_connections 512; }}\nhttp {{\n  access_log off;\n"
    );
    for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
        let _ = writeln!(text, "  {kind}_temp_path {directory}/{kind};");
    }
    let document = Nginx::DOCUMENT;
    let _ = write!(
        text,
        r#"  keepalive_timeout 60s;
  keepalive_requests 1000000;
  map $http_upgrade $connection_on {{ default upgrade; '' ''; }}
  server {{
    listen {addr};
    location = /ready {{ return 200 "{secret}"; }}
    location / {{ default_type application/json; return 200 '{document}'; }}
    location /big {{ default_type application/octet-stream; alias {directory}/big; }}
    location /proxied/ {{
      proxy_pass http://{origin};
      proxy_http_version 1.1;
      proxy_buffering off;
      proxy_request_buffering off;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_on;
    }}
  }}
}}
"#
    );
    text
}

#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Closes the pipe, and waits until the shell has seen nginx end.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
