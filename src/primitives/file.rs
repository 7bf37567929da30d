//! Files that are read while the gateway runs: bounded in size, in time and in kind.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::blocking::{BlockingWork, NotAnswering};

/// How long one read may take. Local files take far less than a millisecond.
pub(crate) const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads one file, again and again. There is at most one read at a time.
#[derive(Clone, Debug)]
pub(crate) struct FileReader {
    path: PathBuf,
    max_bytes: usize,
    work: BlockingWork,
}

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The operating system's error message.
    #[error("{cause}")]
    Io {
        /// The message.
        cause: String,
    },
    /// The file system does not answer in time, or has not answered the read before.
    #[error(transparent)]
    NotAnswering(#[from] NotAnswering),
    /// A directory, a pipe, a socket or a device. A pipe can be read once only, and a read from one
    /// may never end.
    #[error("it is not a regular file")]
    NotRegular,
    /// The file exceeds the size limit.
    #[error("file is larger than the limit of {max_bytes} bytes")]
    TooLarge {
        /// The limit.
        max_bytes: usize,
    },
}

impl FileReader {
    /// A reader of the file at `path`, which may have `max_bytes`.
    pub(crate) fn new(path: &Path, max_bytes: usize) -> Self {
        Self { path: path.to_owned(), max_bytes, work: BlockingWork::new(1, READ_TIMEOUT) }
    }

    /// The path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The content of the file. Waits at most [`READ_TIMEOUT`].
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub(crate) async fn read(&self) -> Result<Vec<u8>, ReadError> {
        let (path, max_bytes) = (self.path.clone(), self.max_bytes);
        self.work.run(move || read(&path, max_bytes)).await?
    }

    /// The content of the file. Blocks for as long as the file system does.
    ///
    /// # Errors
    ///
    /// [`ReadError`], but never [`ReadError::NotAnswering`].
    pub(crate) fn read_blocking(&self) -> Result<Vec<u8>, ReadError> {
        read(&self.path, self.max_bytes)
    }
}

fn read(path: &Path, max_bytes: usize) -> Result<Vec<u8>, ReadError> {
    let io_error = |error: io::Error| ReadError::Io { cause: error.to_string() };
    // Asked before the file is opened: opening a pipe waits for a writer.
    if !std::fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(ReadError::NotRegular);
    }
    let mut content = Vec::new();
    let file = std::fs::File::open(path).map_err(io_error)?;
    file.take(max_bytes as u64 + 1).read_to_end(&mut content).map_err(io_error)?;
    if content.len() > max_bytes { Err(ReadError::TooLarge { max_bytes }) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::test_directory::TestDirectory;

    #[tokio::test]
    async fn only_a_regular_file_within_the_limit_is_read() {
        let directory = TestDirectory::new();
        let [file, link, pipe, missing] = ["file", "link", "pipe", "missing"].map(|name| directory.file(name));
        std::fs::write(&file, b"1234").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (name, path, max_bytes, expected) in [
            ("as large as allowed", &file, 4, Ok(b"1234".to_vec())),
            ("larger", &file, 3, Err(ReadError::TooLarge { max_bytes: 3 })),
            ("a symbolic link", &link, 4, Ok(b"1234".to_vec())),
            ("a pipe that nothing is written to", &pipe, 4, Err(ReadError::NotRegular)),
            ("a directory", &directory.path().to_owned(), 4, Err(ReadError::NotRegular)),
        ] {
            let reader = FileReader::new(path, max_bytes);
            assert_eq!(reader.read().await, expected, "{name}");
            assert_eq!(reader.read_blocking(), expected, "{name}, blocking");
        }
        assert!(matches!(FileReader::new(&missing, 4).read().await, Err(ReadError::Io { .. })));
        let reader = FileReader::new(Path::new("/dev/zero"), 4);
        assert_eq!(reader.read().await, Err(ReadError::NotRegular), "a device");
    }
}
