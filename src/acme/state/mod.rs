//! What ACME keeps on disk, in a directory that only this gateway uses:
//!
//! ```text
//! accounts/DIRECTORY.json    the account at each ACME server, with its key
//! certificates/HOST.pem      the certificate of a host: its key, then the chain
//! attempts/HOST.json         the last orders, how many have failed, and when the next is due
//! lock                       locked by the process that places orders
//! ```
//!
//! Only the gateway's user can access directories and files. Several processes may use one
//! directory, such as the old and the new one during a restart; only the one that holds the lock
//! writes. A file that cannot be used is reported and treated as missing, and is renamed to
//! `*.unusable` when another one takes its place.

mod attempt;
mod files;

pub(super) use self::attempt::Attempt;
pub(super) use self::files::Lock;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use crate::primitives::blocking::{BlockingWork, NotAnswering};
use crate::tls;
use crate::tls::certified_key::Identity;
use crate::tls::files::FileError;
use crate::tls::managed::ManagedHost;

/// How long one access may take. Local file systems write a file durably within milliseconds.
const ACCESS_TIMEOUT: Duration = Duration::from_secs(10);

/// More than a key and a chain of certificates take.
const CERTIFICATE_BYTES: usize = 32 * 1024;

/// The beginning of the first line of a certificate file; the URL of the ACME server's directory
/// follows.
const ISSUED_BY: &str = "Obtained from ";

/// Why the state directory cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum StateError {
    /// A file or directory cannot be read or written.
    #[error("`{}` {what}: {cause}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What cannot be done with it, such as "cannot be read".
        what: &'static str,
        /// The error of the operating system.
        cause: String,
    },
    /// The file system does not respond.
    #[error("`{}`: {source}", path.display())]
    NotAnswering {
        /// The state directory.
        path: PathBuf,
        /// The error.
        source: NotAnswering,
    },
}

/// The certificate of a host, as it is on disk.
#[derive(Debug)]
pub(super) enum Stored {
    /// It cannot be used, and why.
    Broken(FileError),
    /// It can be used.
    Certificate {
        /// The certificate with its key.
        identity: Identity,
        /// The URL of the directory of the ACME server that has issued it.
        directory: String,
    },
    /// There is none.
    Missing,
}

/// The state directory.
#[derive(Clone, Debug)]
pub(super) struct StateDirectory {
    root: Arc<Path>,
    work: BlockingWork,
}

/// The file with the certificate of `host`, which is a DNS name and therefore a usable file name.
#[must_use]
pub(super) fn certificate_file(state_dir: &Path, host: &str) -> PathBuf {
    state_dir.join("certificates").join(format!("{host}.pem"))
}

impl StateDirectory {
    /// The state in the directory at `root`, which is created when it is first locked.
    pub(super) fn new(root: &Path) -> Self {
        // One access at a time: a file system that does not respond occupies one thread.
        Self { root: root.into(), work: BlockingWork::new(1, ACCESS_TIMEOUT) }
    }

    /// Creates the directories that are missing, and locks the state. Returns `None` if another
    /// process has the lock.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(super) async fn lock(&self) -> Result<Option<Lock>, StateError> {
        let directories = ["accounts", "certificates", "attempts"].map(|name| self.root.join(name));
        let lock = self.root.join("lock");
        self.run(move || {
            directories.iter().try_for_each(|directory| files::create_directory(directory))?;
            files::lock(&lock)
        })
        .await
    }

    /// The certificate of `host`.
    ///
    /// # Errors
    ///
    /// [`StateError::NotAnswering`].
    pub(super) async fn certificate(&self, host: &ManagedHost) -> Result<Stored, StateError> {
        let host = host.clone();
        self.run(move || Ok(read_certificate(&host))).await
    }

    /// Stores a certificate that the ACME server at `directory` has issued: its key and its chain,
    /// in PEM. Renames the file that it replaces if that cannot be used.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(super) async fn store_certificate(
        &self,
        host: &ManagedHost,
        directory: &Url,
        key_and_chain: &str,
    ) -> Result<(), StateError> {
        let text = certificate_text(directory, key_and_chain);
        let host = host.clone();
        self.run(move || {
            if matches!(read_certificate(&host), Stored::Broken(_)) {
                files::keep_aside(&host.file)?;
            }
            files::write(&host.file, text.as_bytes())
        })
        .await
    }

    /// The account at the ACME server of `directory`: the text that
    /// [`store_account`](Self::store_account) has stored. `None` without one.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(super) async fn account(&self, directory: &Url) -> Result<Option<Vec<u8>>, StateError> {
        let path = self.account_file(directory);
        self.run(move || files::read(&path)).await
    }

    /// Stores the account at the ACME server of `directory`.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(super) async fn store_account(&self, directory: &Url, text: String) -> Result<(), StateError> {
        let path = self.account_file(directory);
        self.run(move || files::write(&path, text.as_bytes())).await
    }

    /// Renames the file of an account that cannot be used, so that another one takes its place.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(super) async fn keep_account_aside(&self, directory: &Url) -> Result<(), StateError> {
        let path = self.account_file(directory);
        self.run(move || files::keep_aside(&path)).await
    }

    /// The attempts for `host`; `None` without any.
    ///
    /// # Errors
    ///
    /// [`StateError::NotAnswering`].
    pub(super) async fn attempt(&self, host: &str) -> Result<Option<Attempt>, StateError> {
        let path = self.attempt_file(host);
        // If it cannot be read, the only consequence is an early attempt.
        self.run(move || Ok(files::read(&path).ok().flatten().and_then(|text| serde_json::from_slice(&text).ok())))
            .await
    }

    /// Stores the attempts for `host`.
    ///
    /// # Errors
    ///
    /// [`StateError`].
    pub(super) async fn store_attempt(&self, host: &str, attempt: &Attempt) -> Result<(), StateError> {
        let path = self.attempt_file(host);
        let text = serde_json::to_vec(attempt).expect("numbers and text are JSON");
        self.run(move || files::write(&path, &text)).await
    }

    /// Checks that a certificate of `host` could be stored.
    ///
    /// # Errors
    ///
    /// [`StateError`]: it could not.
    pub(super) async fn check_space(&self, host: &ManagedHost) -> Result<(), StateError> {
        let path = host.file.clone();
        self.run(move || files::check_space(&path, CERTIFICATE_BYTES)).await
    }

    fn account_file(&self, directory: &Url) -> PathBuf {
        self.root.join("accounts").join(format!("{}.json", file_name(directory)))
    }

    fn attempt_file(&self, host: &str) -> PathBuf {
        self.root.join("attempts").join(format!("{host}.json"))
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StateError> + Send + 'static,
    ) -> Result<T, StateError> {
        let not_answering = |source| StateError::NotAnswering { path: self.root.to_path_buf(), source };
        self.work.run(work).await.map_err(not_answering)?
    }
}

/// A file name that people recognize, made of the letters, digits and dots of the directory's URL.
fn file_name(directory: &Url) -> String {
    let text = directory.as_str().split_once("://").map_or(directory.as_str(), |(_, rest)| rest);
    let readable =
        |character: char| if character.is_ascii_alphanumeric() || character == '.' { character } else { '-' };
    text.chars().map(readable).collect()
}

/// The content of a certificate file. PEM allows text before the first section (RFC 7468 §5.2).
fn certificate_text(directory: &Url, key_and_chain: &str) -> String {
    format!("{ISSUED_BY}{directory}\n{key_and_chain}")
}

fn read_certificate(host: &ManagedHost) -> Stored {
    if files::is_missing(&host.file) {
        return Stored::Missing;
    }
    let text = tls::files::read(&tls::files::chain_reader(&host.file));
    match text.and_then(|text| Ok((host.read(&text)?, directory_of(&text)))) {
        Ok((identity, directory)) => Stored::Certificate { identity, directory },
        Err(error) => Stored::Broken(error),
    }
}

/// The URL in the first line of a certificate file; empty if it has none.
fn directory_of(text: &[u8]) -> String {
    let first_line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let url = std::str::from_utf8(first_line).ok().and_then(|line| line.strip_prefix(ISSUED_BY));
    url.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
