//! Origin of an issuer's keys: its discovery document, the address of its key set, or a file.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use url::Url;

use super::schedule::Cause;
use crate::token::discovery;
use crate::token::error::{KeyError, StartError, shown};
use crate::token::fetch::{Fetcher, MAX_ANSWER_BYTES};
use crate::token::jwks::KeySet;
use crate::token::{IssuerSettings, KeySource};

/// Where keys come from, with what it takes to get them.
#[derive(Debug)]
pub(super) enum Origin {
    Discovered { name: Arc<str>, issuer: Arc<str>, document: Url, fetcher: Fetcher, known: Mutex<Known> },
    File(PathBuf),
    Published { url: Url, fetcher: Fetcher },
}

/// What the discovery document said last.
#[derive(Debug, Default)]
pub(super) struct Known {
    jwks_uri: Option<Url>,
    /// Whether keys came from there at the last attempt.
    works: bool,
}

/// A set, and how long it may be used by its headers.
pub(super) type Published = (KeySet, Option<Duration>);

impl Origin {
    pub(super) fn new(settings: &IssuerSettings) -> Result<Self, StartError> {
        let fetcher = |url: &Url| {
            if !discovery::is_secure(url) {
                return Err(StartError::InsecureUrl);
            }
            Fetcher::new(settings.ca_file.as_deref(), url.scheme() == "http")
        };
        Ok(match &settings.keys {
            KeySource::Discovery(document) => Self::Discovered {
                name: Arc::clone(&settings.name),
                issuer: Arc::clone(&settings.issuer),
                document: document.clone(),
                fetcher: fetcher(document)?,
                known: Mutex::default(),
            },
            KeySource::JwksFile(path) => Self::File(path.clone()),
            KeySource::JwksUrl(url) => Self::Published { url: url.clone(), fetcher: fetcher(url)? },
        })
    }

    /// Gets the keys.
    pub(super) async fn fetch(&self, cause: Cause) -> Result<Published, KeyError> {
        match self {
            Self::Discovered { name, issuer, document, fetcher, known } => {
                let lock = || known.lock().unwrap_or_else(PoisonError::into_inner);
                // A token that asks for a key waits: where it lies was found out not long ago. Else the document is read anew, so that an
                // issuer can move its keys.
                let at_hand = {
                    let mut known = lock();
                    let works = std::mem::take(&mut known.works);
                    if works && cause == Cause::Asked { known.jwks_uri.clone() } else { None }
                };
                let uri = if let Some(uri) = at_hand {
                    uri
                } else {
                    let answer = fetcher.get(document).await?;
                    let uri = discovery::jwks_uri(&answer.body, issuer, document)?;
                    let before = lock().jwks_uri.replace(uri.clone());
                    report_host(name, document, before.as_ref(), &uri);
                    uri
                };
                let published = fetched(fetcher, &uri).await?;
                lock().works = true;
                Ok(published)
            }
            Self::File(path) => Ok((read_file(path).await?, None)),
            Self::Published { url, fetcher } => fetched(fetcher, url).await,
        }
    }

    /// The keys, if they are in a file: read on the spot, for the start.
    pub(super) fn at_hand(&self) -> Result<Option<KeySet>, StartError> {
        match self {
            Self::File(path) => {
                let unusable = |error| StartError::JwksFile { path: path.clone(), error };
                let text = bounded_read(path).map_err(|error| unusable(file_error(&error)))?;
                KeySet::read(&bounded(text).map_err(unusable)?).map(Some).map_err(|error| unusable(error.into()))
            }
            Self::Discovered { .. } | Self::Published { .. } => Ok(None),
        }
    }
}

async fn fetched(fetcher: &Fetcher, url: &Url) -> Result<Published, KeyError> {
    let answer = fetcher.get(url).await?;
    Ok((KeySet::read(&answer.body)?, answer.lifetime))
}

async fn read_file(path: &Path) -> Result<KeySet, KeyError> {
    let mut text = Vec::new();
    let file = tokio::fs::File::open(path).await.map_err(|error| file_error(&error))?;
    file.take(MAX_ANSWER_BYTES as u64 + 1).read_to_end(&mut text).await.map_err(|error| file_error(&error))?;
    Ok(KeySet::read(&bounded(text)?)?)
}

fn bounded_read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut text = Vec::new();
    std::fs::File::open(path)?.take(MAX_ANSWER_BYTES as u64 + 1).read_to_end(&mut text)?;
    Ok(text)
}

fn bounded(text: Vec<u8>) -> Result<Vec<u8>, KeyError> {
    if text.len() > MAX_ANSWER_BYTES { Err(KeyError::AnswerTooLong { max_bytes: MAX_ANSWER_BYTES }) } else { Ok(text) }
}

fn file_error(error: &std::io::Error) -> KeyError {
    KeyError::File { what: error.to_string() }
}

/// Keys on another host than the issuer are usual for some providers; that they are now on another than before is worth a line.
fn report_host(name: &str, document: &Url, before: Option<&Url>, uri: &Url) {
    let host = |url: &Url| url.host_str().map(shown).unwrap_or_default();
    if before.map(Url::host) != Some(uri.host()) && uri.host() != document.host() {
        tracing::info!(issuer = name, host = host(uri), "keys are on another host than the discovery document");
    }
}
