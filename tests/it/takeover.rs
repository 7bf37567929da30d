//! Takeover: a new process replaces the running one, and no request fails.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use portcullis::clock::Clock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use crate::support::certificates::CertificateFiles;
use crate::support::client::{self, ByteStream};
use crate::support::closed_port;
use crate::support::config::Config;
use crate::support::idp::Idp;
use crate::support::load::Load;
use crate::support::origin::Origin;
use crate::support::service::Service;
use crate::support::temporary::TempDir;
use crate::support::tls::TlsClient;
use crate::support::token::TokenBuilder;
use crate::support::with_deadline;

/// What two processes of the gateway share.
struct Setup {
    directory: TempDir,
    idp: Idp,
    origin: Origin,
    data: SocketAddr,
    admin: SocketAddr,
    http_socket: PathBuf,
    takeover_socket: PathBuf,
}

impl Setup {
    async fn new() -> Self {
        let directory = TempDir::new();
        let (http_socket, takeover_socket) =
            (directory.path().join("http.sock"), directory.path().join("takeover.sock"));
        let (idp, origin) = (Idp::start().await, Origin::start().await);
        let (data, admin) = (closed_port(), closed_port());
        Self { directory, idp, origin, data, admin, http_socket, takeover_socket }
    }

    /// Writes a configuration with this number of workers.
    fn write_config(&self, workers: usize) -> PathBuf {
        self.write_config_with(workers, "")
    }

    /// The same, with `more` in the array of addresses.
    fn write_config_with(&self, workers: usize, more: &str) -> PathBuf {
        self.write(self.config(more).replace("server", &format!("workers = {workers}")))
    }

    /// Writes a configuration with this `unix_mode`.
    fn write_config_with_mode(&self, mode: &str) -> PathBuf {
        self.write(self.config("").add("server", &format!("unix_mode = \"{mode}\"")))
    }

    /// The configuration, with `more` in the array of addresses.
    fn config(&self, more: &str) -> Config {
        let listen = format!("listen = [\"{}\", \"unix:{}\"{more}]", self.data, self.http_socket.display());
        Config::minimal().replace("server", &format!("{listen}\ndrain_delay = \"1h\""))
    }

    fn write(&self, config: Config) -> PathBuf {
        let config = config
            .add("server", &format!("takeover_socket = \"{}\"", self.takeover_socket.display()))
            .replace("admin", &format!("listen = \"{}\"", self.admin));
        self.directory.write("gateway.toml", config.to_toml(&self.idp.issuer(), self.origin.addr()))
    }

    fn start(&self, config: &Path) -> Service {
        Service::start(self.directory.path(), config, None)
    }

    fn bearer(&self) -> String {
        TokenBuilder::at(&self.idp.issuer(), Clock::system().now().seconds()).to_bearer()
    }

    async fn admin_status(&self, path: &str) -> u16 {
        client::get(self.admin, path, &[]).await.status
    }

    /// The status of a response to a request with a token.
    async fn status(&self) -> u16 {
        let authorization = self.bearer();
        client::get(self.data, "/token/a", &[("Authorization", &authorization)]).await.status
    }

    /// A new process that has the sockets, and is not ready.
    async fn unready_successor(&self) -> UnixStream {
        let mut stream = UnixStream::connect(&self.takeover_socket).await.expect("a process offers its sockets");
        stream.write_all(b"portcullis takeover 1\n").await.expect("it reads");
        let mut received = Vec::new();
        // Byte by byte: the kernel does not join lines with sockets, and tokio takes a short read
        // for the end of what there is.
        while !received.ends_with(b"\nend\n") {
            received.push(with_deadline("the sockets", stream.read_u8()).await.expect("it writes"));
        }
        stream
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("the socket").permissions().mode() & 0o777
}

/// Starts a process that takes over from `running`, and waits until `running` has ended.
async fn take_over(setup: &Setup, running: Service, config: &Path) -> Service {
    let successor = setup.start(config);
    successor.wait_until_ready().await;
    assert_eq!(running.notification().await, "STOPPING=1");
    assert_eq!(running.wait().await.code(), Some(0), "the process before ends by itself");
    assert_eq!(setup.admin_status("/readyz").await, 200);
    successor
}

/// Several times in a row, with more and with fewer workers, over TCP and a Unix socket, on kept
/// and on new connections, with tokens. `drain_delay` does not apply: the new process serves
/// already.
#[tokio::test]
async fn no_request_fails_while_new_processes_take_over() {
    let setup = Setup::new().await;
    let mut running = setup.start(&setup.write_config(3));
    running.wait_until_ready().await;
    let (data, http_socket) = (setup.data, setup.http_socket.clone());
    let bearer = setup.bearer();
    let tcp =
        Load::http1(
            &bearer,
            move || async move { Ok(Box::new(TcpStream::connect(data).await?) as Box<dyn ByteStream>) },
        );
    let unix = Load::http1(&bearer, move || {
        let path = http_socket.clone();
        async move { Ok(Box::new(UnixStream::connect(path).await?) as Box<dyn ByteStream>) }
    });
    for workers in [4, 1, 5] {
        tcp.wait_for_more(50).await;
        unix.wait_for_more(50).await;
        running = take_over(&setup, running, &setup.write_config(workers)).await;
    }
    tcp.wait_for_more(50).await;
    unix.wait_for_more(50).await;
    assert_eq!(tcp.stop().await, Vec::<String>::new(), "failed requests over TCP");
    assert_eq!(unix.stop().await, Vec::<String>::new(), "failed requests over a Unix socket");
    assert!(setup.http_socket.exists() && setup.takeover_socket.exists());
    running.signal("-TERM");
    assert_eq!(running.notification().await, "STOPPING=1");
    running.signal("-TERM");
    assert_eq!(running.wait().await.code(), Some(0));
    assert!(!setup.http_socket.exists() && !setup.takeover_socket.exists(), "the last process removes the files");
}

/// The same with TLS, over HTTP/1.1 and HTTP/2, and with each kind of listener.
#[tokio::test]
async fn no_request_fails_over_tls_or_http2_while_new_processes_take_over() {
    let setup = Setup::new().await;
    let files = CertificateFiles::localhost("server");
    let (tls, plain, redirect) = (setup.data, closed_port(), closed_port());
    let others = format!("plain_listen = [\"{plain}\"]\nredirect_listen = [\"{redirect}\"]");
    let config = Config::minimal().replace("server", &format!("listen = \"{tls}\"\ndrain_delay = \"1h\""));
    let config = setup.write(config.add("server", &format!("{others}\n{}", files.tls(&["server"]))));
    let mut running = setup.start(&config);
    running.wait_until_ready().await;
    let bearer = setup.bearer();
    let over_tls = |protocol| {
        let client = TlsClient::new("localhost").alpn(&[protocol]);
        move || {
            let client = client.clone();
            async move { client.try_connect(tls).await }
        }
    };
    let loads = [
        Load::http1(&bearer, over_tls("http/1.1")),
        Load::http2(&bearer, over_tls("h2")),
        Load::http2(&bearer, move || TcpStream::connect(plain)),
    ];
    for _ in 0..3 {
        for load in &loads {
            load.wait_for_more(20).await;
        }
        running = take_over(&setup, running, &config).await;
        let response = client::get(redirect, "/token/a", &[("Host", "localhost")]).await;
        assert_eq!(response.status, 308);
    }
    for load in loads {
        load.wait_for_more(20).await;
        assert_eq!(load.stop().await, Vec::<String>::new(), "failed requests");
    }
}

/// One takes over from the other, whichever is first.
#[tokio::test]
async fn of_two_new_processes_at_once_one_serves() {
    let setup = Setup::new().await;
    let config = setup.write_config(4);
    let running = setup.start(&config);
    running.wait_until_ready().await;
    let data = setup.data;
    let load = Load::http1(&setup.bearer(), move || TcpStream::connect(data));
    let (one, other) = (setup.start(&config), setup.start(&config));
    tokio::join!(one.wait_until_ready(), other.wait_until_ready());
    assert_eq!(running.wait().await.code(), Some(0));
    let (drains, _serves) = tokio::select! {
        text = one.notification() => {
            assert_eq!(text, "STOPPING=1");
            (one, other)
        }
        text = other.notification() => {
            assert_eq!(text, "STOPPING=1");
            (other, one)
        }
    };
    assert_eq!(drains.wait().await.code(), Some(0));
    load.wait_for_more(50).await;
    assert_eq!(load.stop().await, Vec::<String>::new(), "failed requests");
    assert_eq!(setup.admin_status("/readyz").await, 200);
    assert!(setup.http_socket.exists() && setup.takeover_socket.exists());
}

/// They apply once it serves; before, the files are the predecessor's.
#[tokio::test]
async fn a_new_process_sets_the_permissions_of_the_sockets_that_it_takes_over() {
    let setup = Setup::new().await;
    let running = setup.start(&setup.write_config_with_mode("0666"));
    running.wait_until_ready().await;
    assert_eq!([mode(&setup.http_socket), mode(&setup.takeover_socket)], [0o666, 0o600]);
    let _running = take_over(&setup, running, &setup.write_config_with_mode("0600")).await;
    assert_eq!([mode(&setup.http_socket), mode(&setup.takeover_socket)], [0o600, 0o600]);
}

/// The new process needs the files of the sockets that it has.
#[tokio::test]
async fn a_process_that_is_stopped_during_a_takeover_leaves_the_files() {
    let setup = Setup::new().await;
    let running = setup.start(&setup.write_config(4));
    running.wait_until_ready().await;
    // One that fails changes nothing.
    drop(setup.unready_successor().await);
    let _successor = setup.unready_successor().await;
    assert_eq!(setup.status().await, 200);
    running.signal("-TERM");
    assert_eq!(running.notification().await, "STOPPING=1");
    running.signal("-TERM");
    assert_eq!(running.wait().await.code(), Some(0));
    assert!(setup.http_socket.exists() && setup.takeover_socket.exists());
}

#[tokio::test]
async fn the_files_of_a_process_that_has_crashed_are_replaced() {
    let setup = Setup::new().await;
    let config = setup.write_config(4);
    let running = setup.start(&config);
    running.wait_until_ready().await;
    running.signal("-KILL");
    assert_eq!(running.wait().await.code(), None);
    assert!(setup.takeover_socket.exists());
    let next = setup.start(&config);
    next.wait_until_ready().await;
    assert_eq!(setup.status().await, 200);
    take_over(&setup, next, &config).await;
}

/// A process that cannot serve does not take over.
#[tokio::test]
async fn a_new_process_that_fails_leaves_the_running_one_alone() {
    let setup = Setup::new().await;
    let running = setup.start(&setup.write_config(3));
    running.wait_until_ready().await;
    // Threat TO-1.
    assert_eq!(mode(&setup.takeover_socket), 0o600);
    for (name, more, code) in [
        ("an invalid address", ", \"nowhere\"".to_owned(), 78),
        ("an address that is taken", format!(", \"{}\"", setup.origin.addr()), 1),
    ] {
        let successor = setup.start(&setup.write_config_with(3, &more));
        assert_eq!(successor.wait().await.code(), Some(code), "{name}");
        assert_eq!(setup.status().await, 200, "{name}");
        assert_eq!(setup.admin_status("/readyz").await, 200, "{name}");
        assert!(setup.http_socket.exists() && setup.takeover_socket.exists(), "{name}: the files stay");
    }
}
