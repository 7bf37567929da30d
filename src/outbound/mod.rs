//! Outbound HTTP client: every request that the gateway makes on its own behalf.
//!
//! Requests that the gateway forwards for its clients go through `upstream/`; this module is for
//! the gateway's own, such as fetching key sets. [`Client`] sets every limit that an HTTP library
//! leaves open: it follows no redirects, ignores proxies from the environment, bounds the time, the
//! size of a response and the number of requests in flight, and speaks plain http to this machine
//! only, unless the operator allows more. What a response means is up to the caller.

mod address;
mod client;
mod error;
mod resolver;
#[cfg(test)]
pub(crate) mod test_support;

pub(crate) use self::address::{AddressScope, is_secure_url};
pub(crate) use self::client::{Client, ClientLimits, Request, TrustedRoots, UrlPolicy};
pub(crate) use self::error::{Error, SetupError};
