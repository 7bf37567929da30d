//! Test fixtures: everything around the gateway that a test needs, real where it matters.
//!
//! A test reads: [`idp::Idp`] and [`origin::Origin`] are started, [`gateway::Gateway`] between them, [`token::TokenBuilder`]
//! makes a token, [`client`] sends bytes. [`provider::Provider`] and [`nginx::Nginx`] are programs of other people.
//!
//! Nothing here sleeps or has a fixed port: fixtures say when something happened, and every wait ends after [`MAX_WAIT`].

#![allow(dead_code, reason = "a toolbox: not every tool has a test that needs it at every time")]

use std::future::Future;
use std::io::Write as _;
use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

pub(crate) mod client;
pub(crate) mod config;
pub(crate) mod fixture;
pub(crate) mod gateway;
pub(crate) mod idp;
pub(crate) mod nginx;
pub(crate) mod origin;
pub(crate) mod provider;
pub(crate) mod raw_origin;
mod server;
pub(crate) mod temporary;
pub(crate) mod token;
mod wire;

mod self_tests;

/// How long a test waits for anything at all. Long, because it only decides how late a broken test fails.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(30);

/// Waits for `event`.
///
/// # Panics
///
/// If it does not happen within [`MAX_WAIT`]: a test fails, it never hangs.
pub(crate) async fn with_deadline<T>(what: &str, event: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(MAX_WAIT, event).await else { panic!("{what}: not within {MAX_WAIT:?}") };
    value
}

/// The runtime, on a thread of its own, that all fixtures' servers live on: a test that blocks does not starve them.
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

/// Says that a test is left out because a tool is missing. In CI nothing may be left out.
///
/// # Panics
///
/// If `CI` is `true`.
pub(crate) fn skip(what: &str, why: &str) {
    let note = format!("SKIPPED: {what}: {why} (`make test-tools` installs it)\n");
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{note}");
    // Not `eprintln!`: the harness keeps what that writes to itself when a test passes.
    let _ = std::io::stderr().write_all(note.as_bytes());
}
