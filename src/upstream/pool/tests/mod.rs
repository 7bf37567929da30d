//! The pools of one worker, with servers that are only sockets.

mod early_end;
mod http1;
mod http2;
mod response_body;

use tokio::task::LocalSet;
use tokio::time::sleep;

use super::*;
use crate::upstream::balance::Balance;
use crate::upstream::tests::upstream;

#[tokio::test(start_paused = true)]
async fn the_pool_of_a_server_that_is_gone_goes_too() {
    let upstream = upstream(Balance::RoundRobin, &[1, 2, 3]);
    let servers = upstream.servers();
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            let pools = Pools::default();
            for server in servers.iter().rev() {
                let pool = pools.for_server(server, upstream.metrics());
                assert_eq!(pool.server().id(), server.id());
            }
            let ids = || pools.0.borrow().iter().map(|pool| pool.server().id()).collect::<Vec<_>>();
            assert_eq!(ids(), [servers[0].id(), servers[1].id(), servers[2].id()]);
            servers[1].retire();
            sleep(servers[1].keep_alive() * 2).await;
            assert_eq!(ids(), [servers[0].id(), servers[2].id()]);
            assert_eq!(pools.for_server(&servers[2], upstream.metrics()).server().id(), servers[2].id());
        })
        .await;
}
