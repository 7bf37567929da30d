//! Sockets from systemd: a restart loses no connection, and systemd learns what the process does.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

use portcullis::clock::Clock;
use tokio::net::{TcpStream, UnixStream};

use crate::support::client::{ByteStream, Conn};
use crate::support::config::Config;
use crate::support::idp::Idp;
use crate::support::load::Load;
use crate::support::origin::Origin;
use crate::support::service::Service;
use crate::support::temporary::TempDir;
use crate::support::token::TokenBuilder;

/// Writes a configuration that serves the socket `http` from systemd.
fn write_config(directory: &TempDir, idp: &Idp, origin: &Origin) -> PathBuf {
    let config = Config::minimal()
        .replace("server", "listen = \"systemd:http\"")
        .replace("admin", "listen = \"off\"")
        .to_toml(&idp.issuer(), origin.addr());
    directory.write("gateway.toml", config)
}

#[tokio::test]
async fn systemd_learns_what_the_process_does() {
    let (directory, idp, origin) = (TempDir::new(), Idp::start().await, Origin::start().await);
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let addr = listener.local_addr().expect("a bound socket has an address");
    let config = write_config(&directory, &idp, &origin);
    let service = Service::start(directory.path(), &config, Some(listener.into()));
    service.wait_until_ready().await;
    assert_eq!(Conn::open(addr).await.request("GET", "/public/a", &[], b"").await.status, 200);
    service.signal("-HUP");
    let reloading = service.notification().await;
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(service.notification().await, "READY=1");
    service.signal("-TERM");
    assert_eq!(service.notification().await, "STOPPING=1");
    assert_eq!(service.wait().await.code(), Some(0));
}

/// The socket stays open between the processes, as systemd keeps it. The new process has keys
/// before it accepts: no request is answered with 503.
#[tokio::test]
async fn a_restart_loses_no_connection() {
    let (directory, idp, origin) = (TempDir::new(), Idp::start().await, Origin::start().await);
    let config = write_config(&directory, &idp, &origin);
    let tcp = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let addr = tcp.local_addr().expect("a bound socket has an address");
    let path = directory.path().join("http.sock");
    let unix = UnixListener::bind(&path).expect("a Unix socket can be bound");
    let bearer = TokenBuilder::at(&idp.issuer(), Clock::system().now().seconds()).to_bearer();
    let copy = |socket: &OwnedFd| socket.try_clone().expect("a descriptor can be copied");
    let (tcp, unix) = (OwnedFd::from(tcp), OwnedFd::from(unix));
    for (name, socket) in [("TCP", &tcp), ("Unix", &unix)] {
        let mut service = Service::start(directory.path(), &config, Some(copy(socket)));
        service.wait_until_ready().await;
        let path = path.clone();
        let load = Load::http1(&bearer, move || {
            let path = path.clone();
            async move {
                Ok(match name {
                    "TCP" => Box::new(TcpStream::connect(addr).await?) as Box<dyn ByteStream>,
                    _ => Box::new(UnixStream::connect(&path).await?),
                })
            }
        });
        for _ in 0..3 {
            load.wait_for_more(50).await;
            service.signal("-TERM");
            assert_eq!(service.wait().await.code(), Some(0), "{name}");
            service = Service::start(directory.path(), &config, Some(copy(socket)));
            service.wait_until_ready().await;
        }
        load.wait_for_more(50).await;
        assert_eq!(load.stop().await, Vec::<String>::new(), "{name}: failed requests");
    }
}

#[tokio::test]
async fn a_socket_that_was_not_handed_over_is_a_clear_error() {
    let (directory, idp, origin) = (TempDir::new(), Idp::start().await, Origin::start().await);
    let config = write_config(&directory, &idp, &origin);
    // Without systemd, and with sockets for another process.
    for pid in [None, Some("1")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.args(["run", "-c"]).arg(&config);
        if let Some(pid) = pid {
            command.envs([("LISTEN_PID", pid), ("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "http")]);
        }
        let output = command.output().expect("the program starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains("cannot listen on systemd:http: systemd has handed over no socket"), "{error}");
    }
}
