//! When the ACME server wants a certificate to be renewed (ARI, RFC 9773). It asks for an early
//! renewal before it revokes a certificate, for instance.

use instant_acme::{Account, CertificateIdentifier, Error, SuggestedWindow};
use rustls_pki_types::CertificateDer;

use super::error::AcmeError;
use crate::primitives::clock::WallTime;

/// The time at which the ACME server suggests to renew `certificate`: `fraction` (from 0 to 1) of
/// its window. `None` if it makes no suggestions.
///
/// # Errors
///
/// [`AcmeError`].
pub(super) async fn suggested_time(
    account: &Account,
    certificate: &CertificateDer<'_>,
    fraction: f64,
) -> Result<Option<WallTime>, AcmeError> {
    // Without an authority key identifier, the certificate has no name in this protocol.
    let Ok(identifier) = CertificateIdentifier::try_from(certificate) else { return Ok(None) };
    match account.renewal_info(&identifier).await {
        Ok((info, _)) => Ok(time_in(&info.suggested_window, fraction)),
        Err(Error::Unsupported(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// A time in `window`; `None` if the window ends before it begins.
fn time_in(window: &SuggestedWindow, fraction: f64) -> Option<WallTime> {
    let [start, end] = [window.start, window.end].map(|time| u64::try_from(time.unix_timestamp()).unwrap_or(0));
    let length = std::time::Duration::from_secs(end.checked_sub(start)?);
    Some(WallTime::from_seconds(start.saturating_add(length.mul_f64(fraction).as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_in_the_window() {
        let window = |text: &str| serde_json::from_str::<SuggestedWindow>(text).unwrap();
        let two_days = window(r#"{"start":"2027-01-15T08:00:00Z","end":"2027-01-17T08:00:00Z"}"#);
        for (fraction, expected) in [(0.0, 1_800_000_000), (0.5, 1_800_086_400), (1.0, 1_800_172_800)] {
            assert_eq!(time_in(&two_days, fraction), Some(WallTime::from_seconds(expected)), "{fraction}");
        }
        let early = window(r#"{"start":"0001-01-01T00:00:00Z","end":"0002-01-01T00:00:00Z"}"#);
        assert_eq!(time_in(&early, 0.5), Some(WallTime::default()));
        let inverted = window(r#"{"start":"2027-01-17T08:00:00Z","end":"2027-01-15T08:00:00Z"}"#);
        assert_eq!(time_in(&inverted, 0.5), None);
    }
}
