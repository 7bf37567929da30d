//! Test fixtures: everything around the gateway that a test needs.
//!
//! [`fixture::Fixture`] is what most tests start from: a [`gateway::Gateway`], configured by
//! [`config::Config`], between an [`idp::Idp`] and an [`origin::Origin`]. [`token::TokenBuilder`]
//! makes tokens [`client`] sends requests and [`frames`] the frames
//! of HTTP/2. [`provider::Provider`] and [`nginx::Nginx`] run
//! third-party programs.
//!
//! No fixture sleeps or uses a fixed port. Fixtures report events, and every wait ends after
//! [`MAX_WAIT`].

#![allow(dead_code, reason = "a toolbox: not every tool is used by a test at all times")]

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::runtime::{Builder, Handle};

pub(crate) mod call;
mod canary;
pub(crate) mod certificates;
pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod config_generator;
pub(crate) mod echo;
pub(crate) mod fixture;
pub(crate) mod frames;
pub(crate) mod gateway;
pub(crate) mod idp;
pub(crate) mod load;
pub(crate) mod nginx;
pub(crate) mod origin;
pub(crate) mod process;
pub(crate) mod provider;
pub(crate) mod raw_origin;
pub(crate) mod server;
pub(crate) mod service;
pub(crate) mod temporary;
pub(crate) mod tls;
pub(crate) mod tls_origin;
pub(crate) mod token;
mod wire;

mod self_tests;

/// The longest that a test waits for any event. It is long because it only decides how late a
/// broken test fails.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);

/// The same once an event has not happened: the others need not wait as long to fail as well.
const MAX_WAIT_IF_BROKEN: Duration = Duration::from_secs(2);

/// Waits for `event`.
///
/// # Panics
///
/// If it does not happen within [`MAX_WAIT`]: a test fails rather than hangs. The wait is shorter
/// if the gateway is known to be broken.
pub(crate) async fn with_deadline<T>(what: &str, event: impl Future<Output = T>) -> T {
    let max_wait = if canary::is_broken() { MAX_WAIT_IF_BROKEN } else { MAX_WAIT };
    let Ok(value) = tokio::time::timeout(max_wait, event).await else {
        canary::report_broken();
        panic!("timeout waiting for {what}: {max_wait:?}")
    };
    value
}

/// The runtime of all fixture servers. It has a thread of its own, so that a test that blocks does
/// not starve them.
pub(crate) fn background() -> &'static Handle {
    static BACKGROUND: LazyLock<Handle> = LazyLock::new(|| {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime can be built");
        let handle = runtime.handle().clone();
        std::thread::Builder::new()
            .name("fixtures".into())
            .spawn(move || runtime.block_on(std::future::pending::<()>()))
            .expect("a thread can be started");
        handle
    });
    &BACKGROUND
}

/// An address on which no process listens. It stays reserved until the test process ends: no other
/// test gets the port by chance, and no connection to it has it as its own. A test may listen there
/// later, with a socket that may be reused, as most libraries make them.
pub(crate) fn closed_port() -> SocketAddr {
    static RESERVED: Mutex<Vec<Socket>> = Mutex::new(Vec::new());
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_reuse_address(true).expect("a socket takes options");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("there is a free port");
    let address = socket.local_addr().expect("a bound socket has an address");
    RESERVED.lock().expect("no panic").push(socket);
    address.as_socket().expect("an IP address")
}

/// Reports that a test is skipped because a tool is missing.
///
/// # Panics
///
/// If `CI` is `true`: in CI no test may be skipped.
pub(crate) fn skip(what: &str, why: &str) {
    let note = format!("SKIPPED: {what}: {why} (`make test-tools` installs it)\n");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{note}");
    // Not `eprintln!`: the test harness captures its output and drops it when the test passes.
    let _ = std::io::stderr().write_all(note.as_bytes());
}
