//! The running gateway: the handle by which a program reloads, drains and stops it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::JoinHandle;

use tokio::sync::mpsc;

use super::StartError;
use super::control::Command;
use crate::downstream::balancer::Balancer;
use crate::primitives::listen_address::ListenAddress;
use crate::primitives::shutdown::{Phase, Trigger};
use crate::telemetry::AccessLog;

/// A gateway that serves. Dropping it does not stop the gateway; [`RunningGateway::stop`] does.
#[derive(Debug)]
pub struct RunningGateway {
    pub(super) data: Vec<ListenAddress>,
    pub(super) admin: Option<SocketAddr>,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) trigger: Arc<Trigger>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) access_log: AccessLog,
    pub(super) balancer: Option<Balancer>,
}

impl RunningGateway {
    /// The TCP addresses on which it accepts requests, in the order of the configuration.
    #[must_use]
    pub fn data_addresses(&self) -> Vec<SocketAddr> {
        let tcp = |address: &ListenAddress| match address {
            ListenAddress::Tcp(address) => Some(*address),
            ListenAddress::Unix(_) | ListenAddress::Systemd(_) => None,
        };
        self.data.iter().filter_map(tcp).collect()
    }

    /// All addresses on which it accepts requests, in the order of the configuration.
    #[must_use]
    pub(crate) fn listen_addresses(&self) -> &[ListenAddress] {
        &self.data
    }

    /// The address of the admin listener, unless that is disabled.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The number of open connections of each worker.
    #[must_use]
    pub fn connections_by_worker(&self) -> Vec<usize> {
        self.balancer.as_ref().map(Balancer::open).unwrap_or_default()
    }

    /// Reloads the configuration, and waits until the new one is in use or rejected.
    ///
    /// # Errors
    ///
    /// [`StartError`], if the new configuration is rejected; the previous one stays in use.
    pub fn reload(&self) -> Result<(), Arc<StartError>> {
        let stopping = || Arc::new(StartError::Stopping);
        let outcome = self.send_reload().ok_or_else(stopping)?;
        outcome.recv().unwrap_or_else(|_| Err(stopping()))
    }

    /// Reloads the configuration and does not wait. The outcome is logged and counted.
    pub fn request_reload(&self) {
        // `None` means that the gateway is stopping, and the control thread logs everything else.
        let _ = self.send_reload();
    }

    fn send_reload(&self) -> Option<blocking::Receiver<Result<(), Arc<StartError>>>> {
        let (reply, outcome) = blocking::sync_channel(1);
        self.commands.send(Command::Reload(reply)).is_ok().then_some(outcome)
    }

    /// Starts to drain and returns at once.
    ///
    /// The gateway reports that it is not ready, waits for `drain_delay`, stops accepting
    /// connections, lets requests in flight finish for at most `drain_timeout`, and stops.
    pub fn drain(&self) {
        // An error means that the control thread has ended, which it does only when everything
        // stops.
        let _ = self.commands.send(Command::Drain);
    }

    /// Resolves when the gateway has stopped by itself after [`RunningGateway::drain`].
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let mut shutdown = self.trigger.listen();
        async move { shutdown.reached(Phase::Stopped).await }
    }

    /// Stops everything at once when it is called, without waiting: for a thread other than the one
    /// that waits.
    pub fn stopper(&self) -> impl Fn() + Send + use<> {
        let trigger = Arc::clone(&self.trigger);
        move || trigger.advance(Phase::Stopped)
    }

    /// Waits until all threads have ended. Call it after [`RunningGateway::stopped`].
    pub fn wait(self) {
        self.join();
    }

    /// Stops at once and waits until all threads have ended.
    pub fn stop(self) {
        self.trigger.advance(Phase::Stopped);
        self.join();
    }

    fn join(self) {
        for thread in self.threads {
            // An error means that the thread panicked, and the panic has been printed.
            let _ = thread.join();
        }
        self.access_log.flush();
    }
}
