//! x
#[derive(Debug, clap::Args)]
pub struct Args {}
/// x
#[must_use]
pub fn run(_a: Args) -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
