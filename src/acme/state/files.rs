//! Files of the state directory: whole, durable, and accessible to their owner only. Everything
//! here blocks for as long as the file system does.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::StateError;
use crate::primitives::file::FileReader;

/// The largest file that is read here, in bytes. Accounts and attempts take less than a kilobyte.
const MAX_FILE_BYTES: usize = 64 * 1024;

/// Only the owner may enter.
const DIRECTORY_MODE: u32 = 0o700;

/// Only the owner may read and write.
const FILE_MODE: u32 = 0o600;

/// The lock on the state directory. Released when it is dropped and when the process ends, however
/// it ends.
#[derive(Debug)]
pub(in crate::acme) struct Lock {
    _file: File,
}

/// Creates a directory, and those above it that are missing.
pub(super) fn create_directory(path: &Path) -> Result<(), StateError> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path).map_err(failed(path, "cannot be created"))
}

/// Locks the file at `path`, which is created if it is missing. Returns `None` if another process,
/// or another file handle of this one, has the lock.
pub(super) fn lock(path: &Path) -> Result<Option<Lock>, StateError> {
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE).open(path);
    let file = open.map_err(failed(path, "cannot be created"))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { _file: file })),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(failed(path, "cannot be locked")(error.into())),
    }
}

/// Whether there is no file at `path`.
pub(super) fn is_missing(path: &Path) -> bool {
    std::fs::metadata(path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
}

/// The content of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    if is_missing(path) {
        return Ok(None);
    }
    let content = FileReader::new(path, MAX_FILE_BYTES).read_blocking();
    let failed = |cause: String| StateError::Io { path: path.to_owned(), what: "cannot be read", cause };
    content.map(Some).map_err(|error| failed(error.to_string()))
}

/// Replaces the content of a file. After a crash, the file has either the old content or the new.
pub(super) fn write(path: &Path, content: &[u8]) -> Result<(), StateError> {
    let temporary = beside(path, "tmp");
    // A crash may have left the file. A new one does not inherit the permissions of the old.
    remove(&temporary)?;
    let written =
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
    written.map_err(failed(&temporary, "cannot be written"))?;
    std::fs::rename(&temporary, path).map_err(failed(path, "cannot be replaced"))?;
    sync_directory(path)
}

/// Checks that a file of `size` bytes could take the place of `path`, by writing one beside it.
pub(super) fn check_space(path: &Path, size: usize) -> Result<(), StateError> {
    let temporary = beside(path, "tmp");
    remove(&temporary)?;
    let written =
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary).and_then(|mut file| {
            file.write_all(&vec![0; size])?;
            file.sync_all()
        });
    let removed = remove(&temporary);
    written.map_err(failed(&temporary, "cannot be written"))?;
    removed
}

/// Renames a file that cannot be used to `*.unusable`, so that its content is not lost. The first
/// ones that were kept stay, since the oldest is most likely to be of use.
pub(super) fn keep_aside(path: &Path) -> Result<(), StateError> {
    let names = ["unusable", "unusable.2", "unusable.3"].map(|ending| beside(path, ending));
    let [.., last] = &names;
    let aside = names.iter().find(|name| is_missing(name)).unwrap_or(last);
    std::fs::rename(path, aside).map_err(failed(path, "cannot be renamed"))
}

/// Removes a file, if there is one.
pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path, "cannot be removed")(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a rename durable.
fn sync_directory(path: &Path) -> Result<(), StateError> {
    let parent = path.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(failed(parent, "cannot be written"))
}

/// `path` with another ending after its own.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

fn failed(path: &Path, what: &'static str) -> impl Fn(io::Error) -> StateError {
    move |error| StateError::Io { path: path.to_owned(), what, cause: error.to_string() }
}
