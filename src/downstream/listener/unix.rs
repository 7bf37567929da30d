//! Unix listeners: a socket file with the permissions of `[server] unix_mode`.
//!
//! The file of a process that has ended without removing it is replaced. Anything else at the path
//! stays: a socket that a process listens on, and a file that is not a socket.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::BACKLOG;
use crate::primitives::listen_address::UnixMode;

/// The file of a Unix listener. Dropping it removes the file, unless another process has replaced
/// it.
#[derive(Debug)]
#[must_use = "dropping it removes the file"]
pub struct SocketFile {
    path: PathBuf,
    /// The file's device and inode.
    identity: (u64, u64),
}

/// Binds a listener at `path`.
pub(super) fn bind(path: &Path, mode: UnixMode) -> io::Result<(UnixListener, SocketFile)> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    let address = SockAddr::unix(path)?;
    match socket.bind(&address) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            socket.bind(&address)?;
        }
        bound => bound?,
    }
    let file = SocketFile::at(path)?;
    // The kernel refuses connections until `listen`, so that none gets in with the permissions
    // that the file has before this.
    fs::set_permissions(path, Permissions::from_mode(mode.bits()))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), file))
}

/// Removes the socket file of a process that has ended.
fn remove_stale(path: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the file exists and is not a socket"));
    }
    let probe = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // If the backlog of the other process is full, the kernel would make this one wait.
    probe.set_nonblocking(true)?;
    match probe.connect(&SockAddr::unix(path)?) {
        Ok(()) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on the socket")),
        // No process listens on it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        // Such as a full backlog or missing permissions: there may be a process.
        Err(error) => Err(error),
    }
}

impl SocketFile {
    /// The file at `path`, which belongs to a listener of this process.
    ///
    /// # Errors
    ///
    /// Those of stat(2).
    pub(crate) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self { path: path.to_owned(), identity: identity(path)? })
    }

    /// Sets the file's permissions.
    ///
    /// # Errors
    ///
    /// Those of chmod(2).
    pub(crate) fn set_mode(&self, mode: UnixMode) -> io::Result<()> {
        fs::set_permissions(&self.path, Permissions::from_mode(mode.bits()))
    }

    /// Leaves the file to the process that has taken over the listener.
    pub(crate) fn leave(mut self) {
        self.path = PathBuf::new();
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            // What cannot be removed is stale, and the next process replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
