//! Follows files: reads their content every few seconds, and reports when it has changed.
//!
//! The content is compared, not the modification time, so that a symbolic link that now leads
//! elsewhere counts as a change too: Kubernetes swaps one when a secret is renewed. Changed content
//! counts once two consecutive reads have found it, because a file that is rewritten in place is
//! incomplete for a moment, and a certificate is replaced a moment before or after its key.

use std::borrow::Cow;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use tokio::time::{Instant, sleep, sleep_until};

use super::files::{FileError, FileFault};
use crate::primitives::file::FileReader;

/// When files are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookTimes {
    /// Between regular reads.
    pub(crate) interval: Duration,
    /// Between the two reads that a request causes.
    pub(crate) settle_time: Duration,
}

/// What one read has found in each file, in the order of the readers.
pub(crate) type Contents = Vec<Result<Vec<u8>, FileError>>;

/// Reads a group of files at regular intervals.
#[derive(Debug)]
pub(crate) struct Follower {
    readers: Vec<FileReader>,
    times: LookTimes,
    /// The digest of what was reported last; at first, of what the files had at the start.
    reported: [u8; 32],
    /// The digest of what the last read has found.
    seen: Option<[u8; 32]>,
    due: Instant,
}

impl Follower {
    /// Follows the files of `readers`, whose contents so far have the digest `reported`.
    pub(crate) fn new(readers: Vec<FileReader>, times: LookTimes, reported: [u8; 32]) -> Self {
        Self { readers, times, reported, seen: None, due: Instant::now() + times.interval }
    }

    /// Waits until the content of a file has changed and settled, and returns what is in all of
    /// them. A file that cannot be read is a change as well; it is reported once.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again.
    pub(crate) async fn changed(&mut self) -> Contents {
        loop {
            sleep_until(self.due).await;
            let contents = self.look().await;
            self.due = Instant::now() + self.times.interval;
            if let Some(contents) = self.judge(contents) {
                return contents;
            }
        }
    }

    /// Reads at once, and again after the settle time. Returns what is in all files if both reads
    /// have found the same, and it has not been reported before.
    pub(crate) async fn look_now(&mut self) -> Option<Contents> {
        self.seen = Some(digest(&self.look().await));
        sleep(self.times.settle_time).await;
        let contents = self.look().await;
        self.judge(contents)
    }

    fn judge(&mut self, contents: Contents) -> Option<Contents> {
        let digest = digest(&contents);
        let is_settled = self.seen.replace(digest) == Some(digest);
        if !is_settled || digest == self.reported {
            return None;
        }
        self.reported = digest;
        Some(contents)
    }

    async fn look(&self) -> Contents {
        let mut contents = Vec::with_capacity(self.readers.len());
        for reader in &self.readers {
            contents.push(reader.read().await.map_err(|error| FileFault::from(error).at(reader.path())));
        }
        contents
    }
}

/// What the files have now. Blocks for as long as the file system does.
pub(crate) fn read_blocking(readers: &[FileReader]) -> Contents {
    readers.iter().map(super::files::read).collect()
}

/// A digest of contents, so that keys need not be kept for comparison.
pub(crate) fn digest(contents: &[Result<Vec<u8>, FileError>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for content in contents {
        let (tag, bytes) = match content {
            Ok(bytes) => (b"ok ", Cow::Borrowed(bytes.as_slice())),
            Err(error) => (b"err", Cow::Owned(error.to_string().into_bytes())),
        };
        context.update(tag);
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(&bytes);
    }
    context.finish().as_ref().try_into().expect("SHA-256 has 32 bytes")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::primitives::test_directory::TestDirectory;

    const TIMES: LookTimes = LookTimes { interval: Duration::from_millis(1), settle_time: Duration::ZERO };

    fn follower(paths: &[&PathBuf], times: LookTimes) -> Follower {
        let readers: Vec<FileReader> = paths.iter().map(|path| FileReader::new(path, 100)).collect();
        let start = digest(&read_blocking(&readers));
        Follower::new(readers, times, start)
    }

    fn texts(contents: Contents) -> Vec<String> {
        contents.into_iter().map(|content| String::from_utf8(content.unwrap()).unwrap()).collect()
    }

    #[tokio::test]
    async fn a_changed_content_is_reported_with_those_of_the_others() {
        let directory = TestDirectory::new();
        let (one, other) = (directory.write("one", "1"), directory.write("other", "a"));
        let mut follower = follower(&[&one, &other], TIMES);
        directory.write("one", "2");
        assert_eq!(texts(follower.changed().await), ["2", "a"]);
        std::fs::remove_file(&other).unwrap();
        let missing = follower.changed().await;
        assert!(missing[0].is_ok() && missing[1].as_ref().unwrap_err().path == other, "{missing:?}");
        directory.write("other", "a");
        assert_eq!(texts(follower.changed().await), ["2", "a"], "it is back");
    }

    #[tokio::test]
    async fn a_link_that_leads_elsewhere_is_a_change() {
        let directory = TestDirectory::new();
        let [old, new] = ["old", "new"].map(|name| {
            std::fs::create_dir(directory.file(name)).unwrap();
            directory.write(&format!("{name}/cert"), name);
            directory.file(name)
        });
        let (link, next) = (directory.file("data"), directory.file("data.new"));
        std::os::unix::fs::symlink(&old, &link).unwrap();
        let mut follower = follower(&[&link.join("cert")], TIMES);
        std::os::unix::fs::symlink(&new, &next).unwrap();
        std::fs::rename(&next, &link).unwrap();
        assert_eq!(texts(follower.changed().await), ["new"]);
    }

    #[tokio::test]
    async fn a_content_counts_once_two_looks_have_found_it() {
        let directory = TestDirectory::new();
        let file = directory.write("file", "old");
        let never = LookTimes { interval: Duration::from_secs(3600), settle_time: Duration::ZERO };
        let mut follower = follower(&[&file], never);
        directory.write("file", "half");
        let first = follower.look().await;
        assert!(follower.judge(first).is_none(), "it may be incomplete");
        directory.write("file", "whole");
        let second = follower.look().await;
        assert!(follower.judge(second).is_none(), "it has just changed");
        assert_eq!(texts(follower.look_now().await.unwrap()), ["whole"]);
        assert!(follower.look_now().await.is_none(), "it has been reported");
        directory.write("file", "x".repeat(101).as_str());
        assert!(follower.look_now().await.unwrap()[0].is_err(), "it is too large");
        assert!(follower.look_now().await.is_none(), "that has been reported");
    }
}
