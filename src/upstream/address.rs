//! The address of one server: where to connect to, and how the server is named in requests, logs
//! and metrics.

use std::net::IpAddr;
use std::path::PathBuf;

use http::HeaderValue;
use rustls_pki_types::ServerName;

/// The address of one server, from `servers` in the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    /// Where to connect to.
    pub target: DialTarget,
    /// The address as a `Host` field: without the port if it is the scheme's default. `localhost`
    /// for a Unix socket, which has no host.
    pub authority: HeaderValue,
}

/// Where to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialTarget {
    /// A port of a host.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// 1–65535.
        port: u16,
        /// The name that the server's certificate must be for; `None`: no TLS.
        tls_name: Option<ServerName<'static>>,
    },
    /// A Unix domain socket.
    Unix(PathBuf),
}

impl ServerAddress {
    /// Whether connections to it are secured.
    #[must_use]
    pub fn has_tls(&self) -> bool {
        match &self.target {
            DialTarget::Tcp { tls_name, .. } => tls_name.is_some(),
            DialTarget::Unix(_) => false,
        }
    }

    /// The server's name in logs and metrics: host and port, or `unix:` and the path.
    #[must_use]
    pub fn label(&self) -> String {
        match &self.target {
            DialTarget::Tcp { .. } => self.authority.to_str().unwrap_or_default().to_owned(),
            DialTarget::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

impl ServerAddress {
    /// Whether it is a name, which may have several addresses.
    pub(super) fn has_name(&self) -> bool {
        match &self.target {
            DialTarget::Tcp { host, .. } => host.parse::<IpAddr>().is_err(),
            DialTarget::Unix(_) => false,
        }
    }
}

#[cfg(test)]
impl ServerAddress {
    /// The server on `port` of loopback.
    pub(crate) fn loopback(port: u16) -> Self {
        let authority = HeaderValue::try_from(format!("127.0.0.1:{port}")).expect("digits and dots");
        Self { target: DialTarget::Tcp { host: "127.0.0.1".to_owned(), port, tls_name: None }, authority }
    }

    /// The port of a server with an IP address.
    pub(crate) fn port(&self) -> u16 {
        match &self.target {
            DialTarget::Tcp { port, .. } => *port,
            DialTarget::Unix(_) => panic!("a Unix socket has no port"),
        }
    }
}
