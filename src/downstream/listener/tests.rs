//! Binding: what is free, what is taken, and what a socket file may be replaced by.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::*;
use crate::primitives::random;

const MODE: UnixMode = UnixMode::OWNER;

fn listen(text: &str) -> Vec<ListenerSettings> {
    plain(&[ListenAddress::parse(text).unwrap()])
}

fn plain(addresses: &[ListenAddress]) -> Vec<ListenerSettings> {
    let settings =
        |address: &ListenAddress| ListenerSettings { address: address.clone(), service: ListenerService::Plain };
    addresses.iter().map(settings).collect()
}

/// A directory that is removed with its files.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("portcullis-{}", random::hex(&random::bytes::<8>())));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn socket(&self) -> (PathBuf, Vec<ListenerSettings>) {
        let path = self.0.join("socket");
        let address = ListenAddress::Unix(path.clone());
        (path, plain(&[address]))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn every_worker_gets_a_listener_on_the_same_free_port() {
    let bound = bind(&listen("127.0.0.1:0"), MODE, 3).unwrap();
    let [ListenAddress::Tcp(address)] = bound.addresses[..] else { panic!("{:?}", bound.addresses) };
    assert_ne!(address.port(), 0);
    let of_worker = |listeners: &Vec<ServiceListener>| match &listeners[..] {
        [ServiceListener { listener: BoundListener::Tcp(listener), .. }] => listener.local_addr().unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(bound.by_worker.iter().map(of_worker).collect::<Vec<_>>(), [address; 3]);
}

#[test]
fn a_port_that_is_taken_is_an_error_that_names_it() {
    let first = bind(&listen("127.0.0.1:0"), MODE, 2).unwrap();
    let error = bind(&plain(&first.addresses), MODE, 2).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", first.addresses[0])), "{error}");
}

/// Threat RL-8.
#[test]
fn a_socket_file_has_the_configured_mode_and_goes_with_its_listener() {
    let directory = Directory::new();
    let (path, address) = directory.socket();
    for wanted in ["0600", "0660", "0777"] {
        let bound = bind(&address, UnixMode::parse(wanted).unwrap(), 2).unwrap();
        assert_eq!(format!("0{:o}", mode(&path)), wanted);
        UnixStream::connect(&path).unwrap();
        assert_eq!(bound.by_worker.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0], "one for all workers");
        drop(bound);
        assert!(!path.exists());
    }
}

#[test]
fn the_socket_file_of_a_process_that_has_ended_is_replaced() {
    let directory = Directory::new();
    let (path, address) = directory.socket();
    drop(StdUnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the file stays");
    let _bound = bind(&address, MODE, 1).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn what_is_not_a_stale_socket_is_left_alone() {
    let directory = Directory::new();
    let (path, address) = directory.socket();
    let error = || bind(&address, MODE, 1).unwrap_err().to_string();
    let first = bind(&address, MODE, 1).unwrap();
    assert!(error().ends_with("another process listens on the socket"), "{}", error());
    UnixStream::connect(&path).unwrap();
    drop(first);
    fs::write(&path, "precious").unwrap();
    assert!(error().ends_with("the file exists and is not a socket"), "{}", error());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_socket_file_that_another_process_has_replaced_is_not_removed() {
    let directory = Directory::new();
    let (path, address) = directory.socket();
    let first = bind(&address, MODE, 1).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = StdUnixListener::bind(&path).unwrap();
    drop(first);
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn the_peer_of_a_unix_listener_has_no_ip_address() {
    let directory = Directory::new();
    let (path, address) = directory.socket();
    let mut bound = bind(&address, MODE, 1).unwrap();
    let listener = bound.by_worker[0].remove(0).listener.attach().unwrap();
    let _client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    assert!(matches!(socket, ClientSocket::Unix(_)));
    assert_eq!(peer, PeerAddress::UnixSocket);
}
