//! `portcullis run`: serves until a signal stops it.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigFile, failed};
use crate::app::{self, Options, RunningGateway, block_on_local};

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    file: ConfigFile,
}

pub(super) fn run(args: Args) -> ExitCode {
    let mut options = Options::new(args.file.config);
    options.access_sink = Some(Box::new(std::io::stdout()));
    match app::start(options) {
        Ok(running) => {
            for address in running.data_addresses() {
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
            }
        }
        running.drain();
        let stopped = running.stopped();
        tokio::select! {
            () = stopped => running.wait(),
            _ = terminate.recv() => running.stop(),
            _ = interrupt.recv() => running.stop(),
        }
        let _ = sender.send(ExitCode::SUCCESS);
    });
    outcome.recv().unwrap_or(ExitCode::FAILURE)
}
