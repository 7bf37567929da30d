//! Reload: all or nothing, while requests go on.

use std::time::Duration;

use crate::support::client;
use crate::support::gateway::{Gateway, Surroundings};
use crate::support::idp::Idp;
use crate::support::origin::Origin;
use crate::support::site::Site;

const EXTRA: &str = "[[routes]]\nname = \"extra\"\npath = \"/extra\"\naccess = \"public\"\nupstream = \"main\"\n";

#[tokio::test]
async fn a_good_file_takes_effect_at_once_and_is_counted() {
    let site = Site::start("").await;
    assert_eq!(site.get("/extra", &[]).await.status, 404);
    site.reload(EXTRA).await;
    assert_eq!(site.get("/extra", &[]).await.status, 200);
    assert_eq!(site.gateway.count("portcullis_config_reloads_total{result=\"success\"}").await, 1);
}

#[tokio::test]
async fn a_bad_file_is_kept_out_reported_and_counted() {
    let site = Site::start(EXTRA).await;
    for (name, toml, told) in [
        ("no TOML", "[server".to_owned(), "line 1"),
        ("an unknown key", site.toml("[servr]\n"), "unknown key `servr`"),
        ("a dangling name", site.toml(&EXTRA.replace("\"main\"", "\"man\"")), "did you mean `main`?"),
        (
            "a key file that is not there",
            site.toml("[issuers.b]\nissuer = \"b\"\naudiences = [\"b\"]\njwks_file = \"/none\"\n"),
            "/none",
        ),
    ] {
        site.gateway.rewrite(&toml);
        let error = site.gateway.reload().await.expect_err(name).to_string();
        assert!(error.contains(told), "{name}: {error}");
        assert_eq!(site.get("/extra", &[]).await.status, 200, "{name}: the old configuration serves");
    }
    assert_eq!(site.gateway.count("portcullis_config_reloads_total{result=\"failure\"}").await, 4);
}

#[tokio::test]
async fn what_needs_a_restart_is_refused_by_name() {
    let site = Site::start("").await;
    for (from, to, named) in [
        ("listen = \"127.0.0.1:0\"\nworkers", "listen = \"127.0.0.2:0\"\nworkers", "server.listen"),
        ("workers = 2", "workers = 3", "server.workers"),
        ("[admin]\nlisten = \"127.0.0.1:0\"", "[admin]\nlisten = \"off\"", "admin.listen"),
    ] {
        let changed = site.toml(EXTRA).replace(from, to);
        assert_ne!(changed, site.toml(EXTRA), "{named}");
        site.gateway.rewrite(&changed);
        let error = site.gateway.reload().await.expect_err(named).to_string();
        assert!(error.starts_with(named), "{error}");
        assert_eq!(site.get("/extra", &[]).await.status, 404, "{named}: nothing of the file counts");
    }
}

#[tokio::test]
async fn a_changed_file_is_noticed_without_a_signal() {
    let (idp, origin) = (Idp::start().await, Origin::start().await);
    let toml = crate::support::gateway::minimal(&idp.issuer(), origin.addr());
    let surroundings = Surroundings { config_poll_interval: Duration::from_millis(10), ..Surroundings::default() };
    let gateway = Gateway::start_in(&toml, surroundings).await;
    gateway.rewrite(&format!("{toml}{EXTRA}"));
    gateway.wait_for_metric("portcullis_config_reloads_total{result=\"success\"}", 1.0).await;
    assert_eq!(client::get(gateway.addr(), "/extra", &[]).await.status, 200);
    // A file that is wrong is tried once, not at every look.
    gateway.rewrite("nonsense");
    gateway.wait_for_metric("portcullis_config_reloads_total{result=\"failure\"}", 1.0).await;
    gateway.rewrite(&toml);
    gateway.wait_for_metric("portcullis_config_reloads_total{result=\"success\"}", 2.0).await;
    assert_eq!(gateway.count("portcullis_config_reloads_total{result=\"failure\"}").await, 1);
}

#[tokio::test]
async fn a_request_under_way_keeps_the_configuration_it_began_with() {
    let site = Site::start(EXTRA).await;
    let chunks = site.origin.stream("/extra");
    let mut connection = client::Conn::open(site.gateway.addr()).await;
    connection.send("GET /extra HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    chunks.send("before ");
    assert_eq!(connection.read_head().await.status, 200);
    site.reload("").await;
    assert_eq!(site.get("/extra", &[]).await.status, 404, "a new request");
    chunks.send("after");
    chunks.finish();
    assert!(connection.read_until("after").await.contains("before"));
}

#[tokio::test]
async fn an_unchanged_limit_keeps_its_count() {
    let limited = "[limits.two]\nkey = \"ip\"\nrate = \"1/h\"\nburst = 2\n[[routes]]\nname = \"l\"\npath = \"/l\"\naccess = \"public\"\nlimits = [\"two\"]\nupstream = \"main\"\n";
    let site = Site::start(limited).await;
    assert_eq!(site.get("/l", &[]).await.status, 200);
    assert_eq!(site.get("/l", &[]).await.status, 200);
    site.reload(&format!("{limited}{EXTRA}")).await;
    assert_eq!(site.get("/l", &[]).await.status, 429, "still used up");
    site.reload(&limited.replace("burst = 2", "burst = 3")).await;
    assert_eq!(site.get("/l", &[]).await.status, 200, "another limit begins anew");
}

#[tokio::test]
async fn keys_survive_a_reload() {
    let site = Site::start("").await;
    assert_eq!(site.get("/token/a", &[("authorization", &site.bearer("alice"))]).await.status, 200);
    let before = site.idp.fetches();
    site.reload(EXTRA).await;
    site.reload("[identity.headers]\nX-User = \"subject\"\n").await;
    let answer = site.get("/token/a", &[("authorization", &site.bearer("alice"))]).await;
    assert_eq!(answer.status, 200);
    assert_eq!(site.idp.fetches(), before, "nothing is fetched for a reload");
    let seen = site.origin.requests().pop().expect("the request");
    assert_eq!((seen.header("x-user"), seen.header("x-identity-subject")), (Some("alice"), None));
}
