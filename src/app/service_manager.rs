//! Notifies the service manager that has started the process that it is ready, reloads or stops
//! (`sd_notify(3)`). Does nothing if no service manager asks for it.

use std::io;
use std::os::unix::net::UnixDatagram;

use rustix::time::{ClockId, clock_gettime};

/// The service manager.
#[derive(Clone, Debug, Default)]
pub struct ServiceManager {
    /// The socket on which it listens: a path, or the name of an abstract socket after `@`.
    address: Option<String>,
}

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ServiceState {
    /// It accepts connections, or has finished reloading.
    Ready,
    /// It reloads its configuration.
    Reloading,
    /// It drains, and then ends.
    Stopping,
}

impl ServiceManager {
    /// The service manager that listens on the socket in `NOTIFY_SOCKET`, if there is one.
    pub(crate) fn from_environment() -> Self {
        Self { address: std::env::var("NOTIFY_SOCKET").ok().filter(|address| !address.is_empty()) }
    }

    /// Notifies the service manager of what the process does now.
    pub(super) fn notify(&self, state: ServiceState) {
        let Some(address) = &self.address else { return };
        // If the message is lost, systemd's timeouts decide what happens to the process.
        if let Err(error) = send(address, &state.message()) {
            tracing::warn!(%error, address, ?state, "cannot tell the service manager at NOTIFY_SOCKET");
        }
    }
}

impl ServiceState {
    fn message(self) -> String {
        match self {
            Self::Ready => "READY=1".to_owned(),
            Self::Reloading => format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_micros()),
            Self::Stopping => "STOPPING=1".to_owned(),
        }
    }
}

/// `CLOCK_MONOTONIC` in microseconds, which systemd requires with `RELOADING=1` for
/// `Type=notify-reload`.
fn monotonic_micros() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

/// Sends one message. Does not wait for a service manager that does not read.
fn send(address: &str, message: &str) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    match address.strip_prefix('@') {
        None => socket.connect(address)?,
        #[cfg(target_os = "linux")]
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            socket.connect_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
        }
        #[cfg(not(target_os = "linux"))]
        Some(_) => return Err(io::ErrorKind::Unsupported.into()),
    }
    socket.send(message.as_bytes()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::random;
    use crate::primitives::test_directory::TestDirectory;

    /// What a service manager at this address receives.
    fn received(listener: &UnixDatagram, address: String, state: ServiceState) -> String {
        ServiceManager { address: Some(address) }.notify(state);
        let mut buffer = [0; 128];
        let length = listener.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_service_manager_learns_what_the_process_does() {
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let listener = UnixDatagram::bind(&path).unwrap();
        let address = path.to_str().unwrap().to_owned();
        assert_eq!(received(&listener, address.clone(), ServiceState::Ready), "READY=1");
        assert_eq!(received(&listener, address.clone(), ServiceState::Stopping), "STOPPING=1");
        let reloading = received(&listener, address, ServiceState::Reloading);
        let micros = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(micros.parse::<u64>().unwrap() > 0, "{reloading}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_service_manager_may_listen_on_an_abstract_socket() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("portcullis-{}", random::hex(&random::bytes::<8>()));
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixDatagram::bind_addr(&address).unwrap();
        assert_eq!(received(&listener, format!("@{name}"), ServiceState::Ready), "READY=1");
    }

    #[test]
    fn a_service_manager_that_is_not_there_or_does_not_read_delays_nothing() {
        ServiceManager::default().notify(ServiceState::Ready);
        ServiceManager { address: Some("/nonexistent/socket".to_owned()) }.notify(ServiceState::Ready);
        let directory = TestDirectory::new();
        let path = directory.file("socket");
        let _listener = UnixDatagram::bind(&path).unwrap();
        let manager = ServiceManager { address: Some(path.to_str().unwrap().to_owned()) };
        for _ in 0..10_000 {
            manager.notify(ServiceState::Ready);
        }
    }
}
