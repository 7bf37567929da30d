//! `portcullis health`: asks a running gateway whether it is ready.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use url::Url;

use super::{FAILED, USAGE};

/// Container health checks give up after a few seconds; answering at all is what is asked here.
const PATIENCE: Duration = Duration::from_secs(3);

/// The answer is a line of status and a short JSON text.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The admin listener's readiness
    #[arg(default_value = "http://127.0.0.1:9090/readyz")]
    url: String,
}

#[expect(clippy::print_stderr, reason = "the command's report")]
pub(super) fn run(args: &Args) -> ExitCode {
    let Some(url) = Url::parse(&args.url).ok().filter(|url| url.scheme() == "http" && url.has_host()) else {
        eprintln!("error: {:?} is not an http URL", args.url);
        return ExitCode::from(USAGE);
    };
    match ask(&url) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => super::print("ready\n"),
        Ok(answer) => {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
            let status = head.lines().next().unwrap_or_default().escape_debug();
            eprintln!("not ready: {status} {}", body.trim().escape_debug());
            ExitCode::from(FAILED)
        }
        Err(error) => {
            eprintln!("not ready: cannot ask {}: {error}", args.url);
            ExitCode::from(FAILED)
        }
    }
}

fn ask(url: &Url) -> std::io::Result<String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let address = (host.trim_start_matches('[').trim_end_matches(']'), port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| std::io::Error::other("the name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let path = if url.path().is_empty() { "/" } else { url.path() };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
