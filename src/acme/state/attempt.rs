//! Attempts, which a restart must not forget.

use serde::{Deserialize, Serialize};

use crate::acme::AcmeSettings;
use crate::primitives::clock::WallTime;

/// The attempts in a row for one host that have failed, or the one that is under way.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
pub(in crate::acme) struct Attempt {
    /// How many have failed, the one that is under way included.
    pub(in crate::acme) failures: u32,
    /// When the last orders were placed, in seconds since the Unix epoch, the oldest first.
    #[serde(default)]
    pub(in crate::acme) orders: Vec<u64>,
    /// When the next one is due, in seconds since the Unix epoch.
    pub(in crate::acme) next: u64,
    /// The settings that they depended on. With other ones, the next attempt need not wait.
    pub(in crate::acme) settings: String,
}

impl Attempt {
    /// The part of `settings` that an attempt depends on, as text.
    #[must_use]
    pub(in crate::acme) fn settings_of(settings: &AcmeSettings) -> String {
        let AcmeSettings { directory, challenge, profile, contacts, .. } = settings;
        let key_id = settings.external_account.as_ref().map(|account| account.key_id.as_str());
        format!("{directory} {} {profile:?} {contacts:?} {key_id:?}", challenge.name())
    }

    /// When the next attempt is due.
    #[must_use]
    pub(in crate::acme) fn next(&self) -> WallTime {
        WallTime::from_seconds(self.next)
    }
}
