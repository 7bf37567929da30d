//! Units and closed sets of words: the values that a key may have, parsed where they are read, so that a wrong one is reported with its line.

mod amounts;
mod choices;
mod lists;

pub use amounts::{AuthFailures, Rate, Size, SizeOrUnlimited, Span, Workers};
pub use choices::{Access, Balance, HostHeader, LogFormat, LogLevel, PathParameters, Profile, UpstreamProtocol};
pub use lists::{ClaimValue, OneOrMany};
