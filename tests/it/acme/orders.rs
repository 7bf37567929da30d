//! An ACME server that accepts accounts and refuses orders: how many of each it gets.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{FAILURES, State, response};
use crate::support::config::Config;
use crate::support::fixture::Fixture;
use crate::support::server::{self, Server};

/// An ACME server that answers each order with the same response.
struct RefusingAcme {
    url: String,
    paths: Arc<Mutex<Vec<String>>>,
    _server: Server,
}

impl RefusingAcme {
    async fn start(to_orders: String) -> Self {
        let (listener, addr) = server::bind().await;
        let base = format!("http://{addr}");
        let directory =
            format!(r#"{{"newNonce":"{base}/nonce","newAccount":"{base}/account","newOrder":"{base}/order"}}"#);
        let to_accounts = response("201 Created", &format!("Location: {base}/account/1\r\n{NONCE}"), "{}");
        let paths = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&paths);
        let running = Server::start(listener, move |mut connection| {
            let (seen, to_orders, to_accounts) = (Arc::clone(&seen), to_orders.clone(), to_accounts.clone());
            let directory = directory.clone();
            async move {
                let mut request = Vec::new();
                while !is_complete(&request) {
                    if connection.read_buf(&mut request).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let request = String::from_utf8_lossy(&request).into_owned();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let answer = match path.as_str() {
                    "/directory" => response("200 OK", "", &directory),
                    "/account" => to_accounts,
                    "/order" => to_orders,
                    _ => response("200 OK", NONCE, ""),
                };
                seen.lock().expect("no panic while it is locked").push(path);
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        });
        Self { url: format!("{base}/directory"), paths, _server: running }
    }

    /// How many requests there were for `path`.
    fn count(&self, path: &str) -> usize {
        self.paths.lock().expect("no panic while it is locked").iter().filter(|seen| *seen == path).count()
    }

    fn config(&self, state: &State, hosts: &[&str]) -> Config {
        Config::minimal().add("server", &format!("tls = {{ {} }}", state.table(hosts, &self.url, "")))
    }
}

const NONCE: &str = "Replay-Nonce: bm9uY2U\r\n";

/// Whether the head has come and as many bytes as it announces.
fn is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    body.len() >= length.unwrap_or(0)
}

/// The limit is that of the account: another host would only be refused as well.
#[tokio::test]
async fn a_rate_limit_ends_the_round() {
    let problem = r#"{"type":"urn:ietf:params:acme:error:rateLimited"}"#;
    let to_orders = response("429 Slow Down", &format!("Retry-After: 3600\r\n{NONCE}"), problem);
    let (state, server) = (State::new(), RefusingAcme::start(to_orders).await);
    let site = Fixture::start(server.config(&state, &["a.test", "b.test"])).await;
    site.gateway.wait_for_metric(FAILURES, 1.0).await;
    site.clock.advance(Duration::from_secs(3601));
    site.gateway.reload().await.unwrap();
    site.gateway.wait_for_metric(FAILURES, 2.0).await;
    assert_eq!(state.attempt("a.test")["failures"], 2);
    assert!(!state.path("attempts/b.test.json").exists(), "nothing was ordered for the other host");
}

/// Threat AC-6: a server that never knows the account.
#[tokio::test]
async fn an_unknown_account_is_replaced_once_for_all_hosts() {
    let problem = r#"{"type":"urn:ietf:params:acme:error:accountDoesNotExist"}"#;
    let (state, server) = (State::new(), RefusingAcme::start(response("400 Bad Request", NONCE, problem)).await);
    let site = Fixture::start(server.config(&state, &["a.test", "b.test"])).await;
    site.gateway.wait_for_metric(FAILURES, 2.0).await;
    assert_eq!((server.count("/account"), server.count("/order")), (2, 3));
    // Six hours later it may be replaced again.
    site.clock.advance(Duration::from_secs(6 * 60 * 60));
    site.gateway.reload().await.unwrap();
    site.gateway.wait_for_metric(FAILURES, 4.0).await;
    assert_eq!((server.count("/account"), server.count("/order")), (3, 6));
    assert_eq!(std::fs::read_dir(state.path("accounts")).unwrap().count(), 3, "the first two are kept aside");
}
