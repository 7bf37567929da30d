//! Binding: free addresses, addresses in use, and which files a Unix listener replaces.

use std::fs;
use std::net::{TcpListener as StdTcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::*;
use crate::primitives::test_directory::TestDirectory;

const MODE: UnixMode = UnixMode::OWNER;

fn listen(text: &str) -> Vec<ListenerSettings> {
    plain(&[ListenAddress::parse(text).unwrap()])
}

fn plain(addresses: &[ListenAddress]) -> Vec<ListenerSettings> {
    let settings =
        |address: &ListenAddress| ListenerSettings { address: address.clone(), service: ListenerService::Plain };
    addresses.iter().map(settings).collect()
}

/// The path of a socket in the directory, and the settings of a listener on it.
fn socket(directory: &TestDirectory) -> (PathBuf, Vec<ListenerSettings>) {
    let path = directory.file("socket");
    let address = ListenAddress::Unix(path.clone());
    (path, plain(&[address]))
}

fn options(unix_mode: UnixMode, workers: usize) -> BindOptions {
    BindOptions { unix_mode, workers, copies: Copies::NotKept }
}

fn nothing() -> InheritedSockets {
    InheritedSockets::default()
}

/// A TCP socket of another process for this address.
fn inherited(address: &str, port: &StdTcpListener) -> InheritedSockets {
    let mut sockets = nothing();
    sockets.add(address.to_owned(), port.try_clone().unwrap().into()).unwrap();
    sockets
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn every_worker_gets_a_listener_on_the_same_free_port() {
    let bound = bind(&listen("127.0.0.1:0"), options(MODE, 3), &mut nothing()).unwrap();
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
    let first = bind(&listen("127.0.0.1:0"), options(MODE, 2), &mut nothing()).unwrap();
    let error = bind(&plain(&first.addresses), options(MODE, 2), &mut nothing()).unwrap_err();
    assert!(error.to_string().starts_with(&format!("cannot listen on {}: ", first.addresses[0])), "{error}");
}

/// Threat RL-8.
#[test]
fn a_socket_file_has_the_configured_mode_and_goes_with_its_listener() {
    let directory = TestDirectory::new();
    let (path, address) = socket(&directory);
    for wanted in ["0600", "0660", "0777"] {
        let bound = bind(&address, options(UnixMode::parse(wanted).unwrap(), 2), &mut nothing()).unwrap();
        assert_eq!(format!("0{:o}", mode(&path)), wanted);
        UnixStream::connect(&path).unwrap();
        assert_eq!(bound.by_worker.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0], "one for all workers");
        drop(bound);
        assert!(!path.exists());
    }
}

#[test]
fn the_socket_file_of_a_process_that_has_ended_is_replaced() {
    let directory = TestDirectory::new();
    let (path, address) = socket(&directory);
    drop(StdUnixListener::bind(&path).unwrap());
    assert!(path.exists(), "the file stays");
    let _bound = bind(&address, options(MODE, 1), &mut nothing()).unwrap();
    UnixStream::connect(&path).unwrap();
}

#[test]
fn what_is_not_a_stale_socket_is_left_alone() {
    let directory = TestDirectory::new();
    let (path, address) = socket(&directory);
    let error = || bind(&address, options(MODE, 1), &mut nothing()).unwrap_err().to_string();
    let first = bind(&address, options(MODE, 1), &mut nothing()).unwrap();
    assert!(error().ends_with("another process listens on the socket"), "{}", error());
    UnixStream::connect(&path).unwrap();
    drop(first);
    fs::write(&path, "precious").unwrap();
    assert!(error().ends_with("the file exists and is not a socket"), "{}", error());
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn a_socket_file_that_another_process_has_replaced_is_not_removed() {
    let directory = TestDirectory::new();
    let (path, address) = socket(&directory);
    let first = bind(&address, options(MODE, 1), &mut nothing()).unwrap();
    fs::remove_file(&path).unwrap();
    let _other = StdUnixListener::bind(&path).unwrap();
    drop(first);
    UnixStream::connect(&path).unwrap();
}

#[tokio::test]
async fn the_peer_of_a_unix_listener_has_no_ip_address() {
    let directory = TestDirectory::new();
    let (path, address) = socket(&directory);
    let mut bound = bind(&address, options(MODE, 1), &mut nothing()).unwrap();
    let listener = bound.by_worker[0].remove(0).listener.attach().unwrap();
    let _client = tokio::net::UnixStream::connect(&path).await.unwrap();
    let (socket, peer) = listener.accept().await.unwrap();
    assert!(matches!(socket, ClientSocket::Unix(_)));
    assert_eq!(peer, PeerAddress::UnixSocket);
}

#[test]
fn a_socket_that_was_handed_over_takes_the_place_of_its_address() {
    let port = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let local = port.local_addr().unwrap();
    for address in ["systemd:http", &local.to_string()] {
        let mut sockets = inherited(address, &port);
        let bound = bind(&listen(address), options(MODE, 2), &mut sockets).unwrap();
        assert_eq!(bound.addresses, [ListenAddress::Tcp(local)]);
        assert_eq!(bound.by_worker.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(sockets.unused().count(), 0);
    }
}

/// Even with more sockets than workers, connections are accepted from all of them.
#[test]
fn all_sockets_of_one_address_are_accepted_from() {
    let port = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let mut sockets = nothing();
    for _ in 0..5 {
        sockets.add("systemd:http".to_owned(), port.try_clone().unwrap().into()).unwrap();
    }
    let bound = bind(&listen("systemd:http"), options(MODE, 2), &mut sockets).unwrap();
    assert_eq!(bound.by_worker.iter().map(Vec::len).collect::<Vec<_>>(), [3, 2]);
}

#[test]
fn a_socket_that_was_not_handed_over_is_an_error_and_one_too_many_is_not_used() {
    let port = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let mut sockets = inherited("systemd:other", &port);
    let error = bind(&listen("systemd:http"), options(MODE, 1), &mut sockets).unwrap_err().to_string();
    assert!(error.starts_with("cannot listen on systemd:http: systemd has handed over no socket"), "{error}");
    bind(&listen("127.0.0.1:0"), options(MODE, 1), &mut sockets).unwrap();
    assert_eq!(sockets.unused().collect::<Vec<_>>(), ["systemd:other"]);
}

#[test]
fn only_a_listening_stream_socket_can_be_handed_over() {
    let listener = StdTcpListener::bind("127.0.0.1:0").unwrap();
    let connected = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let pipe = std::io::pipe().unwrap().0;
    for (name, descriptor, expected) in [
        ("a connection", connected.into(), Some("it does not listen")),
        ("datagrams", datagrams.into(), Some("it is not a stream socket")),
        ("no socket", pipe.into(), Some("")),
        ("a listener", listener.into(), None),
    ] {
        let added = nothing().add("systemd:http".to_owned(), descriptor).map_err(|error| error.to_string());
        match (added, expected) {
            (Ok(()), None) => {}
            (Err(error), Some(expected)) => assert!(error.starts_with(expected), "{name}: {error}"),
            (outcome, _) => panic!("{name}: {outcome:?}"),
        }
    }
}

#[test]
fn copies_keep_the_name_of_their_address_and_the_socket_open() {
    let with_copies = BindOptions { copies: Copies::Kept, ..options(MODE, 2) };
    let bound = bind(&listen("127.0.0.1:0"), with_copies, &mut nothing()).unwrap();
    let BoundListeners { by_worker, addresses, copies, .. } = bound;
    assert_eq!(copies.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["127.0.0.1:0"; 2]);
    drop(by_worker);
    TcpStream::connect(addresses[0].to_string()).unwrap();
    drop(copies);
    TcpStream::connect(addresses[0].to_string()).unwrap_err();
    assert!(bind(&listen("127.0.0.1:0"), options(MODE, 2), &mut nothing()).unwrap().copies.is_empty());
}

#[test]
fn the_file_of_a_socket_that_another_process_has_taken_over_stays() {
    let directory = TestDirectory::new();
    let (path, address) = socket(&directory);
    let mut bound = bind(&address, options(MODE, 1), &mut nothing()).unwrap();
    bound.files.pop().unwrap().leave();
    drop(bound);
    assert!(path.exists());
}
