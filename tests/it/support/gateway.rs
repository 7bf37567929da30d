//! The gateway itself, started in this process from the `gateway.toml` that a test writes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis::app::{self, ConfigSource, Options, RunningGateway, ServiceManager, StartError};
use portcullis::clock::Clock;
use portcullis::internals::InheritedSockets;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::temporary::TempDir;
use super::{canary, client, with_deadline};

/// A running gateway. Dropping it stops it and removes its file.
#[derive(Debug)]
pub(crate) struct Gateway {
    running: Option<RunningGateway>,
    access: watch::Receiver<Vec<u8>>,
    directory: TempDir,
}

/// The interval of checks for a changed file. Longer than any test, unless the test is about these
/// checks.
const NEVER: Duration = Duration::from_secs(3600);

impl Gateway {
    /// # Panics
    ///
    /// If the gateway does not start; the panic says why.
    pub(crate) async fn start(toml: &str, clock: Clock) -> Self {
        Self::start_watching(toml, clock, NEVER).await
    }

    /// Like [`start`](Self::start), and checks the file for changes at this interval.
    pub(crate) async fn start_watching(toml: &str, clock: Clock, interval: Duration) -> Self {
        canary::check().await;
        Self::launch(toml, clock, interval).await
    }

    /// Like [`start_watching`](Self::start_watching), without the check that gateways serve.
    pub(super) async fn launch(toml: &str, clock: Clock, interval: Duration) -> Self {
        let directory = TempDir::new();
        let config = directory.write("gateway.toml", toml);
        let (lines, access) = watch::channel(Vec::new());
        let options = Options {
            source: ConfigSource::File(config),
            environment: Arc::new(|_: &str| None),
            clock,
            access_sink: Some(Box::new(AccessLogWriter(lines))),
            inherited: InheritedSockets::default(),
            service_manager: ServiceManager::default(),
            config_poll_interval: interval,
            config_settle_time: Duration::ZERO,
        };
        // Starting may wait for threads; the test's own runtime keeps running meanwhile.
        let starting = tokio::task::spawn_blocking(move || app::start(options));
        let running = with_deadline("the gateway's start", starting).await.expect("starting does not panic");
        let running = running.unwrap_or_else(|error| panic!("the gateway does not start: {error}\n{toml}"));
        Self { running: Some(running), access, directory }
    }

    fn running(&self) -> &RunningGateway {
        self.running.as_ref().expect("set until stop or drop")
    }

    /// The addresses of all data listeners: those of `listen`, `plain_listen` and
    /// `redirect_listen`.
    pub(crate) fn addrs(&self) -> Vec<SocketAddr> {
        self.running().data_addresses()
    }

    /// The address of the first data listener.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.running().data_addresses()[0]
    }

    /// The admin listener's address.
    pub(crate) fn admin(&self) -> SocketAddr {
        self.running().admin_address().expect("the configuration has an admin listener")
    }

    /// Replaces the configuration file and does not tell the gateway.
    pub(crate) fn rewrite(&self, toml: &str) {
        self.directory.write("gateway.toml", toml);
    }

    /// Reads the file again, as on SIGHUP.
    #[expect(clippy::unused_async, reason = "leaves room for a reload that waits")]
    pub(crate) async fn reload(&self) -> Result<(), Arc<StartError>> {
        self.running().reload()
    }

    /// Starts to drain, as on SIGTERM.
    pub(crate) fn drain(&self) {
        self.running().drain();
    }

    /// Stops now and waits until all threads have ended.
    pub(crate) async fn stop(mut self) {
        if let Some(running) = self.running.take() {
            with_deadline("the gateway's end", tokio::task::spawn_blocking(|| running.stop()))
                .await
                .expect("no panic at the end");
        }
    }

    /// Waits until the gateway has ended by itself, after [`drain`](Self::drain).
    pub(crate) async fn wait_for_end(&self) {
        with_deadline("the gateway's end", self.running().stopped()).await;
    }

    /// The number of connections that each worker serves.
    pub(crate) fn connections_by_worker(&self) -> Vec<usize> {
        self.running().connections_by_worker()
    }

    /// Waits until exactly `wanted` connections are open.
    pub(crate) async fn wait_for_connections(&self, wanted: usize) {
        let open = || self.connections_by_worker().iter().sum::<usize>();
        with_deadline("connections to close", async {
            while open() != wanted {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits until the data listener refuses connections, as it does while the gateway drains.
    pub(crate) async fn wait_for_closed_listeners(&self) {
        with_deadline("closed listeners", async { while TcpStream::connect(self.addr()).await.is_ok() {} }).await;
    }

    /// All samples of `/metrics`.
    pub(crate) async fn metrics(&self) -> Samples {
        let response = client::get(self.admin(), "/metrics", &[]).await;
        assert_eq!(response.status, 200, "{}", response.text());
        Samples::parse(&response.text())
    }

    /// One sample, as `name` or `name{label="value"}` with the labels in any order.
    pub(crate) async fn metric(&self, sample: &str) -> f64 {
        self.metrics().await.value(sample)
    }

    /// One sample, as a whole number.
    pub(crate) async fn count(&self, sample: &str) -> u64 {
        self.metrics().await.count(sample)
    }

    /// Waits until a sample is at least `least`. The gateway may count after it has sent the
    /// response.
    pub(crate) async fn wait_for_metric(&self, sample: &str, least: f64) {
        with_deadline(sample, async { while self.metric(sample).await < least {} }).await;
    }

    /// The access log so far.
    pub(crate) fn access_lines(&self) -> Vec<Value> {
        json_lines(&self.access.borrow())
    }

    /// Waits until the access log has `n` lines, and returns all.
    pub(crate) async fn wait_for_access_lines(&self, n: usize) -> Vec<Value> {
        let mut access = self.access.clone();
        let enough = access.wait_for(|bytes| json_lines(bytes).len() >= n);
        json_lines(
            &with_deadline("enough lines in the access log", enough).await.expect("the gateway keeps its access log"),
        )
    }

    /// Waits for the access log line of the request that got this response, found by the request
    /// id.
    pub(crate) async fn access_line_of(&self, response: &client::Response) -> Value {
        let id = response.header("x-request-id").expect("every response has a request id");
        let find = |bytes: &[u8]| json_lines(bytes).into_iter().rev().find(|line| line["request_id"] == id);
        let mut access = self.access.clone();
        let found = access.wait_for(|bytes| find(bytes).is_some());
        let bytes = with_deadline("the request's line in the access log", found)
            .await
            .expect("the gateway keeps its access log");
        find(&bytes).expect("it was found a moment ago")
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop();
        }
    }
}

fn json_lines(bytes: &[u8]) -> Vec<Value> {
    // An unfinished last line is ignored.
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let lines = bytes[..end].split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).expect("each line of the access log is JSON")).collect()
}

/// Collects the access log that the gateway writes.
struct AccessLogWriter(watch::Sender<Vec<u8>>);

impl Write for AccessLogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send_modify(|all| all.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The samples of one scrape.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    text: String,
    values: BTreeMap<(String, Vec<String>), f64>,
}

impl Samples {
    /// # Panics
    ///
    /// If a line is neither a comment nor a sample.
    pub(crate) fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let values = samples.map(|line| {
            let (sample, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("not a sample: {line:?}"));
            (split(sample), value.parse().unwrap_or_else(|_| panic!("not a value: {line:?}")))
        });
        Self { text: text.to_owned(), values: values.collect() }
    }

    pub(crate) fn get(&self, sample: &str) -> Option<f64> {
        self.values.get(&split(sample)).copied()
    }

    /// Like [`get`](Self::get); 0 for labels that have not been counted yet.
    ///
    /// # Panics
    ///
    /// If no metric has that name: a misspelt name would always be 0.
    pub(crate) fn value(&self, sample: &str) -> f64 {
        let name = split(sample).0;
        let family = ["_total", "_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end));
        let known = [Some(name.as_str()), family].into_iter().flatten().any(|name| {
            self.text.contains(&format!("# TYPE {name} ")) || self.values.keys().any(|(given, _)| given == name)
        });
        assert!(known, "no metric {name} in:\n{}", self.text);
        self.get(sample).unwrap_or(0.0)
    }

    /// Like [`value`](Self::value), as a whole number.
    ///
    /// # Panics
    ///
    /// If the value is not a whole number.
    pub(crate) fn count(&self, sample: &str) -> u64 {
        let value = self.value(sample);
        value.to_string().parse().unwrap_or_else(|_| panic!("{sample} is not a count: {value}"))
    }

    /// The text as it was scraped.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// The name and the sorted labels. The values of the gateway's labels contain no comma.
fn split(sample: &str) -> (String, Vec<String>) {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
    let mut labels: Vec<_> =
        labels.trim_end_matches('}').split(',').filter(|l| !l.is_empty()).map(str::to_owned).collect();
    labels.sort();
    (name.to_owned(), labels)
}
