//! What the store serves while fetches succeed, fail and hang. The tests set the clock.

use serde_json::json;
use tokio::task::JoinSet;

use super::*;
use crate::outbound;
use crate::outbound::test_support::{TestServer, Then};
use crate::primitives::clock::ManualClock;
use crate::primitives::file::ReadError;
use crate::primitives::shutdown;
use crate::primitives::test_directory::TestDirectory;
use crate::token::test_support::{ISSUER, NOW, OTHER_RSA, P256, RSA, jwks, metrics, settings};

impl KeyStore {
    /// Stores a set as if it had just been fetched.
    pub(in crate::token) fn put(&self, document: &[u8]) {
        self.lock().schedule.start(self.clock.monotonic_micros());
        self.complete_attempt(Ok(FetchedKeys::of_file(KeySet::read(document).unwrap())));
    }

    /// Records a failure as if a fetch had just failed.
    pub(in crate::token) fn fail(&self) {
        self.lock().schedule.start(self.clock.monotonic_micros());
        self.complete_attempt(Err(KeyError::Fetch(outbound::Error::Timeout)));
    }
}

struct Fixture {
    server: TestServer,
    time: ManualClock,
    store: Arc<KeyStore>,
    loops: JoinSet<()>,
    trigger: shutdown::Trigger,
    shutdown: Shutdown,
}

impl Fixture {
    fn new() -> Self {
        Self::with(|server| KeySource::JwksUrl(server.url("/keys")))
    }

    fn with(source: impl FnOnce(&TestServer) -> KeySource) -> Self {
        let (server, time) = (TestServer::start(), ManualClock::at(NOW));
        let store = KeyStore::new(&settings(source(&server)), time.clock(), metrics()).unwrap();
        let (trigger, shutdown) = shutdown::channel();
        Self { server, time, store, loops: JoinSet::new(), trigger, shutdown }
    }

    fn publish(&self, keys: &[serde_json::Value]) {
        self.server.put("/keys", "", &jwks(keys));
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

/// Threats J-67, J-69: requests that arrive before the keys wait, and one fetch serves them all.
#[tokio::test]
async fn the_first_requests_wait_for_the_first_fetch() {
    let mut fixture = Fixture::new();
    fixture.publish(&[RSA.jwk("k1")]);
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let store = Arc::clone(&fixture.store);
        requests.spawn(async move { store.key_set_for(Some("k1"), Algorithm::Rs256).await.map(drop) });
    }
    fixture.start();
    assert!(requests.join_all().await.iter().all(Result::is_ok));
    assert_eq!(fixture.server.hits("/keys"), 1);
}

#[tokio::test]
async fn waiting_requests_are_unavailable_when_the_first_fetch_fails() {
    let mut fixture = Fixture::new();
    fixture.server.put_raw("/keys", "HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n", Then::Close);
    fixture.start();
    assert_eq!(fixture.find("k1").await, unavailable(30));
    let status = fixture.store.status();
    assert_eq!((status.ready, status.keys, status.age), (false, 0, None));
    assert_eq!(status.last_error.as_deref(), Some("response has status 500"));
}

/// Threats J-68, J-69, J-91.
#[tokio::test]
async fn a_new_key_is_fetched_once_per_cooldown() {
    let mut fixture = Fixture::new();
    fixture.publish(&[RSA.jwk("k1")]);
    fixture.start();
    assert_eq!(fixture.find("k1").await, Ok(()));
    fixture.publish(&[RSA.jwk("k1"), OTHER_RSA.jwk("k2")]);
    assert_eq!(fixture.find("k2").await, Err(VerifyError::UnknownKey), "during the cooldown");
    fixture.advance(30);
    let mut requests = JoinSet::new();
    for number in 0..100 {
        let store = Arc::clone(&fixture.store);
        let kid = if number % 2 == 0 { "k2".to_owned() } else { format!("invented-{number}") };
        requests.spawn(async move { (store.key_set_for(Some(&kid), Algorithm::Rs256).await.map(drop), kid) });
    }
    for (found, kid) in requests.join_all().await {
        let expected = if kid == "k2" { Ok(()) } else { Err(VerifyError::UnknownKey) };
        assert_eq!(found, expected, "{kid}");
    }
    assert_eq!(fixture.server.hits("/keys"), 2);
}

/// After a failed refresh, whether an unknown key exists cannot be determined.
#[tokio::test]
async fn the_last_good_set_stays_in_use_while_fetches_fail() {
    let mut fixture = Fixture::new();
    fixture.publish(&[RSA.jwk("k1")]);
    fixture.start();
    assert_eq!(fixture.find("k1").await, Ok(()));
    fixture.server.put("/keys", "", b"not JSON");
    fixture.advance(30);
    assert_eq!(fixture.find("k2").await, unavailable(30));
    assert_eq!(fixture.find("k1").await, Ok(()));
    let status = fixture.store.status();
    assert_eq!((status.ready, status.last_error.as_deref()), (true, Some("the issuer's key set is malformed")));
    fixture.publish(&[RSA.jwk("k1"), OTHER_RSA.jwk("k2")]);
    assert_eq!(fixture.find("k2").await, unavailable(30), "during the cooldown");
    fixture.advance(30);
    assert_eq!(fixture.find("k2").await, Ok(()));
    assert_eq!(fixture.store.status().last_error, None);
}

#[tokio::test]
async fn a_set_that_is_too_old_is_not_used() {
    let fixture = Fixture::new();
    fixture.store.put(&jwks(&[RSA.jwk("k1")]));
    fixture.advance(24 * 60 * 60);
    fixture.store.fail();
    assert_eq!(fixture.find("k1").await, Ok(()));
    fixture.advance(1);
    assert_eq!(fixture.find("k1").await, unavailable(29));
    let status = fixture.store.status();
    assert_eq!((status.ready, status.keys), (false, 0));
    fixture.store.put(&jwks(&[RSA.jwk("k1")]));
    assert_eq!(fixture.find("k1").await, Ok(()));
}

/// Threats A26, J-71, J-73: a fetch replaces the set whole.
#[tokio::test]
async fn a_key_that_is_no_longer_published_is_gone() {
    let fixture = Fixture::new();
    fixture.store.put(&jwks(&[RSA.jwk("k1"), OTHER_RSA.jwk("k2")]));
    assert_eq!(fixture.find("k1").await, Ok(()));
    fixture.store.put(&jwks(&[OTHER_RSA.jwk("k2")]));
    assert_eq!(fixture.find("k1").await, Err(VerifyError::UnknownKey));
    assert_eq!(fixture.find("k2").await, Ok(()));
}

#[tokio::test]
async fn the_same_keys_keep_their_generation() {
    let fixture = Fixture::new();
    let generation =
        |store: &KeyStore| store.usable_keys(fixture.time.clock().monotonic_micros()).unwrap().generation();
    fixture.store.put(&jwks(&[RSA.jwk("k1"), P256.jwk("k2")]));
    let first = generation(&fixture.store);
    fixture.advance(10);
    fixture.store.put(&jwks(&[P256.jwk("k2"), RSA.jwk("k1")]));
    assert_eq!(generation(&fixture.store), first);
    assert_eq!(fixture.store.status().age, Some(Duration::ZERO));
    fixture.store.put(&jwks(&[RSA.jwk("k1")]));
    assert_ne!(generation(&fixture.store), first);
}

/// Threat A13: a key with that name for another algorithm causes no fetch.
#[tokio::test]
async fn a_key_for_another_algorithm_is_a_mismatch() {
    let fixture = Fixture::new();
    fixture.store.put(&jwks(&[P256.jwk("k1")]));
    fixture.advance(60);
    assert_eq!(fixture.find("k1").await, Err(VerifyError::KeyMismatch));
}

/// Threat J-66; RFC 8414 §3.3. An unknown key does not cause another fetch of the document.
#[tokio::test]
async fn discovery_leads_to_the_keys() {
    let mut fixture = Fixture::with(|server| KeySource::Discovery(server.url("/.well-known/openid-configuration")));
    let document = |issuer: &str| {
        let document = json!({ "issuer": issuer, "jwks_uri": fixture.server.url("/keys").as_str() });
        fixture.server.put("/.well-known/openid-configuration", "", document.to_string().as_bytes());
    };
    fixture.publish(&[RSA.jwk("k1")]);
    document("https://other.test");
    let refused = fixture.store.fetch_once().await;
    assert!(matches!(refused, Err(KeyError::IssuerDiffers { .. })), "{refused:?}");
    assert_eq!(fixture.server.hits("/keys"), 0);
    document(ISSUER);
    assert_eq!(fixture.store.fetch_once().await, Ok(()));
    fixture.start();
    fixture.advance(30);
    assert_eq!(fixture.find("k2").await, Err(VerifyError::UnknownKey));
    assert_eq!((fixture.server.hits("/.well-known/openid-configuration"), fixture.server.hits("/keys")), (2, 2));
}

/// Threat J-95: an issuer moves its keys and withdraws the old one, but the old address still
/// answers. A client that sends an unknown key id now and then must not keep the gateway there.
#[tokio::test]
async fn unknown_keys_do_not_delay_the_next_look_at_the_discovery_document() {
    const DOCUMENT: &str = "/.well-known/openid-configuration";
    for (name, headers, document_headers) in [
        ("no cache headers", "", ""),
        ("keys that may be cached for a day", "cache-control: max-age=86400\r\n", ""),
        ("a document that may be cached for a day", "", "cache-control: max-age=86400\r\n"),
        ("both may", "cache-control: max-age=86400\r\n", "cache-control: max-age=86400\r\n"),
    ] {
        let mut fixture = Fixture::with(|server| KeySource::Discovery(server.url(DOCUMENT)));
        let publish_at = |path: &str| {
            let document = json!({ "issuer": ISSUER, "jwks_uri": fixture.server.url(path).as_str() });
            fixture.server.put(DOCUMENT, document_headers, document.to_string().as_bytes());
        };
        publish_at("/keys");
        fixture.server.put("/keys", headers, &jwks(&[RSA.jwk("withdrawn")]));
        fixture.server.put("/new-keys", headers, &jwks(&[OTHER_RSA.jwk("new")]));
        assert_eq!(fixture.store.fetch_once().await, Ok(()), "{name}");
        publish_at("/new-keys");
        fixture.start();
        for number in 0..4 {
            fixture.advance(240);
            let found = fixture.find(&format!("invented-{number}")).await;
            assert_eq!(found, Err(VerifyError::UnknownKey), "{name}");
        }
        assert_eq!(fixture.find("withdrawn").await, Err(VerifyError::UnknownKey), "{name}");
        assert_eq!(fixture.find("new").await, Ok(()), "{name}");
    }
}

/// Threat J-64.
#[tokio::test]
async fn a_request_waits_no_longer_than_a_fetch_may_take() {
    let mut fixture = Fixture::new();
    assert_eq!(fixture.store.wait_timeout, Duration::from_secs(5));
    // No loop runs here, so the attempt never ends.
    Arc::get_mut(&mut fixture.store).unwrap().wait_timeout = Duration::from_millis(20);
    assert_eq!(fixture.find("k1").await, unavailable(1));
}

#[tokio::test]
async fn the_loop_ends_with_the_process() {
    let mut fixture = Fixture::new();
    fixture.server.put_raw("/keys", "", Then::Hang);
    fixture.start();
    fixture.trigger.advance(Phase::Draining);
    assert!(fixture.loops.try_join_next().is_none());
    fixture.trigger.advance(Phase::Stopped);
    assert!(fixture.loops.join_next().await.unwrap().is_ok());
}

#[tokio::test]
async fn a_file_is_read_at_the_start_and_at_each_refresh() {
    let directory = TestDirectory::new();
    let path = directory.file("keys.json");
    let store = |path: &std::path::Path| {
        KeyStore::new(&settings(KeySource::JwksFile(path.to_owned())), ManualClock::at(NOW).clock(), metrics())
    };
    assert!(matches!(store(&path), Err(IssuerSetupError::JwksFile { error: KeyError::File(_), .. })));
    std::fs::write(&path, b"{}").unwrap();
    assert!(matches!(store(&path), Err(IssuerSetupError::JwksFile { error: KeyError::KeySet(_), .. })));
    std::fs::write(&path, vec![b' '; 512 * 1024 + 1]).unwrap();
    assert!(matches!(
        store(&path),
        Err(IssuerSetupError::JwksFile { error: KeyError::File(ReadError::TooLarge { .. }), .. })
    ));
    std::fs::write(&path, jwks(&[RSA.jwk("k1")])).unwrap();
    let store = store(&path).unwrap();
    assert!(store.status().ready && store.key_set_for(Some("k1"), Algorithm::Rs256).await.is_ok());
    std::fs::write(&path, jwks(&[OTHER_RSA.jwk("k2")])).unwrap();
    assert_eq!(store.fetch_once().await, Ok(()));
    assert!(store.key_set_for(Some("k2"), Algorithm::Rs256).await.is_ok());
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(store.fetch_once().await, Err(KeyError::File(_))));
    assert!(store.status().ready);
}

/// Keys are taken over only if they are those that the new store would fetch.
#[test]
fn a_new_store_takes_over_the_keys_of_its_issuer_and_source_only() {
    let time = ManualClock::at(NOW);
    let url = |path: &str| format!("https://idp.test{path}").parse::<Url>().unwrap();
    let base = || settings(KeySource::JwksUrl(url("/keys")));
    let old = KeyStore::new(&base(), time.clock(), metrics()).unwrap();
    let fetched =
        FetchedKeys { url: Some(url("/keys")), ..FetchedKeys::of_file(KeySet::read(&jwks(&[RSA.jwk("k1")])).unwrap()) };
    old.lock().schedule.start(time.clock().monotonic_micros());
    old.complete_attempt(Ok(fetched));
    time.advance(Duration::from_secs(60));
    for (name, settings, expected) in [
        ("the same source", base(), true),
        ("another name", IssuerSettings { name: "other".into(), ..base() }, true),
        ("another issuer", IssuerSettings { issuer: "https://other.test".into(), ..base() }, false),
        ("another address", settings(KeySource::JwksUrl(url("/other"))), false),
        ("discovery in place of the address", settings(KeySource::Discovery(url("/keys"))), false),
    ] {
        let store = KeyStore::new(&settings, time.clock(), metrics()).unwrap();
        store.inherit(&old);
        let age = store.status().age;
        assert_eq!(age, expected.then_some(Duration::from_secs(60)), "{name}");
        assert_eq!(store.status().ready, expected, "{name}");
    }
    let discovered = KeyStore::new(&settings(KeySource::Discovery(url("/d"))), time.clock(), metrics()).unwrap();
    discovered.put(&jwks(&[RSA.jwk("k1")]));
    let store = KeyStore::new(&settings(KeySource::Discovery(url("/d"))), time.clock(), metrics()).unwrap();
    store.inherit(&discovered);
    assert!(store.status().ready, "the same discovery document");
    // Keys of its own are not given up for older ones.
    let store = KeyStore::new(&base(), time.clock(), metrics()).unwrap();
    store.put(&jwks(&[OTHER_RSA.jwk("k2")]));
    store.inherit(&old);
    assert_eq!(store.status().age, Some(Duration::ZERO));
}

/// A store is kept over a reload only if it would fetch the same keys in the same way.
#[test]
fn a_store_serves_settings_with_the_same_source_name_and_authorities_only() {
    let source = || KeySource::JwksUrl("https://idp.test/keys".parse().unwrap());
    let base = || settings(source());
    let store = KeyStore::new(&base(), Clock::system(), metrics()).unwrap();
    for (name, settings, expected) in [
        ("the same", base(), true),
        ("another lifetime", IssuerSettings { max_lifetime: Some(Duration::from_secs(60)), ..base() }, true),
        ("another name", IssuerSettings { name: "other".into(), ..base() }, false),
        ("another ca_file", IssuerSettings { ca_file: Some("/ca.pem".into()), ..base() }, false),
        ("another issuer", IssuerSettings { issuer: "https://other.test".into(), ..base() }, false),
        ("another source", settings(KeySource::JwksUrl("https://idp.test/other".parse().unwrap())), false),
    ] {
        assert_eq!(store.can_serve(&settings), expected, "{name}");
    }
}

/// A pipe that nothing is written to would keep its reader for ever.
#[tokio::test]
async fn a_key_file_that_is_a_pipe_is_refused_at_the_start_and_at_a_refresh() {
    let directory = TestDirectory::new();
    let path = directory.file("keys.json");
    let make_pipe = || assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    let store = || KeyStore::new(&settings(KeySource::JwksFile(path.clone())), ManualClock::at(NOW).clock(), metrics());
    let not_regular = KeyError::File(ReadError::NotRegular);
    make_pipe();
    assert!(matches!(store(), Err(IssuerSetupError::JwksFile { error, .. }) if error == not_regular));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, jwks(&[RSA.jwk("k1")])).unwrap();
    let store = store().unwrap();
    std::fs::remove_file(&path).unwrap();
    make_pipe();
    assert_eq!(store.fetch_once().await, Err(not_regular));
    assert!(store.status().ready, "the keys of before stay in use");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn keys_are_not_fetched_over_plain_http_from_another_machine() {
    let source = KeySource::JwksUrl("http://idp.test/keys".parse().unwrap());
    let store = KeyStore::new(&settings(source), Clock::system(), metrics());
    assert!(matches!(store, Err(IssuerSetupError::InsecureUrl)));
}
