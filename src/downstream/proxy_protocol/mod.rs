//! PROXY protocol: before TLS and before the first request, a trusted proxy says which client a
//! connection comes from.
//!
//! Whether a header is expected depends on the peer's address alone, and never on what the peer
//! sends: a trusted proxy must send one, and any other peer must not. Otherwise the connection is
//! closed without a response, counted and logged.

pub(crate) mod header;

use std::io;

use tokio::io::AsyncReadExt as _;

use super::socket::ClientSocket;
use crate::gateway::PeerAddress;
use crate::gateway::client_address::TrustedProxies;
use crate::telemetry::metrics::ProxyHeaderFault;
use header::{HeaderFault, Parsed, Source};

/// Bytes of one read. Holds version 1, and version 2 with the usual extensions.
const READ_BYTES: usize = 256;

/// Why a connection is closed for its PROXY header.
#[derive(Debug)]
pub(super) enum Fault {
    /// The header breaks a rule.
    Header(ProxyHeaderFault),
    /// The connection has failed or was closed before a whole header had arrived.
    Connection,
}

/// Reads the PROXY header of a connection whose kernel's address is `peer`. Returns the address
/// that counts from now on; the socket then begins with what follows the header.
///
/// # Errors
///
/// [`Fault`].
pub(super) async fn receive(
    socket: &mut ClientSocket,
    peer: PeerAddress,
    trusted: &TrustedProxies,
) -> Result<PeerAddress, Fault> {
    if !peer.is_trusted(trusted) {
        return refuse_header(socket).await.map(|()| peer);
    }
    Ok(match read_header(socket).await? {
        Source::Client(client) => client.into(),
        Source::Unknown => PeerAddress::BehindProxy(peer.ip()),
    })
}

/// Reads a header, and no byte beyond it.
async fn read_header(socket: &mut ClientSocket) -> Result<Source, Fault> {
    let mut header = Vec::new();
    loop {
        let known = header.len();
        header.resize(known + READ_BYTES, 0);
        // Peeks first: what follows the header belongs to TLS or HTTP, and stays in the kernel.
        let count = socket.peek(&mut header[known..]).await?;
        if count == 0 {
            return Err(Fault::Connection);
        }
        header.truncate(known + count);
        let parsed = header::parse(&header)?;
        let consumed = match parsed {
            Parsed::Complete { length, .. } => length,
            Parsed::Incomplete => header.len(),
        };
        socket.read_exact(&mut header[known..consumed]).await?;
        if let Parsed::Complete { source, .. } = parsed {
            return Ok(source);
        }
    }
}

/// Looks at the first bytes of a peer that is not trusted. A header that arrives in pieces may pass
/// here; it is neither TLS nor HTTP, so the next layer refuses it.
async fn refuse_header(socket: &ClientSocket) -> Result<(), Fault> {
    let mut start = [0; 16];
    let count = socket.peek(&mut start).await?;
    if header::is_recognizable(&start[..count]) {
        return Err(Fault::Header(ProxyHeaderFault::Untrusted));
    }
    Ok(())
}

impl From<io::Error> for Fault {
    fn from(_: io::Error) -> Self {
        Self::Connection
    }
}

impl From<HeaderFault> for Fault {
    fn from(fault: HeaderFault) -> Self {
        Self::Header(match fault {
            HeaderFault::Missing => ProxyHeaderFault::Missing,
            HeaderFault::Malformed => ProxyHeaderFault::Malformed,
            HeaderFault::TooLong => ProxyHeaderFault::TooLong,
        })
    }
}

#[cfg(test)]
mod tests;
