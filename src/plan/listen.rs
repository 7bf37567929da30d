//! The addresses to listen on, and the permissions of Unix sockets.

use std::net::SocketAddr;

use crate::config::Problems;
use crate::config::key_path::element;
use crate::config::problem::quoted;
use crate::primitives::listen_address::{ListenAddress, UnixMode};

const ADDRESS_HINT: &str = "write an IP address and a port, such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \
                            \"[::]:8080\", or a Unix socket, such as \"unix:/run/portcullis/http.sock\"";

/// The addresses of the key at `key_path`.
pub(super) fn compile_addresses(key_path: &str, texts: &[String], problems: &mut Problems) -> Vec<ListenAddress> {
    let mut addresses: Vec<ListenAddress> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let key_path = if texts.len() > 1 { element(key_path, index) } else { key_path.to_owned() };
        match ListenAddress::parse(text) {
            Ok(address) if addresses.iter().any(|other| address.collides_with(other)) => {
                problems.add(key_path, format!("{} is listed twice", quoted(text)));
            }
            Ok(address) => addresses.push(address),
            Err(error) => problems.add_with_hint(key_path, format!("{} {error}", quoted(text)), ADDRESS_HINT),
        }
    }
    if texts.is_empty() {
        problems.add_with_hint(key_path, "the list is empty", ADDRESS_HINT);
    }
    addresses
}

/// An IP address with a port.
///
/// # Errors
///
/// What is wrong with the text.
pub(super) fn parse_tcp_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{} is not an IP address with a port", quoted(text)))
}

/// The permissions of Unix sockets, `server.unix_mode`. Without a valid value they are those of the
/// owner alone.
pub(super) fn compile_unix_mode(text: &str, problems: &mut Problems) -> UnixMode {
    UnixMode::parse(text).unwrap_or_else(|| {
        problems.add_with_hint(
            "server.unix_mode",
            format!("{} is not a file mode", quoted(text)),
            "write three octal digits after a zero, such as \"0660\" for the owner and the group",
        );
        UnixMode::OWNER
    })
}
