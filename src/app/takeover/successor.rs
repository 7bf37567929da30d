//! The new process, which takes over from the running one.

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{END, KEPT, READY, REQUEST, SOCKET, TAKEN, TakeoverError, TakeoverFault, check_user, wire};
use crate::downstream::listener::InheritedSockets;

/// How long the running process may take to hand its sockets over, and to say that it drains. Each
/// takes milliseconds.
const PREDECESSOR_TIMEOUT: Duration = Duration::from_secs(10);

/// The most sockets that a predecessor may send: those of 1024 workers at a few addresses.
const MAX_SOCKETS: usize = 16 * 1024;

/// The running process, which has handed its sockets over and goes on serving until it learns that
/// this one serves.
#[derive(Debug)]
pub(in crate::app) struct Predecessor {
    path: PathBuf,
    stream: StdUnixStream,
}

/// Asks the process that listens at `path` for its sockets, which are added to `inherited`. Returns
/// `None` if there is no such process.
///
/// # Errors
///
/// [`TakeoverError`]. The running process is not affected.
pub(in crate::app) async fn connect(
    path: &Path,
    inherited: &mut InheritedSockets,
) -> Result<Option<Predecessor>, TakeoverError> {
    let failed = |fault| TakeoverError { path: path.to_owned(), fault };
    let stream = match UnixStream::connect(path).await {
        Ok(stream) => stream,
        // There is no file, or its process has ended.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.into())),
    };
    let received = timeout(PREDECESSOR_TIMEOUT, receive_sockets(&stream, inherited)).await;
    received.unwrap_or(Err(TakeoverFault::NotAnswering)).map_err(failed)?;
    let stream = stream.into_std().map_err(|error| failed(error.into()))?;
    tracing::info!(path = %path.display(), "taking over from the running process");
    Ok(Some(Predecessor { path: path.to_owned(), stream }))
}

async fn receive_sockets(stream: &UnixStream, inherited: &mut InheritedSockets) -> Result<(), TakeoverFault> {
    check_user(stream, geteuid())?;
    wire::send(stream, REQUEST, &[]).await?;
    let mut count = 0;
    loop {
        let line = match wire::receive(stream).await {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(TakeoverFault::Protocol),
            Err(error) => return Err(error.into()),
        };
        if line.text == END {
            return Ok(());
        }
        let name = line.text.strip_prefix(SOCKET).ok_or(TakeoverFault::Protocol)?;
        count += line.descriptors.len();
        if line.descriptors.is_empty() || count > MAX_SOCKETS {
            return Err(TakeoverFault::Protocol);
        }
        for socket in line.descriptors {
            inherited.add(name.to_owned(), socket)?;
        }
    }
}

async fn say_ready(stream: StdUnixStream) -> Result<(), TakeoverFault> {
    let stream = UnixStream::from_std(stream)?;
    // What the running process has said before it closed the connection can still be read.
    let _ = wire::send(&stream, READY, &[]).await;
    match wire::receive(&stream).await?.text.as_str() {
        TAKEN => Ok(()),
        KEPT => Err(TakeoverFault::Kept),
        _ => Err(TakeoverFault::Protocol),
    }
}

impl Predecessor {
    /// Tells the running process that this one serves, so that it drains.
    ///
    /// # Errors
    ///
    /// [`TakeoverError`]: the running process goes on, because this one has taken too long.
    pub(in crate::app) async fn release(self) -> Result<(), TakeoverError> {
        let Self { path, stream } = self;
        match timeout(PREDECESSOR_TIMEOUT, say_ready(stream)).await.unwrap_or(Err(TakeoverFault::NotAnswering)) {
            Ok(()) => Ok(()),
            Err(fault @ (TakeoverFault::Kept | TakeoverFault::Protocol)) => Err(TakeoverError { path, fault }),
            // One that has ended or drains needs to do nothing. One that is suspended drains as
            // soon as it goes on, since it finds that this process is ready.
            Err(error) => {
                tracing::warn!(%error, "the process that this one takes over from has ended, drains already, or hangs");
                Ok(())
            }
        }
    }

    /// The error for a process that is not ready to take over.
    pub(in crate::app) fn not_ready(&self, reasons: &[String]) -> TakeoverError {
        TakeoverError { path: self.path.clone(), fault: TakeoverFault::NotReady(reasons.join("; ")) }
    }
}
