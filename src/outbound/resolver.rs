//! Name resolution: `localhost` and the names below it are this machine, whatever the DNS says.
//!
//! [`is_secure_url`](super::is_secure_url) lets plain http go to these names. Many system resolvers
//! ask the DNS for `auth.localhost`, so without this rule the server that answers the query could
//! forge the response (RFC 6761 §6.3).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::is_localhost;
use crate::resolver::Resolver;

/// Resolves names below `localhost` to the loopback addresses, and asks the shared resolver for the
/// others.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoopbackResolver;

impl Resolve for LoopbackResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // Port 0 stands for the port of the URL.
            if is_localhost(name.as_str()) {
                let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
                return Ok(Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs);
            }
            // Not reqwest's own lookup, which would take one of the runtime's threads for each
            // attempt.
            let addresses = Resolver::system().host(name.as_str()).addresses().await?.in_turn();
            Ok(Box::new(addresses.into_iter().map(|address| SocketAddr::new(address.ip(), 0))) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_below_localhost_are_loopback() {
        for name in ["localhost", "localhost.", "auth.localhost"] {
            let addresses: Vec<_> = LoopbackResolver.resolve(name.parse().unwrap()).await.unwrap().collect();
            assert!(!addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback()), "{name}");
        }
    }
}
