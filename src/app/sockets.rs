//! The listening sockets of the process: bound, or inherited from systemd or from the process that
//! this one takes over from.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::takeover::{self, Offer};
use crate::downstream::listener::{
    self, BindError, BindOptions, BoundListener, BoundListeners, Copies, InheritedSockets, SocketFile,
};
use crate::plan::Plan;
use crate::primitives::listen_address::{ListenAddress, UnixMode};

/// All listening sockets.
#[derive(Debug)]
pub(super) struct Sockets {
    pub(super) data: BoundListeners,
    pub(super) admin: Option<TcpListener>,
    /// The sockets for a process that takes over from this one.
    pub(super) offer: Option<Offer>,
}

impl Sockets {
    /// Binds all sockets of `plan` that are not among the inherited ones.
    ///
    /// # Errors
    ///
    /// [`BindError`] with the first address that cannot be bound.
    pub(super) fn open(plan: &Plan, inherited: &mut InheritedSockets) -> Result<Self, BindError> {
        let server = &plan.server;
        let options = BindOptions {
            unix_mode: server.unix_mode,
            workers: server.workers.count(),
            copies: if server.takeover_socket.is_some() { Copies::Kept } else { Copies::NotKept },
        };
        let mut data = listener::bind(&server.listeners, options, inherited)?;
        let admin = plan.admin.map(|address| open_admin(address, inherited)).transpose()?;
        let mut offer = None;
        if let Some(path) = &server.takeover_socket {
            let address = ListenAddress::Unix(path.clone());
            let failed = |source| BindError { address: address.clone(), source };
            let listener = match inherited.take(&takeover::takeover_name(path)).pop() {
                Some(BoundListener::Unix(listener)) => {
                    data.inherited_files.push((path.clone(), UnixMode::OWNER));
                    listener
                }
                Some(BoundListener::Tcp(_)) | None => {
                    let (listener, file) = listener::bind_unix(path, UnixMode::OWNER).map_err(failed)?;
                    data.files.push(file);
                    listener
                }
            };
            let mut sockets = std::mem::take(&mut data.copies);
            if let (Some(address), Some(admin)) = (plan.admin, &admin) {
                sockets.push((takeover::admin_name(address), admin.try_clone().map_err(failed)?.into()));
            }
            sockets.push((takeover::takeover_name(path), listener.try_clone().map_err(failed)?.into()));
            offer = Some(Offer { listener, sockets });
        }
        for address in inherited.unused() {
            tracing::warn!(address, "closing an inherited socket that the configuration does not name");
        }
        Ok(Self { data, admin, offer })
    }
}

fn open_admin(address: SocketAddr, inherited: &mut InheritedSockets) -> Result<TcpListener, BindError> {
    if let Some(BoundListener::Tcp(listener)) = inherited.take(&takeover::admin_name(address)).pop() {
        return Ok(listener);
    }
    let failed = |source| BindError { address: ListenAddress::Tcp(address), source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// The files of Unix sockets that this process removes when it drains or ends.
#[derive(Clone, Debug)]
pub(super) struct SocketFiles(Arc<Mutex<Vec<SocketFile>>>);

impl SocketFiles {
    /// The files that this process has created.
    pub(super) fn new(files: Vec<SocketFile>) -> Self {
        Self(Arc::new(Mutex::new(files)))
    }

    /// Adds the files of the process that this one has taken over from, and gives them the
    /// permissions of this configuration. Before that they must stay as they are, in case this
    /// process fails.
    pub(super) fn adopt(&self, files: &[(PathBuf, UnixMode)]) {
        for (path, mode) in files {
            // A file that is not there any more need not be removed.
            let Ok(file) = SocketFile::at(path) else { continue };
            if let Err(error) = file.set_mode(*mode) {
                tracing::error!(path = %path.display(), %error, "cannot set the permissions of a socket taken over");
            }
            self.lock().push(file);
        }
    }

    /// Removes the files.
    pub(super) fn remove(&self) {
        self.lock().clear();
    }

    /// Leaves the files to the process that has taken over.
    pub(super) fn leave(&self) {
        self.lock().drain(..).for_each(SocketFile::leave);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SocketFile>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
