//! `portcullis health`: checks whether a running gateway is ready.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::process::ExitCode;
use std::time::Duration;

use url::Url;

use super::{FAILED, USAGE};

/// Timeout of each network operation. A gateway that takes longer counts as not ready.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Longest response that is read. The readiness response is a head and a short JSON object.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024;

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// URL of the admin listener's readiness check
    #[arg(default_value = "http://127.0.0.1:9090/readyz")]
    url: String,
}

#[expect(clippy::print_stderr, reason = "the command's report")]
pub(super) fn run(args: &Args) -> ExitCode {
    let Some(url) = Url::parse(&args.url).ok().filter(|url| url.scheme() == "http" && url.has_host()) else {
        eprintln!("error: {:?} is not an http URL", args.url);
        return ExitCode::from(USAGE);
    };
    match request(&url) {
        Ok(response) if response.starts_with("HTTP/1.1 200 ") => super::print("ready\n"),
        Ok(response) => {
            let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
            let printable = |text: &str| text.chars().filter(|one| !one.is_control()).collect::<String>();
            eprintln!("not ready: {} {}", printable(head.lines().next().unwrap_or_default()), printable(body));
            ExitCode::from(FAILED)
        }
        Err(error) => {
            eprintln!("not ready: cannot query {}: {error}", args.url);
            ExitCode::from(FAILED)
        }
    }
}

fn request(url: &Url) -> std::io::Result<String> {
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(80);
    let address = (host.trim_start_matches('[').trim_end_matches(']'), port)
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| std::io::Error::other("the host name has no address"))?;
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let path = if url.path().is_empty() { "/" } else { url.path() };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    stream.take(MAX_RESPONSE_BYTES).read_to_end(&mut response)?;
    Ok(String::from_utf8_lossy(&response).into_owned())
}
