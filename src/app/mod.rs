//! The process: starts, reloads, drains and stops the gateway.
//!
//! The gateway's threads are all started here.
//!
//! - **Worker threads** accept connections and serve requests. Each has its own single-threaded
//!   runtime, and shares only read-only data and atomics with the others.
//! - The **control thread** ([`control`]) refreshes keys, obtains certificates, checks servers,
//!   reloads and drains, so that slow work does not delay requests. What it needs from files is
//!   read on other threads ([`loading`]).
//! - The **admin thread** serves metrics and health checks, also while the workers are saturated.
//! - The **access log thread** and the **event log thread** write what the others have queued.

mod acme;
mod certificates;
mod control;
mod file_descriptors;
mod health_checks;
mod loading;
mod readiness;
mod running;
mod service_manager;
mod socket_activation;
mod sockets;
mod source;
mod takeover;
mod threads;
mod watch;

pub use running::RunningGateway;
pub use service_manager::ServiceManager;
pub(crate) use socket_activation::sockets_from_environment;
pub use source::{ConfigSource, Environment};
pub(crate) use threads::{block_on_local, spawn_thread};

use std::io::Write;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::problem::Problems;
use crate::downstream::balancer::{self, Balancer};
use crate::downstream::connection_limits::{ConnectionLimits, Maximum};
use crate::downstream::listener::{BindError, InheritedSockets, ServiceListener};
use crate::downstream::{self, Downstream};
use crate::gateway::{CurrentRuntime, Gateway, Worker};
use crate::plan::adopt::{AdoptError, Adopter};
use crate::plan::{LogPlan, Plan};
use crate::primitives::blocking::NotAnswering;
use crate::primitives::clock::Clock;
use crate::primitives::shutdown::{self, Shutdown};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::{AccessLog, logging};
use crate::tls;
use control::{Command, Control};
use file_descriptors::TooFewDescriptors;
use loading::{Loaded, Loader};
use readiness::ReadinessState;
use service_manager::ServiceState;
use socket_activation::UnusableSocket;
use sockets::{SocketFiles, Sockets};
use takeover::{Predecessor, TakeoverError};
use threads::{RunningWorker, RunningWorkers, ThreadGroup};
use watch::{LookTimes, Watch};

/// How often the gateway checks the configuration file and the files of certificates for changes.
/// It compares the content, which also works where Kubernetes replaces a symbolic link.
const CONFIG_POLL_INTERVAL: Duration = Duration::from_secs(5);

/// How long the configuration file must have stayed the same when a reload is requested, or at
/// start if it has just been written.
const CONFIG_SETTLE_TIME: Duration = Duration::from_secs(1);

/// The longest time that a process with inherited sockets waits for keys before it accepts
/// connections.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The arguments of [`start`].
pub struct Options {
    /// The source of the configuration.
    pub source: ConfigSource,
    /// The values of `${NAME}` in the configuration.
    pub environment: Environment,
    /// The clock, which tests can set.
    pub clock: Clock,
    /// The sink of the access log, unless `[log]` disables it. With `None` there is no access log.
    pub access_sink: Option<Box<dyn Write + Send>>,
    /// Listening sockets that another process has handed over.
    pub inherited: InheritedSockets,
    /// The service manager that is notified when the process is ready, reloads or stops.
    pub service_manager: ServiceManager,
    /// How often the gateway checks a configuration file for changes. A change takes effect when
    /// two checks in a row have found it.
    pub config_poll_interval: Duration,
    /// How long a configuration file must have stayed the same when a reload is requested, or at
    /// start if it has just been written.
    pub config_settle_time: Duration,
}

impl Options {
    /// Options for the configuration file `config`, with the process's environment and the system
    /// clock.
    #[must_use]
    pub fn new(config: PathBuf) -> Self {
        Self {
            source: ConfigSource::File(config),
            environment: Arc::new(|name| std::env::var(name).ok()),
            clock: Clock::system(),
            access_sink: None,
            inherited: InheritedSockets::default(),
            service_manager: ServiceManager::default(),
            config_poll_interval: CONFIG_POLL_INTERVAL,
            config_settle_time: CONFIG_SETTLE_TIME,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").field("source", &self.source).finish_non_exhaustive()
    }
}

/// Why the gateway cannot start, or why it rejects a new configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file that the configuration refers to cannot be used.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// This process cannot take over from the running one.
    #[error(transparent)]
    Takeover(#[from] TakeoverError),
    /// A socket that systemd has handed over cannot be used.
    #[error(transparent)]
    SocketActivation(#[from] UnusableSocket),
    /// The gateway cannot listen on an address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The limit on open files is too low.
    #[error(transparent)]
    FileDescriptors(#[from] TooFewDescriptors),
    /// A file that the configuration refers to is on a file system that does not answer.
    #[error("cannot read the files that the configuration refers to: {0}")]
    NotAnswering(#[from] NotAnswering),
    /// The gateway is stopping.
    #[error("the gateway is stopping")]
    Stopping,
    /// A setting has changed that takes effect only after a restart.
    #[error("{0} changed, which requires a restart; the previous configuration stays in use")]
    NeedsRestart(&'static str),
    /// The configuration has errors.
    #[error("{0}")]
    Problems(Problems),
    /// The operating system cannot start a thread.
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
    /// The configuration file is being written.
    #[error("the configuration file keeps changing; it is loaded once it has stayed the same for a while")]
    Unsettled,
}

/// Reads the configuration, binds all addresses and starts serving.
///
/// An unreachable identity provider does not prevent the start: its routes respond 503 until its
/// keys are fetched.
///
/// # Errors
///
/// [`StartError`]; nothing is left running.
pub fn start(mut options: Options) -> Result<RunningGateway, StartError> {
    let metrics = Metrics::new(options.clock.clone());
    let look = source::first_look(&options.source, &options.clock, options.config_settle_time, std::thread::sleep)?;
    let plan = source::compile(&options.source, &look, &options.environment)?;
    apply_log_settings(plan.log)?;
    let descriptor_limit = file_descriptors::raise_limit();
    let max_connections = file_descriptors::max_connections(&plan, descriptor_limit)?;
    let access_log = start_access_log(options.access_sink, &plan, &metrics)?;
    let adopter = Arc::new(Adopter::new(Arc::clone(&metrics), options.clock.clone(), access_log.clone()));
    let Loaded { plan, runtime } = {
        let adopter = Arc::clone(&adopter);
        loading::load_at_start(move || adopter.adopt(&plan, None).map(|runtime| Loaded { plan, runtime }))??
    };
    let runtime = CurrentRuntime::new(runtime);
    let predecessor = match &plan.server.takeover_socket {
        Some(path) => block_on_local(takeover::connect(path, &mut options.inherited))?,
        None => None,
    };
    let waits_for_keys = !options.inherited.is_empty();
    let Sockets { data, admin: admin_listener, offer } = Sockets::open(&plan, &mut options.inherited)?;
    let admin = admin_listener.as_ref().and_then(|listener| listener.local_addr().ok());
    let socket_files = SocketFiles::new(data.files);
    register_scrape_hook(&metrics, &runtime);
    metrics.set_config_loaded(options.clock.now());

    let (trigger, shutdown) = shutdown::channel();
    let trigger = Arc::new(trigger);
    let connection_limits = ConnectionLimits::new(
        Maximum { configured: plan.server.max_connections, possible: max_connections },
        metrics.connections(),
    );
    let readiness = Arc::new(ReadinessState::new(Arc::clone(&runtime)));
    let mut threads = ThreadGroup::new(Arc::clone(&trigger));
    let (admin_trigger, admin_shutdown) = shutdown::channel();
    let (running_worker, workers) = RunningWorkers::new();
    let service_manager = options.service_manager;
    let times = LookTimes { poll_interval: options.config_poll_interval, settle_time: options.config_settle_time };
    let control = Control {
        watch: Watch::new(options.source, times, look),
        environment: options.environment,
        plan,
        adopter,
        loader: Loader::new(),
        runtime: Arc::clone(&runtime),
        metrics: Arc::clone(&metrics),
        clock: options.clock,
        connection_limits: Arc::clone(&connection_limits),
        descriptor_limit,
        socket_files: socket_files.clone(),
        admin: admin_trigger,
        workers,
        service_manager: service_manager.clone(),
        trigger: Arc::clone(&trigger),
        readiness: Arc::clone(&readiness),
        certificate_looks: tls::follow::LookTimes {
            interval: options.config_poll_interval,
            settle_time: options.config_settle_time,
        },
    };
    let (commands, inbox) = mpsc::unbounded_channel();
    threads.start("control", {
        let shutdown = shutdown.clone();
        move || control.run(inbox, shutdown)
    })?;
    if waits_for_keys {
        wait_for_keys(&readiness, predecessor.as_ref())?;
    }
    let workers = WorkerResources {
        runtime: &runtime,
        limits: &connection_limits,
        running: &running_worker,
        shutdown: &shutdown,
    };
    let balancer = start_workers(&mut threads, data.by_worker, &workers)?;
    if let Some(listener) = admin_listener {
        start_admin(&mut threads, listener, readiness, metrics, admin_shutdown)?;
    }
    if let Some(predecessor) = predecessor {
        block_on_local(predecessor.release())?;
        socket_files.adopt(&data.inherited_files);
    }
    if let Some(offer) = offer {
        // Not earlier: another process must not take the sockets over from this one while the
        // predecessor still serves. A failure means that the gateway has stopped.
        let _ = commands.send(Command::Offer(offer));
    }
    service_manager.notify(ServiceState::Ready);
    let data = data.addresses;
    Ok(RunningGateway { data, admin, commands, trigger, threads: threads.into_handles(), access_log, balancer })
}

/// Waits for keys, while connections wait in inherited sockets or are served by `predecessor`.
///
/// # Errors
///
/// There are no keys in time, and `predecessor` goes on serving.
fn wait_for_keys(readiness: &ReadinessState, predecessor: Option<&Predecessor>) -> Result<(), StartError> {
    let Err(reasons) = readiness.wait_until_ready(READY_TIMEOUT) else { return Ok(()) };
    if let Some(predecessor) = predecessor {
        return Err(predecessor.not_ready(&reasons).into());
    }
    tracing::warn!(?reasons, "accepting connections before the gateway is ready, because clients are waiting");
    Ok(())
}

/// Starts the thread that writes the access log to `sink`, if there is one.
fn start_access_log(
    sink: Option<Box<dyn Write + Send>>,
    plan: &Plan,
    metrics: &Metrics,
) -> Result<AccessLog, StartError> {
    let Some(sink) = sink else { return Ok(AccessLog::off()) };
    let (log, writer) = AccessLog::new(plan.log.format, sink, metrics);
    // Not part of the thread group: the writer ends by itself when the last clone of the log is
    // dropped.
    spawn_thread("access-log", move || writer.run()).map_err(StartError::Thread)?;
    Ok(log)
}

/// What all workers share.
struct WorkerResources<'a> {
    runtime: &'a Arc<CurrentRuntime>,
    limits: &'a Arc<ConnectionLimits>,
    running: &'a RunningWorker,
    shutdown: &'a Shutdown,
}

/// Starts one worker for each element of `listeners`. Returns the balancer of their connections.
fn start_workers(
    threads: &mut ThreadGroup,
    listeners: Vec<Vec<ServiceListener>>,
    resources: &WorkerResources<'_>,
) -> Result<Option<Balancer>, StartError> {
    let handles = balancer::handles(listeners.len());
    let balancer = handles.first().map(|handle| handle.balancer().clone());
    for (number, (listeners, handle)) in listeners.into_iter().zip(handles).enumerate() {
        let (runtime, shutdown) = (Arc::clone(resources.runtime), resources.shutdown.clone());
        let downstream = Downstream { limits: Arc::clone(resources.limits), handle };
        let running = resources.running.clone();
        threads.start(&format!("worker-{number}"), move || {
            run_worker(listeners, runtime, downstream, shutdown);
            drop(running);
        })?;
    }
    Ok(balancer)
}

fn run_worker(
    listeners: Vec<ServiceListener>,
    runtime: Arc<CurrentRuntime>,
    downstream: Downstream,
    shutdown: Shutdown,
) {
    block_on_local(async move {
        let gateway = Rc::new(Gateway::new(Worker::new(runtime, shutdown.clone())));
        downstream::serve(listeners, gateway, downstream, shutdown).await;
    });
}

fn start_admin(
    threads: &mut ThreadGroup,
    listener: TcpListener,
    readiness: Arc<ReadinessState>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    threads.start("admin", move || {
        block_on_local(async move {
            if let Err(error) = crate::admin::serve(listener, readiness, metrics, shutdown).await {
                tracing::error!(%error, "the admin listener failed");
            }
        });
    })
}

/// Applies `[log]`, and starts the thread that writes events if it does not run yet.
fn apply_log_settings(log: LogPlan) -> Result<(), StartError> {
    if let Some(writer) = logging::init(log.format, log.level) {
        // Not part of the thread group: it runs until the end of the process.
        spawn_thread("event-log", move || writer.run()).map_err(StartError::Thread)?;
    }
    Ok(())
}

/// Updates the metrics that are computed at each scrape.
fn register_scrape_hook(metrics: &Arc<Metrics>, runtime: &Arc<CurrentRuntime>) {
    let runtime = Arc::clone(runtime);
    metrics.on_scrape(Box::new(move |metrics| runtime.load().report(metrics)));
}
