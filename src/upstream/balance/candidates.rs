//! Candidates: which servers an attempt may go to.

use std::sync::Arc;

use super::ServerSet;
use crate::upstream::server::Server;

/// The servers that an attempt may go to.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Candidates {
    /// The servers that have failed the request. Few, and mostly none.
    failed: Vec<Arc<Server>>,
    /// If set, the attempt must go to this server.
    only: Option<Arc<Server>>,
}

impl Candidates {
    /// The same, but only `server`.
    pub(in crate::upstream) fn only(self, server: &Arc<Server>) -> Self {
        Self { only: Some(Arc::clone(server)), ..self }
    }

    /// All of `servers` that have not failed the request, without `server`. `None` if there is no
    /// other.
    pub(in crate::upstream) fn without(mut self, server: &Arc<Server>, servers: &ServerSet) -> Option<Self> {
        self.only = None;
        if !self.has_failed(server) {
            self.failed.push(Arc::clone(server));
        }
        servers.all().iter().any(|server| !self.has_failed(server)).then_some(self)
    }

    /// Whether another of `servers` could have the request if `server` fails it.
    pub(in crate::upstream) fn has_other_than(&self, server: &Server, servers: &ServerSet) -> bool {
        servers.all().iter().any(|other| other.id() != server.id() && !self.has_failed(other))
    }

    /// The only server that the attempt may go to, if it is bound to one.
    pub(super) fn bound_to(&self) -> Option<&Arc<Server>> {
        self.only.as_ref()
    }

    pub(super) fn has_failed(&self, server: &Server) -> bool {
        self.failed.iter().any(|failed| failed.id() == server.id())
    }
}
