//! The gateway as a process of its own, started as systemd starts it: with sockets that are open
//! already, and a socket on which it says what it does.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use portcullis::internals::random;
use tokio::net::UnixDatagram;

use super::process::ChildGuard;
use super::with_deadline;

/// A running process of the gateway.
#[derive(Debug)]
pub(crate) struct Service {
    child: ChildGuard,
    notifications: UnixDatagram,
}

impl Service {
    /// Starts the gateway with `config`. It inherits `socket` under the name `http`, if there is
    /// one. Files are made in `directory`. Its events go to the file `events` there.
    pub(crate) fn start(directory: &Path, config: &Path, socket: Option<OwnedFd>) -> Self {
        let address = directory.join(format!("notify-{}", random::hex(&random::bytes::<4>())));
        let notifications = UnixDatagram::bind(&address).expect("a Unix socket can be bound");
        let events = std::fs::File::options().create(true).append(true).open(directory.join("events"));
        let program = [env!("CARGO_BIN_EXE_portcullis"), "run", "-c"];
        let mut command = Command::new("sh");
        // The shell moves the socket to where systemd puts it, and becomes the gateway, so that
        // `$$` is the gateway's process id.
        let script = match socket {
            Some(_) => r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=http exec "$@""#,
            None => r#"exec "$@" </dev/null"#,
        };
        command.args(["-c", script, "sh"]).args(program).arg(config).env("NOTIFY_SOCKET", &address);
        command.stdin(socket.map_or_else(Stdio::null, Stdio::from));
        command.stdout(Stdio::null()).stderr(events.expect("a file can be made"));
        Self { child: ChildGuard(command.spawn().expect("a shell can be started")), notifications }
    }

    /// The next message to the service manager.
    pub(crate) async fn notification(&self) -> String {
        let mut buffer = [0; 256];
        let received = with_deadline("a notification", self.notifications.recv(&mut buffer)).await;
        String::from_utf8_lossy(&buffer[..received.expect("a socket")]).into_owned()
    }

    /// Waits until the gateway says that it serves.
    pub(crate) async fn wait_until_ready(&self) {
        assert_eq!(self.notification().await, "READY=1");
    }

    /// Sends the signal `name`, such as `-TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.0.id().to_string()]).status();
        assert!(status.expect("kill can be run").success());
    }

    /// Waits for the end of the process.
    pub(crate) async fn wait(mut self) -> ExitStatus {
        let waiting = tokio::task::spawn_blocking(move || self.child.0.wait());
        let status = with_deadline("the end of the process", waiting).await.expect("waiting does not panic");
        status.expect("the process is a child of this one")
    }
}
