//! The types of values: quantities with a unit, closed sets of words, one value or several.
//!
//! They are parsed while the file is read, so that a wrong value is reported with its line. They
//! serialize to what the file would hold, which is how defaults get into the schema.

mod amounts;
mod choices;
mod lists;
mod statuses;
mod workers;

pub(crate) use amounts::{ByteRate, Rate, Size, SizeOrUnlimited, TimeSpan};
pub(crate) use choices::{
    Access, AcmeChallenge, ClientAuth, ClientCert, ForwardClientCert, HostHeader, LogFormat, LogLevel, Profile,
    RetryOn, TlsVersion, TrustedHeader, UnusualPath, UpstreamProtocol,
};
pub(crate) use lists::{ClaimValue, OneOrMany};
pub(crate) use statuses::StatusRange;
pub(crate) use workers::Workers;
