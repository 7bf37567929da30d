//! `portcullis man`: prints a manual page.
//!
//! The pages are made from the definition of the arguments, so they cannot differ from `--help`.

use std::process::ExitCode;

use clap::CommandFactory as _;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use super::USAGE;

/// Arguments of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The command; without it, the page of portcullis itself
    command: Option<String>,
}

/// Sections of the main page that are not about arguments: heading, then entries with their text.
const FURTHER_SECTIONS: [(&str, &[(&str, &str)]); 3] = [
    (
        "SIGNALS",
        &[
            ("SIGHUP", "Reload the configuration. A file with mistakes is not loaded; the old one stays in use."),
            ("SIGTERM, SIGINT", "Drain: finish open requests, then exit. A second one ends the process at once."),
        ],
    ),
    (
        "EXIT STATUS",
        &[("0", "Success."), ("1", "Failure."), ("64", "Usage error."), ("78", "The configuration is invalid.")],
    ),
    (
        "FILES",
        &[
            ("/etc/portcullis/gateway.toml", "The configuration that the systemd unit uses."),
            ("/usr/share/doc/portcullis/examples/gateway.toml", "Every key, with its default."),
        ],
    ),
];

#[expect(clippy::print_stderr, reason = "the command's report")]
pub(super) fn run(args: &Args) -> ExitCode {
    let mut program = super::Cli::command();
    // Gives the subcommands their full names, such as portcullis-run.
    program.build();
    let Some(name) = &args.command else { return super::print(&main_page(program)) };
    let Some(command) = program.find_subcommand(name) else {
        eprintln!("error: there is no command {name:?}");
        return ExitCode::from(USAGE);
    };
    super::print(&render(&Man::new(command.clone())))
}

fn render(page: &Man) -> String {
    let mut text = Vec::new();
    page.render(&mut text).expect("writing to memory does not fail");
    String::from_utf8_lossy(&text).into_owned()
}

fn main_page(program: clap::Command) -> String {
    let mut further = Roff::new();
    for (heading, entries) in FURTHER_SECTIONS {
        further.control("SH", [heading]);
        for (term, meaning) in entries {
            further.control("TP", []).text([roman(*term)]).text([roman(*meaning)]);
        }
    }
    render(&Man::new(program)) + &further.render()
}
