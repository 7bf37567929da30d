//! The store with a clock by hand: what it serves while fetches succeed, fail and hang.

use serde_json::json;
use tokio::task::JoinSet;

use super::*;
use crate::primitives::clock::ManualClock;
use crate::primitives::shutdown;
use crate::token::test_support::{Ending, ISSUER, NOW, OTHER_RSA, P256, RSA, Site, jwks, metrics, settings};

impl KeyStore {
    /// Puts a set in place as if it had just been fetched.
    pub(in crate::token) fn put(&self, document: &[u8]) {
        self.lock().schedule.begin(self.clock.monotonic_micros());
        self.conclude(Ok((KeySet::read(document).unwrap(), None)));
    }

    /// As if a fetch had just failed.
    pub(in crate::token) fn fail(&self) {
        self.lock().schedule.begin(self.clock.monotonic_micros());
        self.conclude(Err(KeyError::Timeout));
    }
}

struct Bench {
    site: Site,
    time: ManualClock,
    store: Arc<KeyStore>,
    loops: JoinSet<()>,
    trigger: shutdown::Trigger,
    shutdown: Shutdown,
}

impl Bench {
    fn new() -> Self {
        Self::with(|site| KeySource::JwksUrl(site.url("/keys")))
    }

    fn with(source: impl FnOnce(&Site) -> KeySource) -> Self {
        let (site, time) = (Site::start(), ManualClock::at(NOW));
        let store = KeyStore::new(&settings(source(&site)), time.clock(), metrics()).unwrap();
        let (trigger, shutdown) = shutdown::channel();
        Self { site, time, store, loops: JoinSet::new(), trigger, shutdown }
    }

    fn publish(&self, keys: &[serde_json::Value]) {
        self.site.put("/keys", "", &jwks(keys));
    }

    fn start(&mut self) {
        self.loops.spawn(Arc::clone(&self.store).run(self.shutdown.clone()));
    }

    async fn find(&self, kid: &str) -> Result<(), VerifyError> {
        self.store.key_set_for(Some(kid), Algorithm::Rs256).await.map(drop)
    }

    fn advance(&self, seconds: u64) {
        self.time.advance(Duration::from_secs(seconds));
    }
}

fn unavailable(seconds: u64) -> Result<(), VerifyError> {
    Err(VerifyError::KeysUnavailable { retry_after: Duration::from_secs(seconds) })
}

/// Threats J-67, J-69: requests that come before the keys wait for them, and one fetch serves all.
#[tokio::test]
async fn the_first_requests_wait_for_the_first_fetch() {
    let mut bench = Bench::new();
    bench.publish(&[RSA.jwk("k1")]);
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&bench.store);
        requests.spawn(async move { store.key_set_for(Some("k1"), Algorithm::Rs256).await.map(drop) });
    }
    bench.start();
    assert!(requests.join_all().await.iter().all(Result::is_ok));
    assert_eq!(bench.site.hits("/keys"), 1);
}

#[tokio::test]
async fn requests_hear_when_the_first_fetch_fails() {
    let mut bench = Bench::new();
    bench.site.put_raw("/keys", "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", Ending::Close);
    bench.start();
    assert_eq!(bench.find("k1").await, unavailable(30));
    let status = bench.store.status();
    assert_eq!((status.ready, status.keys, status.age), (false, 0, None));
    assert_eq!(status.last_error.as_deref(), Some("answer has status 500"));
    assert!(bench.store.has_tried());
}

/// Threats J-68, J-69, J-91.
#[tokio::test]
async fn a_new_key_is_fetched_once_per_cooldown() {
    let mut bench = Bench::new();
    bench.publish(&[RSA.jwk("k1")]);
    bench.start();
    assert_eq!(bench.find("k1").await, Ok(()));
    bench.publish(&[RSA.jwk("k1"), OTHER_RSA.jwk("k2")]);
    assert_eq!(bench.find("k2").await, Err(VerifyError::UnknownKey), "during the cooldown");
    bench.advance(30);
    let mut requests = JoinSet::new();
    for number in 0..100 {
        let store = Arc::clone(&bench.store);
        let kid = if number % 2 == 0 { "k2".to_owned() } else { format!("invented-{number}") };
        requests.spawn(async move { (store.key_set_for(Some(&kid), Algorithm::Rs256).await.map(drop), kid) });
    }
    for (found, kid) in requests.join_all().await {
        let expected = if kid == "k2" { Ok(()) } else { Err(VerifyError::UnknownKey) };
        assert_eq!(found, expected, "{kid}");
    }
    assert_eq!(bench.site.hits("/keys"), 2);
}

/// A set that cannot be fetched anew serves on; whether an unknown key exists cannot be told then.
#[tokio::test]
async fn the_last_good_set_serves_while_fetches_fail() {
    let mut bench = Bench::new();
    bench.publish(&[RSA.jwk("k1")]);
    bench.start();
    assert_eq!(bench.find("k1").await, Ok(()));
    bench.site.put("/keys", "", b"not JSON");
    bench.advance(30);
    assert_eq!(bench.find("k2").await, unavailable(30));
    assert_eq!(bench.find("k1").await, Ok(()));
    let status = bench.store.status();
    assert_eq!((status.ready, status.last_error.as_deref()), (true, Some("key set is malformed")));
    bench.publish(&[RSA.jwk("k1"), OTHER_RSA.jwk("k2")]);
    assert_eq!(bench.find("k2").await, unavailable(30), "during the cooldown");
    bench.advance(30);
    assert_eq!(bench.find("k2").await, Ok(()));
    assert_eq!(bench.store.status().last_error, None);
}

#[tokio::test]
async fn a_set_that_is_too_old_is_not_used() {
    let bench = Bench::new();
    bench.store.put(&jwks(&[RSA.jwk("k1")]));
    bench.advance(24 * 60 * 60);
    bench.store.fail();
    assert_eq!(bench.find("k1").await, Ok(()));
    bench.advance(1);
    assert_eq!(bench.find("k1").await, unavailable(29));
    let status = bench.store.status();
    assert_eq!((status.ready, status.keys), (false, 0));
    bench.store.put(&jwks(&[RSA.jwk("k1")]));
    assert_eq!(bench.find("k1").await, Ok(()));
}

/// Threats A26, J-71, J-73: a fetch replaces the set whole.
#[tokio::test]
async fn a_key_that_is_no_longer_published_is_gone() {
    let bench = Bench::new();
    bench.store.put(&jwks(&[RSA.jwk("k1"), OTHER_RSA.jwk("k2")]));
    assert_eq!(bench.find("k1").await, Ok(()));
    bench.store.put(&jwks(&[OTHER_RSA.jwk("k2")]));
    assert_eq!(bench.find("k1").await, Err(VerifyError::UnknownKey));
    assert_eq!(bench.find("k2").await, Ok(()));
}

#[tokio::test]
async fn the_same_keys_keep_their_generation() {
    let bench = Bench::new();
    let generation = |store: &KeyStore| store.usable(bench.time.clock().monotonic_micros()).unwrap().generation();
    bench.store.put(&jwks(&[RSA.jwk("k1"), P256.jwk("k2")]));
    let first = generation(&bench.store);
    bench.advance(10);
    bench.store.put(&jwks(&[P256.jwk("k2"), RSA.jwk("k1")]));
    assert_eq!(generation(&bench.store), first);
    assert_eq!(bench.store.status().age, Some(Duration::ZERO));
    bench.store.put(&jwks(&[RSA.jwk("k1")]));
    assert_ne!(generation(&bench.store), first);
}

/// Threat A13: a key of that name for another algorithm is no reason to fetch.
#[tokio::test]
async fn a_key_of_another_kind_is_a_mismatch() {
    let bench = Bench::new();
    bench.store.put(&jwks(&[P256.jwk("k1")]));
    bench.advance(60);
    assert_eq!(bench.find("k1").await, Err(VerifyError::KeyMismatch));
}

/// Threat J-66; RFC 8414 §3.3. A token that asks does not make the document be read again.
#[tokio::test]
async fn discovery_leads_to_the_keys() {
    let mut bench = Bench::with(|site| KeySource::Discovery(site.url("/.well-known/openid-configuration")));
    let document = |issuer: &str| {
        let document = json!({ "issuer": issuer, "jwks_uri": bench.site.url("/keys").as_str() });
        bench.site.put("/.well-known/openid-configuration", "", document.to_string().as_bytes());
    };
    bench.publish(&[RSA.jwk("k1")]);
    document("https://other.test");
    let refused = bench.store.fetch_once().await;
    assert!(matches!(refused, Err(KeyError::IssuerDiffers { .. })), "{refused:?}");
    assert_eq!(bench.site.hits("/keys"), 0);
    document(ISSUER);
    assert_eq!(bench.store.fetch_once().await, Ok(()));
    bench.start();
    bench.advance(30);
    assert_eq!(bench.find("k2").await, Err(VerifyError::UnknownKey));
    assert_eq!((bench.site.hits("/.well-known/openid-configuration"), bench.site.hits("/keys")), (2, 2));
}

/// Threat J-64: a request waits no longer than a fetch may take.
#[tokio::test]
async fn nobody_waits_for_ever() {
    let mut bench = Bench::new();
    assert_eq!(bench.store.wait_timeout, Duration::from_secs(5));
    // No loop runs here, so that the attempt never ends.
    Arc::get_mut(&mut bench.store).unwrap().wait_timeout = Duration::from_millis(20);
    assert_eq!(bench.find("k1").await, unavailable(1));
}

#[tokio::test]
async fn the_loop_ends_with_the_process() {
    let mut bench = Bench::new();
    bench.site.put_raw("/keys", "", Ending::Hang);
    bench.start();
    bench.trigger.advance(Phase::Draining);
    assert!(bench.loops.try_join_next().is_none());
    bench.trigger.advance(Phase::Stopped);
    assert!(bench.loops.join_next().await.unwrap().is_ok());
}

#[tokio::test]
async fn a_file_is_read_at_the_start_and_again() {
    let path = std::env::temp_dir().join(format!("portcullis-{}.json", random::hex(&random::bytes::<8>())));
    let store = |path: &std::path::Path| {
        KeyStore::new(&settings(KeySource::JwksFile(path.to_owned())), ManualClock::at(NOW).clock(), metrics())
    };
    assert!(matches!(store(&path), Err(StartError::JwksFile { error: KeyError::File { .. }, .. })));
    std::fs::write(&path, b"{}").unwrap();
    assert!(matches!(store(&path), Err(StartError::JwksFile { error: KeyError::KeySet(_), .. })));
    std::fs::write(&path, vec![b' '; 512 * 1024 + 1]).unwrap();
    assert!(matches!(store(&path), Err(StartError::JwksFile { error: KeyError::AnswerTooLong { .. }, .. })));
    std::fs::write(&path, jwks(&[RSA.jwk("k1")])).unwrap();
    let store = store(&path).unwrap();
    assert!(store.status().ready && store.key_set_for(Some("k1"), Algorithm::Rs256).await.is_ok());
    std::fs::write(&path, jwks(&[OTHER_RSA.jwk("k2")])).unwrap();
    assert_eq!(store.fetch_once().await, Ok(()));
    assert!(store.key_set_for(Some("k2"), Algorithm::Rs256).await.is_ok());
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(store.fetch_once().await, Err(KeyError::File { .. })));
    assert!(store.status().ready);
}

#[test]
fn keys_are_not_fetched_in_the_clear_from_elsewhere() {
    let source = KeySource::JwksUrl("http://idp.test/keys".parse().unwrap());
    let store = KeyStore::new(&settings(source), Clock::system(), metrics());
    assert!(matches!(store, Err(StartError::InsecureUrl)));
}
