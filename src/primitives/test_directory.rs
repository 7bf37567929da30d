//! A directory for the files of one unit test.

use std::path::{Path, PathBuf};

use super::random;

/// A directory of its own, which is removed with everything in it when it is dropped.
#[derive(Debug)]
pub(crate) struct TestDirectory(PathBuf);

impl TestDirectory {
    /// A new, empty directory.
    pub(crate) fn new() -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-{}", random::hex(&random::bytes::<8>())));
        std::fs::create_dir(&path).expect("temporary files can be created");
        Self(path)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The path of a file that need not exist.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file, and returns its path.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.file(name);
        std::fs::write(&path, content).expect("temporary files can be written");
        path
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
