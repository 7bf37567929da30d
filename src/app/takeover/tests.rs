//! Both sides of a takeover over a real socket, and what each does when the other one fails.

use std::cell::Cell;
use std::fs::Permissions;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::LocalSet;
use tokio::time::Instant;

use super::*;
use crate::downstream::listener::{BoundListener, InheritedSockets};
use crate::primitives::test_directory::TestDirectory;

/// Runs `test` as the control thread runs its tasks.
async fn locally(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

/// A number of copies of a listening socket, and its address.
fn sockets(copies: usize) -> (String, Vec<(String, OwnedFd)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let name = listener.local_addr().unwrap().to_string();
    let copy = |_| (name.clone(), listener.try_clone().unwrap().into());
    (name.clone(), (0..copies).map(copy).collect())
}

/// A predecessor that offers these sockets.
fn offer(path: &Path, sockets: Vec<(String, OwnedFd)>) -> RunningOffer {
    let listener = StdUnixListener::bind(path).unwrap();
    listener.set_nonblocking(true).unwrap();
    Offer { listener, sockets }.start()
}

/// Runs `work` on a thread that the kernel treats as another user.
#[cfg(target_os = "linux")]
fn as_another_user<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    const OTHER: u32 = 65_534;
    let thread = std::thread::spawn(move || {
        let other = Uid::from_raw(OTHER);
        rustix::thread::set_thread_res_uid(other, other, other).unwrap();
        work()
    });
    thread.join().unwrap()
}

/// The error of a successor.
async fn failure(path: &Path) -> String {
    connect(path, &mut InheritedSockets::default()).await.unwrap_err().to_string()
}

#[tokio::test]
async fn a_successor_gets_all_sockets_and_the_predecessor_learns_when_it_is_ready() {
    locally(async {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        // More than one line has room for.
        let (name, sockets) = sockets(2 * wire::MAX_DESCRIPTORS + 1);
        let mut offer = offer(&path, sockets);
        let mut inherited = InheritedSockets::default();
        assert!(!offer.is_being_taken());
        let predecessor = connect(&path, &mut inherited).await.unwrap().unwrap();
        assert_eq!(inherited.take(&name).len(), 2 * wire::MAX_DESCRIPTORS + 1);
        assert!(offer.is_being_taken());
        tokio::select! {
            biased;
            () = offer.taken() => panic!("the successor is not ready"),
            () = std::future::ready(()) => {}
        }
        predecessor.release().await.unwrap();
        offer.taken().await;
    })
    .await;
}

/// A connection that waits in the socket while the predecessor closes it is not lost.
#[tokio::test]
async fn the_sockets_are_the_same_and_keep_what_waits_in_them() {
    locally(async {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let (name, sockets) = sockets(1);
        let offer = offer(&path, sockets);
        let _waiting = TcpStream::connect(&name).unwrap();
        let mut inherited = InheritedSockets::default();
        connect(&path, &mut inherited).await.unwrap().unwrap().release().await.unwrap();
        drop(offer);
        let Some(BoundListener::Tcp(listener)) = inherited.take(&name).pop() else { panic!("a TCP socket") };
        listener.set_nonblocking(false).unwrap();
        listener.accept().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_successor_that_fails_changes_nothing() {
    locally(async {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let (name, sockets) = sockets(1);
        let mut offer = offer(&path, sockets);
        for wrong in ["", "portcullis takeover 2\n", "GET / HTTP/1.1\r\n\r\n"] {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(wrong.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut received = Vec::new();
            let _ = stream.read_to_end(&mut received).await;
            assert!(received.is_empty(), "{wrong:?}");
        }
        // Gets the sockets and ends.
        drop(connect(&path, &mut InheritedSockets::default()).await.unwrap().unwrap());
        let mut inherited = InheritedSockets::default();
        let predecessor = connect(&path, &mut inherited).await.unwrap().unwrap();
        assert_eq!(inherited.take(&name).len(), 1);
        predecessor.release().await.unwrap();
        offer.taken().await;
    })
    .await;
}

#[tokio::test]
async fn the_second_of_two_successors_waits_for_the_first() {
    locally(async {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let (name, sockets) = sockets(1);
        let mut offer = offer(&path, sockets);
        let first = connect(&path, &mut InheritedSockets::default()).await.unwrap().unwrap();
        let (mut inherited, end_of_first) = (InheritedSockets::default(), Cell::new(false));
        let second = async {
            let predecessor = connect(&path, &mut inherited).await.unwrap().unwrap();
            assert!(end_of_first.get(), "it gets the sockets once the first has failed");
            predecessor.release().await.unwrap();
        };
        let fail = async {
            // The other one is connected when it has been polled once.
            tokio::task::yield_now().await;
            end_of_first.set(true);
            drop(first);
        };
        tokio::join!(second, fail);
        assert_eq!(inherited.take(&name).len(), 1);
        offer.taken().await;
    })
    .await;
}

/// A process that is suspended for longer than the predecessor waits must not serve beside it.
#[tokio::test(start_paused = true)]
async fn a_successor_that_comes_too_late_fails() {
    locally(async {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let offer = offer(&path, sockets(1).1);
        let predecessor = connect(&path, &mut InheritedSockets::default()).await.unwrap().unwrap();
        // Advances the clock until the predecessor gives up.
        tokio::time::sleep(Duration::from_secs(61)).await;
        assert!(!offer.is_being_taken());
        let error = predecessor.release().await.unwrap_err().to_string();
        assert!(error.ends_with("it has waited too long for this process, and goes on"), "{error}");
    })
    .await;
}

/// A process that drains or has ended does not keep the successor from serving.
#[tokio::test]
async fn a_successor_serves_although_its_predecessor_has_ended() {
    locally(async {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let offer = offer(&path, sockets(1).1);
        let predecessor = connect(&path, &mut InheritedSockets::default()).await.unwrap().unwrap();
        drop(offer);
        predecessor.release().await.unwrap();
    })
    .await;
}

/// The listener serves one after the other.
#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_delays_a_successor_by_a_second() {
    locally(async {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let _offer = offer(&path, sockets(1).1);
        let _silent = UnixStream::connect(&path).await.unwrap();
        let start = Instant::now();
        connect(&path, &mut InheritedSockets::default()).await.unwrap().unwrap().release().await.unwrap();
        assert_eq!(start.elapsed(), Duration::from_secs(1));
    })
    .await;
}

/// Threat TO-1: the check that both sides use.
#[tokio::test]
async fn a_process_of_another_user_is_refused() {
    let (stream, _other) = UnixStream::pair().unwrap();
    let user = rustix::process::geteuid();
    assert!(check_user(&stream, user).is_ok());
    let other = Uid::from_raw(user.as_raw() + 1);
    assert!(matches!(check_user(&stream, other), Err(TakeoverFault::OtherUser)));
}

/// Threat TO-1: both sides, with a thread that the kernel treats as another user. Only root can
/// start one.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_thread_of_another_user_neither_gets_sockets_nor_gives_any() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    locally(async {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let (_, sockets) = sockets(1);
        let mut offer = offer(&path, sockets);
        std::fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let address = path.clone();
        let stream = as_another_user(move || StdUnixStream::connect(address).unwrap());
        stream.set_nonblocking(true).unwrap();
        let mut stream = UnixStream::from_std(stream).unwrap();
        stream.write_all(format!("{REQUEST}\n").as_bytes()).await.unwrap();
        let mut received = Vec::new();
        let _ = stream.read_to_end(&mut received).await;
        assert!(received.is_empty(), "a successor");
        // The offer stands.
        connect(&path, &mut InheritedSockets::default()).await.unwrap().unwrap().release().await.unwrap();
        offer.taken().await;

        let directory = TestDirectory::new();
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
        let path = directory.file("socket");
        let address = path.clone();
        let _listener = as_another_user(move || StdUnixListener::bind(address).unwrap());
        assert!(failure(&path).await.ends_with("it runs as another user"));
    })
    .await;
}

#[tokio::test]
async fn without_a_running_process_there_is_nothing_to_take_over() {
    let directory = TestDirectory::new();
    let path = directory.file("socket");
    let mut inherited = InheritedSockets::default();
    assert!(connect(&path, &mut inherited).await.unwrap().is_none(), "no file");
    drop(StdUnixListener::bind(&path).unwrap());
    assert!(connect(&path, &mut inherited).await.unwrap().is_none(), "the file of a process that has ended");
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_respond_in_time_is_an_error() {
    let directory = TestDirectory::new();
    let path = directory.file("socket");
    let _silent = StdUnixListener::bind(&path).unwrap();
    assert!(failure(&path).await.ends_with("it does not respond"));
}

#[tokio::test]
async fn a_process_that_speaks_another_protocol_is_an_error() {
    for (name, reply, expected) in [
        ("nothing", "", "it does not speak this protocol"),
        ("another line", "HTTP/1.1 400 Bad Request\n", "it does not speak this protocol"),
        ("a socket without its descriptor", "socket 127.0.0.1:80\n", "it does not speak this protocol"),
        ("an endless line", &"x".repeat(1000), "invalid data"),
    ] {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            wire::receive(&stream).await.unwrap();
            stream.write_all(reply.as_bytes()).await.unwrap();
        };
        let (error, ()) = tokio::join!(failure(&path), answering);
        assert!(error.ends_with(expected), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_descriptor_that_is_no_listening_socket_is_an_error() {
    let directory = TestDirectory::new();
    let path = directory.file("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let answering = async {
        let (stream, _) = listener.accept().await.unwrap();
        wire::receive(&stream).await.unwrap();
        let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        wire::send(&stream, "socket 127.0.0.1:80", &[std::os::fd::AsFd::as_fd(&datagrams)]).await.unwrap();
    };
    let (error, ()) = tokio::join!(failure(&path), answering);
    assert!(error.contains("it is not a stream socket"), "{error}");
}
