//! The state directory, on a real file system.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::primitives::test_directory::TestDirectory;
use crate::tls::test_support::TestAuthority;

struct TestState {
    directory: TestDirectory,
    root: PathBuf,
    state: StateDirectory,
}

impl TestState {
    fn new() -> Self {
        let directory = TestDirectory::new();
        let root = directory.file("acme");
        let state = StateDirectory::new(&root);
        Self { directory, root, state }
    }

    fn host(&self, host: &str) -> ManagedHost {
        ManagedHost { host: host.into(), file: certificate_file(&self.root, host) }
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join(directory)).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(&self, path: &str) -> u32 {
        std::fs::metadata(self.root.join(path)).unwrap().permissions().mode() & 0o777
    }
}

fn directory() -> Url {
    "https://acme.test:14000/dir?a=b/../c".parse().unwrap()
}

fn issued(name: &str) -> String {
    let authority = TestAuthority::new();
    let issued = authority.issue(&[name]);
    issued.key() + &issued.chain(&authority)
}

#[tokio::test]
async fn a_certificate_is_stored_with_the_server_that_has_issued_it() {
    let test = TestState::new();
    let host = test.host("api.test");
    assert!(matches!(test.state.certificate(&host).await.unwrap(), Stored::Missing), "not even a directory");
    let _lock = test.state.lock().await.unwrap().unwrap();
    assert!(matches!(test.state.certificate(&host).await.unwrap(), Stored::Missing));
    test.state.store_certificate(&host, &directory(), &issued("api.test")).await.unwrap();
    let Stored::Certificate { identity, directory: issuer } = test.state.certificate(&host).await.unwrap() else {
        panic!("it cannot be read")
    };
    assert_eq!((identity.facts.names().as_str(), identity.key.cert.len()), ("api.test", 2));
    assert_eq!(issuer, directory().as_str());
    assert_eq!(test.names("certificates"), ["api.test.pem"], "nothing is left over");
}

/// Threat AC-3.
#[tokio::test]
async fn only_the_owner_has_access() {
    let test = TestState::new();
    let _lock = test.state.lock().await.unwrap().unwrap();
    let host = test.host("api.test");
    // What a crash of a process with other permissions has left.
    let leftover = test.root.join("certificates/api.test.pem.tmp");
    std::fs::write(&leftover, "half").unwrap();
    std::fs::set_permissions(&leftover, std::fs::Permissions::from_mode(0o644)).unwrap();
    test.state.store_certificate(&host, &directory(), &issued("api.test")).await.unwrap();
    test.state.store_account(&directory(), "{}".to_owned()).await.unwrap();
    let attempt = Attempt { failures: 1, orders: Vec::new(), next: 2, settings: String::new() };
    test.state.store_attempt("api.test", &attempt).await.unwrap();
    let account = format!("accounts/{}", test.names("accounts")[0]);
    for path in ["certificates/api.test.pem", account.as_str(), "attempts/api.test.json", "lock"] {
        assert_eq!(test.mode(path), 0o600, "{path}");
    }
    for path in ["", "accounts", "certificates", "attempts"] {
        assert_eq!(test.mode(path), 0o700, "{path}");
    }
}

#[tokio::test]
async fn a_broken_file_is_reported_and_kept_beside_the_one_that_takes_its_place() {
    let test = TestState::new();
    let _lock = test.state.lock().await.unwrap().unwrap();
    let host = test.host("api.test");
    let half = issued("api.test").split_at(300).0.to_owned();
    for (name, content) in [("half a file", half.as_str()), ("empty", ""), ("of another tool", "\u{1b}[31m")] {
        std::fs::write(&host.file, content).unwrap();
        let Stored::Broken(error) = test.state.certificate(&host).await.unwrap() else { panic!("{name}") };
        assert_eq!(error.path, host.file, "{name}");
    }
    test.state.store_certificate(&host, &directory(), &issued("api.test")).await.unwrap();
    assert!(matches!(test.state.certificate(&host).await.unwrap(), Stored::Certificate { .. }));
    assert_eq!(std::fs::read_to_string(test.root.join("certificates/api.test.pem.unusable")).unwrap(), "\u{1b}[31m");
    std::fs::remove_file(&host.file).unwrap();
    std::fs::create_dir(&host.file).unwrap();
    assert!(matches!(test.state.certificate(&host).await.unwrap(), Stored::Broken(_)), "a directory");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_leaves_the_old_one() {
    let test = TestState::new();
    let _lock = test.state.lock().await.unwrap().unwrap();
    let host = test.host("api.test");
    test.state.store_certificate(&host, &directory(), &issued("api.test")).await.unwrap();
    let before = std::fs::read(&host.file).unwrap();
    // A directory with something in it can be neither removed like a file nor replaced by one.
    std::fs::create_dir_all(test.root.join("certificates/api.test.pem.tmp/x")).unwrap();
    let error = test.state.store_certificate(&host, &directory(), &issued("api.test")).await.unwrap_err();
    assert!(error.to_string().contains("api.test.pem.tmp` cannot be removed: "), "{error}");
    assert_eq!(std::fs::read(&host.file).unwrap(), before);
}

/// Threat AC-5.
#[tokio::test]
async fn one_process_at_a_time_has_the_lock() {
    let test = TestState::new();
    let lock = test.state.lock().await.unwrap().unwrap();
    let other = StateDirectory::new(&test.root);
    assert!(other.lock().await.unwrap().is_none(), "it is taken");
    drop(lock);
    assert!(other.lock().await.unwrap().is_some(), "it was given up");
}

#[tokio::test]
async fn each_server_has_its_own_account() {
    let test = TestState::new();
    let _lock = test.state.lock().await.unwrap().unwrap();
    let other: Url = "https://other.test/dir".parse().unwrap();
    assert_eq!(test.state.account(&directory()).await.unwrap(), None);
    test.state.store_account(&directory(), "one".to_owned()).await.unwrap();
    test.state.store_account(&other, "other".to_owned()).await.unwrap();
    assert_eq!(test.state.account(&directory()).await.unwrap().as_deref(), Some(&b"one"[..]));
    assert_eq!(test.names("accounts"), ["acme.test-14000-dir-a-b-..-c.json", "other.test-dir.json"]);
    test.state.keep_account_aside(&other).await.unwrap();
    assert_eq!(test.state.account(&other).await.unwrap(), None);
    assert_eq!(test.names("accounts")[1], "other.test-dir.json.unusable");
    test.state.store_account(&other, "another".to_owned()).await.unwrap();
    test.state.keep_account_aside(&other).await.unwrap();
    let first = test.root.join("accounts/other.test-dir.json.unusable");
    assert_eq!(std::fs::read_to_string(first).unwrap(), "other", "the first one stays");
}

/// Threat AC-6: nothing is ordered that cannot be stored.
#[tokio::test]
async fn a_directory_without_room_for_a_certificate_is_found_before_an_order() {
    let test = TestState::new();
    let _lock = test.state.lock().await.unwrap().unwrap();
    let host = test.host("api.test");
    test.state.check_space(&host).await.unwrap();
    assert!(test.names("certificates").is_empty(), "nothing is left");
    std::fs::remove_dir(test.root.join("certificates")).unwrap();
    let error = test.state.check_space(&host).await.unwrap_err().to_string();
    assert!(error.contains("api.test.pem.tmp` cannot be written: "), "{error}");
}

#[tokio::test]
async fn attempts_are_remembered() {
    let test = TestState::new();
    let _lock = test.state.lock().await.unwrap().unwrap();
    let attempt = Attempt { failures: 3, orders: vec![1_799_999_000], next: 1_800_000_000, settings: "x".to_owned() };
    test.state.store_attempt("api.test", &attempt).await.unwrap();
    assert_eq!(test.state.attempt("api.test").await.unwrap(), Some(attempt));
    std::fs::write(test.root.join("attempts/api.test.json"), "{\"failures\":").unwrap();
    assert_eq!(test.state.attempt("api.test").await.unwrap(), None, "it cannot be read");
}

#[tokio::test]
async fn a_directory_that_cannot_be_created_is_named() {
    let test = TestState::new();
    test.directory.write("acme", "a file");
    let error = test.state.lock().await.unwrap_err().to_string();
    assert!(error.contains("/acme/accounts` cannot be created: "), "{error}");
}
