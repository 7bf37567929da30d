//! The life of the process: build, bind, serve, reload, drain. The only place that starts threads and long-lived tasks.
//!
//! - **Worker threads** accept and answer. Each has its own single-threaded runtime and shares with the others only what is read-only or
//!   atomic.
//! - The **control thread** ([`control`]) refreshes keys, reloads, drains: all that may take its time.
//! - The **admin thread** answers operators also while the workers are saturated.

mod control;
mod readiness;
mod source;

pub use source::{ConfigSource, Environment};

use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::runtime::LocalOptions;
use tokio::sync::{Semaphore, mpsc};

use crate::config::problem::Problems;
use crate::downstream::balancer::{self, Balancer};
use crate::downstream::listener::{self, BindError};
use crate::downstream::{self, Downstream};
use crate::gateway::{Gateway, Runtime, Worker};
use crate::plan::adopt::{AdoptError, Adopter};
use crate::plan::{LogPlan, Plan};
use crate::primitives::clock::Clock;
use crate::primitives::shutdown::{self, Phase, Shutdown, Trigger};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{AccessLog, logging};
use control::{Command, Control};
use readiness::Ready;

/// How often the configuration file is looked at for a change. A content hash works everywhere, also where Kubernetes exchanges a symbolic link.
const CONFIG_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// What a gateway is started with.
pub struct Options {
    /// Where the configuration comes from.
    pub source: ConfigSource,
    /// Values for `${NAME}`.
    pub environment: Environment,
    /// The time.
    pub clock: Clock,
    /// Where the access log goes, unless `[log]` turns it off; `None`: nowhere.
    pub access_sink: Option<Box<dyn Write + Send>>,
    /// How often a configuration file is looked at for a change.
    pub config_poll_interval: Duration,
}

impl Options {
    /// A gateway of the file `config`, with the process's own environment and clock.
    #[must_use]
    pub fn new(config: PathBuf) -> Self {
        Self {
            source: ConfigSource::File(config),
            environment: Arc::new(|name| std::env::var(name).ok()),
            clock: Clock::system(),
            access_sink: None,
            config_poll_interval: CONFIG_POLL_INTERVAL,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Why a gateway does not start, or a new configuration is kept out.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file that an issuer needs cannot be used.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The process is ending.
    #[error("the gateway is stopping")]
    Stopping,
    /// What only a restart can change.
    #[error("{0} changed: this takes a restart; the previous configuration keeps serving")]
    NeedsRestart(&'static str),
    /// The configuration is wrong.
    #[error("{0}")]
    Problems(Problems),
    /// The operating system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

/// A gateway that serves. Dropping it does not stop it; [`RunningGateway::stop`] does.
#[derive(Debug)]
pub struct RunningGateway {
    data: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    commands: mpsc::UnboundedSender<Command>,
    trigger: Arc<Trigger>,
    threads: Vec<JoinHandle<()>>,
    access_log: AccessLog,
    metrics: Arc<Metrics>,
    balancer: Option<Balancer>,
}

/// Reads the configuration, binds all addresses and starts serving.
///
/// An identity provider that cannot be reached does not keep the gateway from starting: its routes answer 503 until its keys are there.
///
/// # Errors
///
/// [`StartError`]; nothing is left running.
pub fn start(options: Options) -> Result<RunningGateway, StartError> {
    let metrics = Metrics::new(options.clock.clone());
    let loaded = source::load(&options.source, &options.environment)?;
    let plan = loaded.plan;
    apply_log_level(plan.log);
    let access_log = match options.access_sink {
        Some(sink) => {
            let (log, writer) = AccessLog::new(plan.log.format, sink, &metrics);
            thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || writer.run())
                .map_err(StartError::Thread)?;
            log
        }
        None => AccessLog::off(),
    };
    let mut adopter = Adopter::new(Arc::clone(&metrics), options.clock.clone(), access_log.clone());
    let runtime = Arc::new(ArcSwap::from(adopter.adopt(&plan, None)?));
    let workers = plan.server.workers.count();
    let listeners = listener::bind(&plan.server.listen, workers)?;
    let data = addresses(&listeners);
    let admin = bind_admin(&plan)?;
    let admin_address = admin.as_ref().and_then(|listener| listener.local_addr().ok());

    let (trigger, shutdown) = shutdown::channel();
    let trigger = Arc::new(trigger);
    let ready = Arc::new(Ready::new(Arc::clone(&runtime)));
    publish_at_scrape(&metrics, &runtime);
    let slots = Arc::new(Semaphore::new(plan.server.max_connections));
    let handles = balancer::handles(workers);
    let balancer = handles.first().map(|handle| handle.balancer().clone());
    metrics.set_config_loaded(options.clock.now());

    let mut threads = Threads { trigger: Arc::clone(&trigger), handles: Vec::new() };
    let (commands, inbox) = mpsc::unbounded_channel();
    for (number, (listeners, handle)) in listeners.into_iter().zip(handles).enumerate() {
        let (runtime, shutdown) = (Arc::clone(&runtime), shutdown.clone());
        let downstream = Downstream { slots: Arc::clone(&slots), open: metrics.connections_open().clone(), handle };
        threads.start(format!("worker-{number}"), move || work(listeners, runtime, downstream, shutdown))?;
    }
    let control = Control {
        source: options.source,
        environment: options.environment,
        look_every: options.config_poll_interval,
        text_hash: loaded.text_hash,
        plan,
        adopter,
        runtime,
        metrics: Arc::clone(&metrics),
        clock: options.clock,
        slots,
        trigger: Arc::clone(&trigger),
        ready: Arc::clone(&ready),
    };
    let for_control = shutdown.clone();
    threads.start("control".to_owned(), move || control.run(inbox, for_control))?;
    if let Some(listener) = admin {
        let metrics = Arc::clone(&metrics);
        threads.start("admin".to_owned(), move || {
            block_on_local(async move {
                if let Err(error) = crate::admin::serve(listener, ready, metrics, shutdown).await {
                    tracing::error!(%error, "the admin listener ended");
                }
            });
        })?;
    }
    let threads = std::mem::take(&mut threads.handles);
    Ok(RunningGateway { data, admin: admin_address, commands, trigger, threads, access_log, metrics, balancer })
}

impl RunningGateway {
    /// Where requests are taken, in the order of the configuration.
    #[must_use]
    pub fn data_addresses(&self) -> Vec<SocketAddr> {
        self.data.clone()
    }

    /// Where operators ask, unless that is off.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// How many connections each worker has.
    #[must_use]
    pub fn connections_by_worker(&self) -> Vec<usize> {
        self.balancer.as_ref().map(Balancer::open).unwrap_or_default()
    }

    /// Its metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Reads the configuration again and serves by it, or keeps the old one and says why. Waits for the outcome.
    ///
    /// # Errors
    ///
    /// [`StartError`]; the previous configuration keeps serving.
    pub fn reload(&self) -> Result<(), StartError> {
        let (reply, outcome) = blocking::sync_channel(1);
        self.commands.send(Command::Reload(reply)).map_err(|_| StartError::Stopping)?;
        outcome.recv().unwrap_or(Err(StartError::Stopping))
    }

    /// Begins to drain: not ready, `drain_delay`, no new connections, `drain_timeout`, stop. Returns at once.
    pub fn drain(&self) {
        // The control thread is gone only when all is over already.
        let _ = self.commands.send(Command::Drain);
    }

    /// Resolves when the gateway has ended by itself, after [`RunningGateway::drain`].
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut shutdown = self.trigger.listen();
        async move { shutdown.reached(Phase::Stopped).await }
    }

    /// Waits for the end of all threads, after [`RunningGateway::stopped`].
    pub fn wait(mut self) {
        self.join();
    }

    /// Stops now; waits for the end of all threads.
    pub fn stop(mut self) {
        self.trigger.advance(Phase::Stopped);
        self.join();
    }

    fn join(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic has been printed by the thread itself.
            let _ = thread.join();
        }
        self.access_log.flush();
    }
}

/// Threads that have been started; stopped again if the start as a whole fails.
struct Threads {
    trigger: Arc<Trigger>,
    handles: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(&mut self, name: String, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let handle = thread::Builder::new().name(name).spawn(work).map_err(StartError::Thread)?;
        self.handles.push(handle);
        Ok(())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if !self.handles.is_empty() {
            self.trigger.advance(Phase::Stopped);
        }
    }
}

fn work(listeners: Vec<TcpListener>, runtime: Arc<ArcSwap<Runtime>>, downstream: Downstream, shutdown: Shutdown) {
    block_on_local(async move {
        let listeners = listeners.into_iter().filter_map(|listener| tokio::net::TcpListener::from_std(listener).ok());
        let gateway = Rc::new(Gateway::new(Worker::new(runtime, shutdown.clone())));
        downstream::serve(listeners.collect(), gateway, downstream, shutdown).await;
    });
}

/// Runs `work` on a single-threaded runtime of this thread, with tasks that stay on it.
pub(crate) fn block_on_local(work: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())
        .expect("the operating system gives a poll and a timer");
    runtime.block_on(work);
    // Tunnels and connections that outlived the last phase are dropped; name look-ups in threads are not waited for.
    runtime.shutdown_background();
}

fn bind_admin(plan: &Plan) -> Result<Option<TcpListener>, StartError> {
    let Some(address) = plan.admin else { return Ok(None) };
    let listener = TcpListener::bind(address).map_err(|source| BindError { address, source })?;
    listener.set_nonblocking(true).map_err(|source| BindError { address, source })?;
    Ok(Some(listener))
}

fn addresses(listeners: &[Vec<TcpListener>]) -> Vec<SocketAddr> {
    listeners.first().into_iter().flatten().filter_map(|listener| listener.local_addr().ok()).collect()
}

fn apply_log_level(log: LogPlan) {
    logging::init(log.format, log.level);
}

/// What is known only at the moment of a scrape.
fn publish_at_scrape(metrics: &Arc<Metrics>, runtime: &Arc<ArcSwap<Runtime>>) {
    let runtime = Arc::clone(runtime);
    metrics.on_scrape(Box::new(move |metrics| runtime.load().report(metrics)));
}
