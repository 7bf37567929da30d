//! The address of a peer: the client, or the proxy in front of the gateway.

use std::net::{IpAddr, Ipv4Addr};

use super::TrustedProxies;

/// Where the peer of a downstream connection is. It comes from the kernel, or from a trusted
/// proxy's PROXY header, and never from a header of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// An IP address. An IPv4 address is never in its IPv6-mapped form.
    Ip(IpAddr),
    /// A process on this machine, over a Unix socket.
    UnixSocket,
    /// A client behind the proxy at this address, whose PROXY header does not say where the client
    /// is. It is not trusted, although the proxy is: such a proxy passes on what the client sends.
    BehindProxy(IpAddr),
}

impl PeerAddress {
    /// The IP address that stands for the peer in logs, limits and forwarding headers. It is never
    /// in the IPv6-mapped form of an IPv4 address.
    ///
    /// For a Unix socket it is the loopback address, as for a process that connects over TCP.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        match self {
            Self::Ip(ip) | Self::BehindProxy(ip) => ip,
            Self::UnixSocket => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    /// Whether the peer is a trusted proxy.
    ///
    /// The permissions of a Unix socket say who may connect to it, so each of its peers is the
    /// operator's proxy.
    #[must_use]
    pub fn is_trusted(self, trusted: &TrustedProxies) -> bool {
        match self {
            Self::Ip(ip) => trusted.contains(ip),
            Self::UnixSocket => true,
            Self::BehindProxy(_) => false,
        }
    }
}

impl From<IpAddr> for PeerAddress {
    fn from(ip: IpAddr) -> Self {
        // An IPv4 client has the same address on an IPv4 and on an IPv6 listener.
        Self::Ip(ip.to_canonical())
    }
}
