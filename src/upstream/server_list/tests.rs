//! Names whose addresses change under a list of servers.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use http::{HeaderValue, Request};
use http_body_util::BodyExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::primitives::clock::Clock;
use crate::telemetry::logging::tests::events_of;
use crate::telemetry::metrics::{Metrics, UpstreamMetrics};
use crate::upstream::balance::HashKey;
use crate::upstream::body::{RequestBody, Trailers};
use crate::upstream::exchange::ExchangeOptions;
use crate::upstream::health::{EjectSettings, HealthSettings, UpstreamHealth};
use crate::upstream::pool::Pools;
use crate::upstream::response::UpstreamBody;
use crate::upstream::tests::upstream;
use crate::upstream::{ServerAddress, Upstream};

/// A list of the name `orders.internal` between two servers with an IP address, and its lookups.
struct Fixture {
    list: ServerList,
    settings: UpstreamSettings,
    host: Host,
    results: Results,
}

impl Fixture {
    fn new(balance: Balance) -> Self {
        let (resolver, results) = scripted();
        let addresses = [ServerAddress::loopback(1), named(80), ServerAddress::loopback(2)];
        let servers = addresses.map(|address| WeightedAddress { address, weight: 1 }).to_vec();
        let template = upstream(balance, &[1]);
        let settings = UpstreamSettings { servers, ..template.settings().clone() };
        let host = resolver.host("orders.internal");
        Self { list: ServerList::new(&settings, parts(&settings, resolver), &[]), settings, host, results }
    }

    /// Has the name looked up for the first time.
    async fn resolve(&self, last_octets: &[u8]) {
        let ips = last_octets.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect();
        self.results.send(Ok(ips)).unwrap();
        self.host.addresses().await.unwrap();
    }

    /// The name has these addresses from now on.
    fn change(&self, last_octets: &[u8]) {
        let Host::Name(name) = &self.host else { panic!("a name") };
        name.complete(Ok(last_octets.iter().map(|last| IpAddr::from([192, 0, 2, *last])).collect()));
    }

    fn servers(&self) -> Vec<Arc<Server>> {
        self.list.load().all().to_vec()
    }

    fn labels(&self) -> Vec<String> {
        self.servers().iter().map(|server| server.label().to_owned()).collect()
    }
}

/// The results of lookups, from the test.
type Results = Sender<io::Result<Vec<IpAddr>>>;

fn scripted() -> (&'static Resolver, Results) {
    let (results, queue) = channel();
    let queue = Mutex::new(queue);
    let resolver = Resolver::with_lookup(Box::new(move |_| {
        queue.lock().unwrap().recv().unwrap_or_else(|_| Err(io::Error::other("the test has ended")))
    }));
    (Box::leak(Box::new(resolver)), results)
}

/// The server `orders.internal` on `port`.
fn named(port: u16) -> ServerAddress {
    let target = DialTarget::Tcp { host: "orders.internal".to_owned(), port, tls_name: None };
    ServerAddress { target, authority: HeaderValue::from_static("orders.internal") }
}

fn parts(settings: &UpstreamSettings, resolver: &'static Resolver) -> ServerParts {
    let health = UpstreamHealth::new("orders".into(), settings.health.clone(), Clock::system());
    settings.server_parts(None, &health, &metrics(), resolver)
}

fn metrics() -> UpstreamMetrics {
    Metrics::new(Clock::system()).upstream("orders")
}

#[tokio::test]
async fn each_address_of_a_name_is_a_server() {
    let fixture = Fixture::new(Balance::RoundRobin);
    let unresolved = fixture.servers();
    assert_eq!(fixture.labels(), ["127.0.0.1:1", "orders.internal", "127.0.0.1:2"]);
    assert!(!unresolved[1].has_known_address(), "one that looks the name up when it connects");
    fixture.resolve(&[8, 7]).await;
    let labels = ["127.0.0.1:1", "orders.internal (192.0.2.7)", "orders.internal (192.0.2.8)", "127.0.0.1:2"];
    assert_eq!(fixture.labels(), labels);
    let resolved = fixture.servers();
    assert!(Arc::ptr_eq(&unresolved[0], &resolved[0]), "a server with an IP address stays");
    assert!(resolved.iter().all(|server| server.has_known_address()));
    assert!(unresolved[1].is_retired() && !resolved.iter().any(|server| server.is_retired()));
    assert_eq!(resolved[1].address(), resolved[2].address(), "it has the name in `Host` and in metrics");
    assert_eq!(events_of(|| unresolved[1].retire()), "", "the name has found its addresses");
    let gone = events_of(|| resolved[1].retire());
    assert!(gone.contains(r#""message":"the server's address is gone","upstream":"orders""#), "{gone}");
}

#[tokio::test]
async fn servers_come_and_go_with_the_addresses_and_the_others_stay() {
    let fixture = Fixture::new(Balance::Hash(HashKey::Ip));
    fixture.resolve(&[7, 8]).await;
    let before = fixture.servers();
    assert!(Arc::ptr_eq(&before[1], &fixture.servers()[1]), "without a change, nothing is rebuilt");
    fixture.change(&[8, 9]);
    let after = fixture.servers();
    assert_eq!(
        after.iter().map(|server| server.label()).collect::<Vec<_>>()[1..3],
        ["orders.internal (192.0.2.8)", "orders.internal (192.0.2.9)"]
    );
    assert!(Arc::ptr_eq(&before[2], &after[1]), "with its connections and its health");
    assert!(before[1].is_retired(), "its pools may go");
    // A pick finds each of them.
    let set = fixture.list.load();
    assert_eq!(set.all().len(), 4);
}

/// Those that only finish their requests do not let more of the others be ejected.
#[tokio::test]
async fn at_most_half_of_the_servers_that_get_requests_are_ejected() {
    let fixture = Fixture::new(Balance::RoundRobin);
    fixture.list.begin_use();
    let statuses = [].into_iter().collect();
    let eject = EjectSettings { failures: 1, duration: Duration::from_secs(10), statuses };
    fixture.list.parts.health.reconfigure(HealthSettings { eject: Some(eject), ..HealthSettings::default() });
    fixture.resolve(&[6, 7, 8]).await;
    let before = fixture.servers();
    assert_eq!(before.len(), 5);
    fixture.change(&[9]);
    let after = fixture.servers();
    let ejected = after.iter().filter(|server| {
        server.health().note_failure();
        !server.is_up()
    });
    assert_eq!(ejected.count(), 1, "of three");

    // After a reload, the new list counts, whatever the old one finds.
    let mut settings = fixture.settings.clone();
    settings.servers.truncate(1);
    let parts = fixture.settings.server_parts(None, &fixture.list.parts.health, &metrics(), fixture.list.resolver());
    let next = ServerList::new(&settings, parts, &after[1..]);
    next.begin_use();
    fixture.change(&[7, 8, 9]);
    assert_eq!(fixture.servers().len(), 5);
    let only = next.load().all()[0].clone();
    only.health().note_failure();
    assert!(only.is_up(), "the only server");
}

#[tokio::test]
async fn a_reload_keeps_the_servers_of_a_name() {
    let fixture = Fixture::new(Balance::RoundRobin);
    fixture.resolve(&[7, 8]).await;
    let before = fixture.servers();
    let resolver = fixture.list.resolver();
    let mut settings = fixture.settings.clone();
    settings.servers.remove(0);
    let next = ServerList::new(&settings, parts(&settings, resolver), &before);
    let after = next.load().all().to_vec();
    assert_eq!(after.len(), 3);
    assert!(after.iter().zip(&before[1..]).all(|(after, before)| Arc::ptr_eq(after, before)));
    // Another weight is another share, so the servers are other ones.
    settings.servers[0].weight = 2;
    let heavier = ServerList::new(&settings, parts(&settings, resolver), &before);
    assert!(!Arc::ptr_eq(&heavier.load().all()[0], &before[1]));
}

/// Serves `listener`: sends the address of each request to `requests`, and answers as soon as the
/// test says so.
async fn serve(listener: TcpListener, requests: mpsc::UnboundedSender<(IpAddr, mpsc::UnboundedSender<()>)>) {
    while let Ok((stream, _)) = listener.accept().await {
        let requests = requests.clone();
        spawn_local(serve_connection(stream, requests));
    }
}

async fn serve_connection(mut stream: TcpStream, requests: mpsc::UnboundedSender<(IpAddr, mpsc::UnboundedSender<()>)>) {
    let mut buffer = [0; 1024];
    let address = stream.local_addr().unwrap().ip();
    while let Ok(1..) = stream.read(&mut buffer).await {
        let (answer, mut answered) = mpsc::unbounded_channel();
        requests.send((address, answer)).unwrap();
        answered.recv().await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
    }
}

/// Sends a request and returns the status of its response.
async fn get(upstream: &Upstream, pools: &Pools) -> u16 {
    let mut request = Request::new(RequestBody::empty());
    request.headers_mut().insert(http::header::HOST, HeaderValue::from_static("orders.internal"));
    let options = ExchangeOptions {
        deadline: None,
        body_idle_timeout: upstream.settings().response_timeout,
        trailers: Trailers::Drop,
        affinity: None,
    };
    let response = upstream.send(pools, request, options).await.unwrap();
    let UpstreamBody::Stream(body) = response.body else { panic!("no tunnel") };
    body.collect().await.unwrap();
    response.head.status.as_u16()
}

/// The whole way: requests are spread over the addresses, and go on while one of them disappears.
#[tokio::test]
async fn requests_follow_the_addresses_of_a_name() {
    let ips = [IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2])];
    let first = TcpListener::bind((ips[0], 0)).await.unwrap();
    let port = first.local_addr().unwrap().port();
    // Only Linux has all of 127.0.0.0/8 on its loopback.
    let Ok(second) = TcpListener::bind(SocketAddr::new(ips[1], port)).await else { return };
    let (resolver, results) = scripted();
    let servers = vec![WeightedAddress { address: named(port), weight: 1 }];
    let template = upstream(Balance::RoundRobin, &[1]);
    let settings = UpstreamSettings { servers, ..template.settings().clone() };
    let upstream = Upstream::with_resolver(settings, None, template.metrics().clone(), Clock::system(), resolver);
    let (sender, mut requests) = mpsc::unbounded_channel();
    let tasks = LocalSet::new();
    tasks
        .run_until(async {
            for listener in [first, second] {
                spawn_local(serve(listener, sender.clone()));
            }
            let pools = Pools::default();
            results.send(Ok(ips.to_vec())).unwrap();
            let mut seen = Vec::new();
            for _ in 0..5 {
                let answer = async {
                    let (address, answer) = requests.recv().await.unwrap();
                    answer.send(()).unwrap();
                    address
                };
                let (status, address) = tokio::join!(get(&upstream, &pools), answer);
                assert_eq!(status, 200);
                seen.push(address);
            }
            // The first one has found the addresses; the others took turns.
            assert_eq!(seen[1..].iter().filter(|address| **address == ips[0]).count(), 2, "{seen:?}");
            let in_flight = async {
                let one = requests.recv().await.unwrap();
                let other = requests.recv().await.unwrap();
                assert_ne!(one.0, other.0);
                let Host::Name(name) = resolver.host("orders.internal") else { panic!("a name") };
                name.complete(Ok(vec![ips[1]]));
                for _ in 0..3 {
                    let answer = async {
                        let (address, answer) = requests.recv().await.unwrap();
                        answer.send(()).unwrap();
                        address
                    };
                    let (status, address) = tokio::join!(get(&upstream, &pools), answer);
                    assert_eq!((status, address), (200, ips[1]), "new requests go to what is left");
                }
                // Those that were in flight are finished.
                one.1.send(()).unwrap();
                other.1.send(()).unwrap();
            };
            let statuses = tokio::join!(get(&upstream, &pools), get(&upstream, &pools), in_flight);
            assert_eq!((statuses.0, statuses.1), (200, 200));
            assert_eq!(upstream.servers().len(), 1);
        })
        .await;
}
