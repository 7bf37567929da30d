//! Certificates that the gateway obtains itself: one file for each host, which may not exist yet.
//!
//! Unlike a file that an operator writes, a missing or broken one is not an error: `acme` orders
//! another certificate. Until it has one, handshakes for the host fail.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::certified_key::{FileText, Identity};
use super::files::{self, FileError};

/// A host whose certificate the gateway obtains, and where it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedHost {
    /// The host name, in lower case.
    pub host: Arc<str>,
    /// The file with the certificate chain and its key.
    pub file: PathBuf,
}

/// The certificates in use.
#[derive(Debug)]
pub(crate) struct ManagedCertificates {
    hosts: Vec<ManagedHost>,
    /// In the order of `hosts`.
    current: ArcSwap<Vec<Option<Arc<Identity>>>>,
}

/// Whether the gateway obtains the certificate of a host.
#[derive(Clone, Debug)]
pub(super) enum Managed {
    /// It does not.
    No,
    /// It has obtained this one.
    Obtained(Arc<Identity>),
    /// It is about to obtain one.
    Pending,
}

impl ManagedCertificates {
    /// Reads the files of `hosts`. A host whose file cannot be used has the certificate that it has
    /// in `previous`, if any. Blocks for as long as the file system does.
    pub(super) fn load(hosts: &[ManagedHost], previous: Option<&Self>) -> Arc<Self> {
        let identity = |host: &ManagedHost| match host.read_blocking() {
            Ok(identity) if host.is_name_of(&identity) => Some(Arc::new(identity)),
            Ok(_) | Err(_) => previous.and_then(|previous| previous.identity_of(host)),
        };
        let current = hosts.iter().map(identity).collect();
        Arc::new(Self { hosts: hosts.to_vec(), current: ArcSwap::from_pointee(current) })
    }

    /// Presents `identity` to new clients that ask for `host`.
    pub(crate) fn use_for(&self, host: &str, identity: Identity) {
        let identity = Arc::new(identity);
        self.current.rcu(|current| {
            let mut changed = Vec::clone(current);
            for (managed, slot) in self.hosts.iter().zip(&mut changed) {
                if *managed.host == *host {
                    *slot = Some(Arc::clone(&identity));
                }
            }
            changed
        });
    }

    /// The hosts, in the order of the configuration, each with its certificate.
    #[must_use]
    pub(crate) fn all(&self) -> Vec<(&ManagedHost, Option<Arc<Identity>>)> {
        self.hosts.iter().zip(self.current.load().iter().cloned()).collect()
    }

    /// The certificate of `host`, which is in lower case.
    pub(super) fn by_name(&self, host: &str) -> Managed {
        let index = self.hosts.iter().position(|managed| *managed.host == *host);
        match index.map(|index| self.current.load()[index].clone()) {
            None => Managed::No,
            Some(None) => Managed::Pending,
            Some(Some(identity)) => Managed::Obtained(identity),
        }
    }

    /// The certificate of `host`; `None` if there is none.
    #[must_use]
    pub(crate) fn certificate_of(&self, host: &str) -> Option<Arc<Identity>> {
        match self.by_name(host) {
            Managed::Obtained(identity) => Some(identity),
            Managed::No | Managed::Pending => None,
        }
    }

    /// The first certificate that there is.
    pub(super) fn first(&self) -> Option<Arc<Identity>> {
        self.current.load().iter().find_map(Clone::clone)
    }

    fn identity_of(&self, host: &ManagedHost) -> Option<Arc<Identity>> {
        let index = self.hosts.iter().position(|managed| managed == host)?;
        self.current.load()[index].clone()
    }
}

impl ManagedHost {
    /// Whether the certificate is for this host.
    #[must_use]
    pub(crate) fn is_name_of(&self, identity: &Identity) -> bool {
        identity.facts.dns_names.iter().any(|name| *name == *self.host)
    }

    /// Reads the certificate. Blocks for as long as the file system does.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the file.
    pub(crate) fn read_blocking(&self) -> Result<Identity, FileError> {
        self.read(&files::read(&files::chain_reader(&self.file))?)
    }

    /// The certificate and the key in `text`, which is or becomes the content of the file.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with it.
    pub(crate) fn read(&self, text: &[u8]) -> Result<Identity, FileError> {
        let text = FileText { path: &self.file, text };
        Identity::read(text, text).map_err(|mut errors| errors.swap_remove(0).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::test_directory::TestDirectory;
    use crate::tls::test_support::TestAuthority;

    #[test]
    fn a_host_without_a_usable_file_has_no_certificate_and_harms_no_other() {
        let (directory, authority) = (TestDirectory::new(), TestAuthority::new());
        let hosts: Vec<ManagedHost> = ["good.test", "missing.test", "broken.test", "other-name.test"]
            .map(|host| ManagedHost { host: host.into(), file: directory.file(host) })
            .into();
        let issued = authority.issue(&["good.test"]);
        std::fs::write(&hosts[0].file, issued.key() + &issued.chain(&authority)).unwrap();
        std::fs::write(&hosts[2].file, "-----BEGIN CERTIFICATE-----\nAAAA\n").unwrap();
        std::fs::copy(&hosts[0].file, &hosts[3].file).unwrap();
        let managed = ManagedCertificates::load(&hosts, None);
        let present: Vec<bool> = managed.all().iter().map(|(_, identity)| identity.is_some()).collect();
        assert_eq!(present, [true, false, false, false]);
        assert!(matches!(managed.by_name("good.test"), Managed::Obtained(_)));
        assert!(matches!(managed.by_name("missing.test"), Managed::Pending));
        assert!(matches!(managed.by_name("other.test"), Managed::No));

        let renewed = authority.issue(&["missing.test"]);
        let identity = hosts[1].read((renewed.key() + &renewed.certificate.pem()).as_bytes()).unwrap();
        managed.use_for("missing.test", identity);
        let Managed::Obtained(obtained) = managed.by_name("missing.test") else { panic!("it was obtained") };
        assert_eq!(obtained.facts.names(), "missing.test");

        std::fs::write(&hosts[0].file, "x").unwrap();
        let reloaded = ManagedCertificates::load(&hosts, Some(&managed));
        let present: Vec<bool> = reloaded.all().iter().map(|(_, identity)| identity.is_some()).collect();
        assert_eq!(present, [true, true, false, false], "what was in use stays in use");
    }
}
