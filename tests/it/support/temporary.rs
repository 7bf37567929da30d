//! Temporary directories with unguessable names, removed when dropped.

use std::path::{Path, PathBuf};

use portcullis::internals::random;

/// A directory of the test's own below the system's temporary directory. Dropping it removes it
/// with its content.
#[derive(Debug)]
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-{}", random::hex(&random::bytes::<8>())));
        std::fs::create_dir(&path).expect("a new directory can be made among the temporary files");
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes the file `name` atomically, as a careful operator does: by renaming.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let (path, draft) = (self.0.join(name), self.0.join(format!("{name}.new")));
        std::fs::write(&draft, content).expect("a temporary file can be written");
        std::fs::rename(&draft, &path).expect("a temporary file can be renamed");
        path
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        // A directory that cannot be removed is left to the system's own cleanup; it must not hide
        // the test's result.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
