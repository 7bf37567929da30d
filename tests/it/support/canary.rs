//! Finds out once per process whether the gateway serves at all.
//!
//! Many tests wait for an event that only a served request causes. If the gateway refuses every
//! request, each of them would wait as long as it may. So the first gateway of the process is asked
//! for two pages; if it refuses one of them, the tests wait for a moment only, and fail soon.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::clock::Clock;
use tokio::sync::OnceCell;

use super::client;
use super::config::Config;
use super::gateway::Gateway;
use super::idp::Idp;
use super::origin::Origin;
use super::token::TokenBuilder;

/// Whether an event has not happened that should have.
static IS_BROKEN: AtomicBool = AtomicBool::new(false);

/// Whether the gateway is known to be broken.
pub(super) fn is_broken() -> bool {
    IS_BROKEN.load(Ordering::Relaxed)
}

/// Remembers that something did not happen that should have.
pub(super) fn report_broken() {
    IS_BROKEN.store(true, Ordering::Relaxed);
}

/// Asks a gateway for a public page and for one that needs a token, at the first call.
pub(super) async fn check() {
    static CHECKED: OnceCell<()> = OnceCell::const_new();
    CHECKED
        .get_or_init(|| async {
            let (idp, origin) = (Idp::start().await, Origin::start().await);
            let toml = Config::minimal().to_toml(&idp.issuer(), origin.addr());
            let gateway = Gateway::launch(&toml, Clock::system(), Duration::from_secs(3600)).await;
            let token = TokenBuilder::new(&idp.issuer()).to_bearer();
            for (target, headers) in [("/public/canary", &[][..]), ("/token/canary", &[("Authorization", &*token)])] {
                if client::get(gateway.addr(), target, headers).await.status != 200 {
                    report_broken();
                }
            }
            gateway.stop().await;
        })
        .await;
}
