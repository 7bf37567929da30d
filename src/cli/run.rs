//! `portcullis run`: serves until a signal stops it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, failed};
use crate::app::{self, Options, RunningGateway, ServiceManager, StartError, block_on_local};

/// How long the threads may take to end after a second signal. Without a stuck one they take
/// milliseconds.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(args: Args) -> ExitCode {
    match start(args.file.config) {
        Ok(running) => {
            for address in running.listen_addresses() {
                tracing::info!(%address, "listening");
            }
            if let Some(address) = running.admin_address() {
                tracing::info!(%address, "admin listening");
            }
            serve(running)
        }
        Err(error) => failed(&error),
    }
}

fn start(config: PathBuf) -> Result<RunningGateway, StartError> {
    let mut options = Options::new(config);
    // First, while the process has only one thread: it changes the environment.
    options.inherited = app::sockets_from_environment()?;
    options.service_manager = ServiceManager::from_environment();
    options.access_sink = Some(Box::new(std::io::stdout()));
    app::start(options)
}

/// Waits for signals. SIGHUP reloads. SIGTERM and SIGINT drain, and a second one stops at once.
fn serve(running: RunningGateway) -> ExitCode {
    let (sender, outcome) = std::sync::mpsc::channel();
    block_on_local(async move {
        let (Ok(mut hangup), Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::hangup()), signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::error!("cannot install signal handlers");
            running.stop();
            let _ = sender.send(ExitCode::FAILURE);
            return;
        };
        loop {
            tokio::select! {
                // Does not wait: the next signal may be SIGTERM.
                _ = hangup.recv() => running.request_reload(),
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                // A new process has taken over, and this one has drained.
                () = running.stopped() => break,
            }
        }
        running.drain();
        let stop = running.stopper();
        // On another thread: a second signal must be heard whatever the gateway waits for.
        let mut ended = tokio::task::spawn_blocking(move || running.wait());
        let second_signal = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::select! {
            _ = &mut ended => {}
            () = second_signal => {
                stop();
                // A thread that is stuck in the operating system ends with the process.
                let _ = tokio::time::timeout(STOP_TIMEOUT, ended).await;
            }
        }
        let _ = sender.send(ExitCode::SUCCESS);
    });
    outcome.recv().unwrap_or(ExitCode::FAILURE)
}
