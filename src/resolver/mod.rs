//! Name resolution: turns the names in the configuration into addresses.
//!
//! All workers share one [`Resolver`]. It looks a name up once however many requests wait for it,
//! keeps the result, and looks it up again while it is in use. Lookups run on a few threads of
//! their own ([`lookup_threads`]), so that a name server that does not answer delays only what
//! needs its name, and never takes the threads that others need.
//!
//! The system's own lookup (`getaddrinfo`) is used, which reads `/etc/hosts` and knows about search
//! domains. It does not tell how long a record may be kept, so every result is kept for
//! [`REFRESH_AFTER`].

mod changes;
mod lookup_threads;
mod name;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::Duration;

pub(crate) use changes::Changes;
use lookup_threads::LookupThreads;
pub(crate) use name::{Addresses, Name};

/// How old a result may be before it is looked up again. Meanwhile the old one is used.
const REFRESH_AFTER: Duration = Duration::from_secs(10);
/// How long a failed lookup is not repeated.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How long a result is used while it cannot be looked up again.
const MAX_STALE: Duration = Duration::from_secs(60 * 60);
/// How many addresses of a name are used.
pub(crate) const MAX_ADDRESSES: usize = 64;

/// The name has no address, or no name server could be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name cannot be resolved")]
pub(crate) struct NotResolved;

/// Looks up the addresses of a name. Blocks.
pub(crate) type Lookup = dyn Fn(&str) -> io::Result<Vec<IpAddr>> + Send + Sync;

/// Resolves names, each once for all who ask.
#[derive(Debug)]
pub(crate) struct Resolver {
    threads: Arc<LookupThreads>,
    changes: Arc<Changes>,
    /// The names in use, so that all users of a name share its result.
    names: Mutex<HashMap<Box<str>, Weak<Name>>>,
}

/// A host as configured: an address, or a name that has addresses.
#[derive(Clone, Debug)]
pub(crate) enum Host {
    /// An IP address, which needs no lookup.
    Address(Arc<Addresses>),
    /// A name.
    Name(Arc<Name>),
    /// One address of a name, for as long as the name has it.
    OneAddress(Arc<Name>, Arc<Addresses>),
}

impl Resolver {
    /// The resolver that asks the operating system: one for the process.
    pub(crate) fn system() -> &'static Self {
        static SYSTEM: LazyLock<Resolver> = LazyLock::new(|| {
            Resolver::with_lookup(Box::new(|name| {
                Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
            }))
        });
        &SYSTEM
    }

    /// A resolver that calls `lookup`, on threads of its own.
    pub(crate) fn with_lookup(lookup: Box<Lookup>) -> Self {
        Self { threads: LookupThreads::new(lookup), changes: Arc::default(), names: Mutex::default() }
    }

    /// The host `text`: an IP address without brackets, or a name.
    pub(crate) fn host(&self, text: &str) -> Host {
        match text.parse() {
            Ok(address) => Host::Address(Addresses::fixed(address)),
            Err(_not_an_address) => Host::Name(self.name(text)),
        }
    }

    /// Says when the addresses of some name have changed.
    pub(crate) fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    fn name(&self, text: &str) -> Arc<Name> {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(name) = names.get(text).and_then(Weak::upgrade) {
            return name;
        }
        // Names come from the configuration, so the map grows only with reloads; this ends that.
        names.retain(|_, name| name.strong_count() > 0);
        let name = Name::new(text, &self.threads, &self.changes);
        names.insert(text.into(), Arc::downgrade(&name));
        name
    }
}

impl Host {
    /// Its addresses. Waits only for the first lookup of a name.
    ///
    /// # Errors
    ///
    /// [`NotResolved`] if the last lookup failed and no earlier result may be used.
    pub(crate) async fn addresses(&self) -> Result<Arc<Addresses>, NotResolved> {
        match self {
            Self::Address(addresses) => Ok(Arc::clone(addresses)),
            Self::Name(name) => name.addresses().await,
            Self::OneAddress(name, addresses) => {
                name.refresh();
                Ok(Arc::clone(addresses))
            }
        }
    }

    /// Starts a lookup if the last result is old. Never waits.
    pub(crate) fn refresh(&self) {
        match self {
            Self::Address(_) => {}
            Self::Name(name) | Self::OneAddress(name, _) => name.refresh(),
        }
    }

    /// Whether `address` is one of its addresses, as far as is known.
    pub(crate) fn has(&self, address: IpAddr) -> bool {
        match self {
            Self::Address(_) => true,
            Self::Name(name) | Self::OneAddress(name, _) => name.has(address),
        }
    }

    /// The addresses of a name, sorted; empty if they are not known, and for an IP address. Never
    /// waits, and starts no lookup.
    pub(crate) fn known_addresses(&self) -> Vec<IpAddr> {
        match self {
            Self::Address(_) => Vec::new(),
            Self::Name(name) | Self::OneAddress(name, _) => name.known_addresses(),
        }
    }

    /// The same host with only one of its addresses.
    #[must_use]
    pub(crate) fn at(&self, address: IpAddr) -> Self {
        match self {
            Self::Address(addresses) => Self::Address(Arc::clone(addresses)),
            Self::Name(name) | Self::OneAddress(name, _) => {
                Self::OneAddress(Arc::clone(name), Addresses::fixed(address))
            }
        }
    }
}

#[cfg(test)]
mod tests;
