//! The running process, from which a new one takes over.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::rc::Rc;
use std::time::Duration;

use rustix::process::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{END, KEPT, READY, REQUEST, SOCKET, TAKEN, TakeoverFault, check_user, wire};

/// How long a successor may take from connecting until it is ready. It fetches keys in this time.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a successor may take for its first line, which it sends as it connects. Others wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

/// How long the successor may take to read that it comes too late.
const KEPT_TIMEOUT: Duration = Duration::from_secs(1);

/// Wait after a failed accept, such as for lack of descriptors.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(100);

/// What a running process offers to a new one.
#[derive(Debug)]
pub(in crate::app) struct Offer {
    pub(in crate::app) listener: StdUnixListener,
    /// A copy of each listening socket, with the name under which it is handed over. Several may
    /// have the same name.
    pub(in crate::app) sockets: Vec<(String, OwnedFd)>,
}

/// An offer that successors can accept. Dropping it withdraws the offer and closes the copies of
/// the sockets.
#[derive(Debug)]
pub(in crate::app) struct RunningOffer {
    task: Option<JoinHandle<()>>,
    taken: oneshot::Receiver<()>,
    is_being_taken: Rc<Cell<bool>>,
}

impl Offer {
    /// Waits for successors on the runtime of this thread.
    pub(in crate::app) fn start(self) -> RunningOffer {
        let (sender, taken) = oneshot::channel();
        let is_being_taken = Rc::new(Cell::new(false));
        let flag = Rc::clone(&is_being_taken);
        let task = tokio::task::spawn_local(async move {
            match UnixListener::from_std(self.listener) {
                Ok(listener) => {
                    serve(listener, &self.sockets, &flag).await;
                    // Fails if the offer was withdrawn at this moment.
                    let _ = sender.send(());
                }
                Err(error) => tracing::error!(%error, "cannot listen for a new process on takeover_socket"),
            }
        });
        RunningOffer { task: Some(task), taken, is_being_taken }
    }
}

impl RunningOffer {
    /// No offer.
    pub(in crate::app) fn none() -> Self {
        Self { task: None, taken: oneshot::channel().1, is_being_taken: Rc::default() }
    }

    /// Whether a successor has the sockets and is not ready yet.
    pub(in crate::app) fn is_being_taken(&self) -> bool {
        self.is_being_taken.get()
    }

    /// Resolves once a successor has the sockets and serves; never without an offer.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again until it has resolved.
    pub(in crate::app) async fn taken(&mut self) {
        if self.task.is_some() {
            let taken = (&mut self.taken).await;
            self.task = None;
            if taken.is_ok() {
                return;
            }
        }
        std::future::pending::<()>().await;
    }
}

impl Drop for RunningOffer {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

/// Serves one new process after the other, until one has taken over.
async fn serve(listener: UnixListener, sockets: &[(String, OwnedFd)], is_being_taken: &Cell<bool>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a new process on takeover_socket");
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
                continue;
            }
        };
        let handed_over = timeout(SUCCESSOR_TIMEOUT, hand_over(&stream, sockets, is_being_taken)).await;
        let has_sockets = is_being_taken.replace(false);
        match handed_over.unwrap_or(Err(TakeoverFault::NotAnswering)) {
            Ok(()) => {
                tracing::info!("a new process has taken over the listening sockets");
                return;
            }
            Err(error) => {
                if has_sockets {
                    // A process that was suspended would serve beside this one otherwise.
                    let _ = timeout(KEPT_TIMEOUT, wire::send(&stream, KEPT, &[])).await;
                }
                tracing::warn!(%error, "a new process has failed to take over; this one keeps serving");
            }
        }
    }
}

/// Sends all sockets, and waits until the successor is ready.
async fn hand_over(
    stream: &UnixStream,
    sockets: &[(String, OwnedFd)],
    is_being_taken: &Cell<bool>,
) -> Result<(), TakeoverFault> {
    check_user(stream, geteuid())?;
    timeout(REQUEST_TIMEOUT, expect(stream, REQUEST)).await.unwrap_or(Err(TakeoverFault::NotAnswering))?;
    for of_address in sockets.chunk_by(|(one, _), (other, _)| one == other) {
        for part in of_address.chunks(wire::MAX_DESCRIPTORS) {
            let descriptors: Vec<BorrowedFd<'_>> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
            wire::send(stream, &format!("{SOCKET}{}", part[0].0), &descriptors).await?;
        }
    }
    is_being_taken.set(true);
    wire::send(stream, END, &[]).await?;
    expect(stream, READY).await?;
    Ok(wire::send(stream, TAKEN, &[]).await?)
}

async fn expect(stream: &UnixStream, text: &str) -> Result<(), TakeoverFault> {
    match wire::receive(stream).await {
        Ok(line) if line.text == text && line.descriptors.is_empty() => Ok(()),
        Ok(_) => Err(TakeoverFault::Protocol),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(TakeoverFault::Protocol),
        Err(error) => Err(error.into()),
    }
}
