//! Key origin: fetches an issuer's keys by discovery, from a URL or from a file.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use url::Url;

use super::schedule::{FetchCause, FetchScope, micros};
use crate::outbound::UrlPolicy;
use crate::primitives::escape::escape_for_log;
use crate::primitives::file::FileReader;
use crate::token::discovery;
use crate::token::error::{IssuerSetupError, KeyError};
use crate::token::fetch::{FetchAttempt, KeyFetcher, MAX_DOCUMENT_BYTES};
use crate::token::jwks::KeySet;
use crate::token::{IssuerSettings, KeySource};

/// A [`KeySource`] with everything that it takes to fetch from it.
#[derive(Debug)]
pub(super) enum Origin {
    Discovery(Discovery),
    File(FileReader),
    Url { url: Url, fetcher: KeyFetcher },
}

/// A key set that has just been fetched.
#[derive(Debug)]
pub(super) struct FetchedKeys {
    pub(super) set: KeySet,
    /// The lifetime that its cache headers give it.
    pub(super) lifetime: Option<Duration>,
    pub(super) scope: FetchScope,
    /// The address of the key set; `None` if it is in a file.
    pub(super) url: Option<Url>,
}

/// The circumstances of an attempt to fetch keys.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchRequest {
    pub(super) cause: FetchCause,
    /// In microseconds of the monotonic clock.
    pub(super) now: u64,
    /// `jwks_refresh`.
    pub(super) refresh: Duration,
}

impl Origin {
    pub(super) fn new(settings: &IssuerSettings) -> Result<Self, IssuerSetupError> {
        let fetcher = |url: &Url| {
            let policy = UrlPolicy::of(url, settings.allow_http).ok_or(IssuerSetupError::InsecureUrl)?;
            KeyFetcher::new(policy, settings.ca_file.as_deref()).map_err(IssuerSetupError::from)
        };
        Ok(match &settings.keys {
            KeySource::Discovery(url) => Self::Discovery(Discovery {
                issuer_name: Arc::clone(&settings.name),
                issuer: Arc::clone(&settings.issuer),
                document_url: url.clone(),
                fetcher: fetcher(url)?,
                last: Mutex::default(),
            }),
            KeySource::JwksFile(path) => Self::File(FileReader::new(path, MAX_DOCUMENT_BYTES)),
            KeySource::JwksUrl(url) => Self::Url { url: url.clone(), fetcher: fetcher(url)? },
        })
    }

    /// Fetches the keys.
    pub(super) async fn fetch(&self, request: FetchRequest) -> Result<FetchedKeys, KeyError> {
        match self {
            Self::Discovery(discovery) => discovery.fetch(request).await,
            Self::File(file) => Ok(FetchedKeys::of_file(KeySet::read(&file.read().await?)?)),
            Self::Url { url, fetcher } => fetch_key_set(&fetcher.begin().await?, url, FetchScope::Everything).await,
        }
    }

    /// The keys, if they are in a file. Blocks for as long as the file system does.
    pub(super) fn read_at_start(&self) -> Result<Option<FetchedKeys>, IssuerSetupError> {
        let file = match self {
            Self::File(file) => file,
            Self::Discovery(_) | Self::Url { .. } => return Ok(None),
        };
        let set = file.read_blocking().map_err(KeyError::from).and_then(|text| Ok(KeySet::read(&text)?));
        let unusable = |error| IssuerSetupError::JwksFile { path: file.path().to_owned(), error };
        set.map(|set| Some(FetchedKeys::of_file(set))).map_err(unusable)
    }
}

impl FetchedKeys {
    pub(super) fn of_file(set: KeySet) -> Self {
        Self { set, lifetime: None, scope: FetchScope::Everything, url: None }
    }
}

/// Finds the keys by way of the issuer's discovery document.
#[derive(Debug)]
pub(super) struct Discovery {
    issuer_name: Arc<str>,
    issuer: Arc<str>,
    document_url: Url,
    fetcher: KeyFetcher,
    last: Mutex<LastDiscovery>,
}

/// What the last discovery document said, and how long that may be relied on.
#[derive(Debug, Default)]
struct LastDiscovery {
    jwks_uri: Option<Url>,
    /// Until when a fetch for an unknown key may use `jwks_uri` without reading the document again;
    /// 0 after an attempt that failed.
    reusable_until: u64,
}

impl Discovery {
    /// A scheduled fetch reads the discovery document again, so that an issuer can move its keys.
    /// A fetch for an unknown key, for which a request is waiting, may use the last `jwks_uri`, but
    /// only while the document is fresh: by its own cache headers, and at most `jwks_refresh`. The
    /// document's age counts from when the document was read, however often the keys are fetched.
    async fn fetch(&self, request: FetchRequest) -> Result<FetchedKeys, KeyError> {
        let lock = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (known_uri, reusable_until) = {
            let mut last = lock();
            let reusable_until = std::mem::take(&mut last.reusable_until);
            let is_reusable = request.cause == FetchCause::UnknownKey && request.now < reusable_until;
            (if is_reusable { last.jwks_uri.clone() } else { None }, reusable_until)
        };
        let attempt = self.fetcher.begin().await?;
        let (uri, reusable_until, scope) = if let Some(uri) = known_uri {
            (uri, reusable_until, FetchScope::KeysOnly)
        } else {
            let document = attempt.get(&self.document_url).await?;
            let uri = discovery::jwks_uri(&document.body, &self.issuer, &self.document_url, self.fetcher.url_policy())?;
            let previous = lock().jwks_uri.replace(uri.clone());
            self.report_other_host(previous.as_ref(), &uri);
            let lifetime = document.lifetime.unwrap_or(request.refresh).min(request.refresh);
            (uri, request.now.saturating_add(micros(lifetime)), FetchScope::Everything)
        };
        let fetched = fetch_key_set(&attempt, &uri, scope).await?;
        lock().reusable_until = reusable_until;
        Ok(fetched)
    }

    /// Logs when the keys move to a host other than that of the discovery document. Some providers
    /// do this as a matter of course, so it is no warning.
    fn report_other_host(&self, previous: Option<&Url>, uri: &Url) {
        if previous.map(Url::host) != Some(uri.host()) && uri.host() != self.document_url.host() {
            let host = uri.host_str().map(escape_for_log).unwrap_or_default();
            tracing::info!(issuer = &*self.issuer_name, host, "keys are on another host than the discovery document");
        }
    }
}

async fn fetch_key_set(attempt: &FetchAttempt, url: &Url, scope: FetchScope) -> Result<FetchedKeys, KeyError> {
    let document = attempt.get(url).await?;
    Ok(FetchedKeys { set: KeySet::read(&document.body)?, lifetime: document.lifetime, scope, url: Some(url.clone()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outbound::UrlPolicy;
    use crate::telemetry::logging::tests::events_of;

    #[test]
    fn keys_that_move_to_another_host_are_an_event() {
        let url = |text: &str| Url::parse(text).unwrap();
        let discovery = Discovery {
            issuer_name: "main".into(),
            issuer: "https://idp.test".into(),
            document_url: url("https://idp.test/.well-known/openid-configuration"),
            fetcher: KeyFetcher::new(UrlPolicy::LoopbackOrHttps, None).unwrap(),
            last: Mutex::default(),
        };
        let (own, other, third) = (url("https://idp.test/k"), url("https://a.test/k"), url("https://b.test/k"));
        for (name, previous, uri, expected) in [
            ("the first, on its own host", None, &own, false),
            ("the first, on another host", None, &other, true),
            ("there before", Some(&other), &other, false),
            ("moved on", Some(&other), &third, true),
            ("moved home", Some(&other), &own, false),
        ] {
            let events = events_of(|| discovery.report_other_host(previous, uri));
            assert_eq!(events.contains("keys are on another host than the discovery document"), expected, "{name}");
        }
    }
}
