//! One order (RFC 8555 §7.4): asks for a certificate, proves control of the host, and fetches the
//! certificate.

use std::sync::Arc;
use std::time::Duration;

use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, ChallengeType, Identifier, NewOrder, Order, OrderStatus,
    RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use tokio::time::timeout;

use super::error::AcmeError;
use super::{AcmeSettings, ChallengeKind};
use crate::tls::challenges::{Answer, Challenges};

/// How long an order may take, while other hosts wait. Authorities validate within seconds; one
/// whose validation is from several places, or that waits for its log servers, may take a minute.
const ORDER_TIMEOUT: Duration = Duration::from_secs(2 * 60);

/// When the gateway polls whether the ACME server is done: after half a second, and then at growing
/// intervals, unless the ACME server says when.
const POLLING: RetryPolicy =
    RetryPolicy::new().initial_delay(Duration::from_millis(500)).backoff(1.5).timeout(ORDER_TIMEOUT);

/// Obtains a certificate for `host`. Returns its key and its chain in PEM.
///
/// # Errors
///
/// [`AcmeError`].
///
/// # Cancel safety
///
/// May be dropped at any time; the order is then left to expire.
pub(super) async fn obtain(
    account: &Account,
    host: &str,
    settings: &AcmeSettings,
    challenges: &Arc<Challenges>,
) -> Result<String, AcmeError> {
    let obtaining = timeout(ORDER_TIMEOUT, obtain_unbounded(account, host, settings, challenges));
    obtaining.await.unwrap_or(Err(AcmeError::Timeout { seconds: ORDER_TIMEOUT.as_secs() }))
}

async fn obtain_unbounded(
    account: &Account,
    host: &str,
    settings: &AcmeSettings,
    challenges: &Arc<Challenges>,
) -> Result<String, AcmeError> {
    let identifiers = [Identifier::Dns(host.to_owned())];
    let mut new_order = NewOrder::new(&identifiers);
    if let Some(profile) = &settings.profile {
        new_order = new_order.profile(profile);
    }
    let mut order = account.new_order(&new_order).await?;
    // One for each identifier (RFC 8555 §7.1.3). The library keeps what it fetches.
    if order.state().authorizations.len() != 1 {
        let what = "the ACME server wants another number of authorizations than one for one host";
        return Err(AcmeError::Protocol(what.to_owned()));
    }
    validate(&mut order, host, settings.challenge, challenges).await?;
    let (csr, key) = request_for(host)?;
    order.finalize_csr(&csr).await?;
    let chain = order.poll_certificate(&POLLING).await?;
    Ok(key + &chain)
}

/// Proves that the gateway controls the host. Answers challenges until the ACME server has decided.
async fn validate(
    order: &mut Order,
    host: &str,
    kind: ChallengeKind,
    challenges: &Arc<Challenges>,
) -> Result<(), AcmeError> {
    let mut answers: Vec<Answer> = Vec::new();
    let mut authorizations = order.authorizations();
    while let Some(authorization) = authorizations.next().await {
        let authorization = authorization?;
        match authorization.status {
            AuthorizationStatus::Pending => answers.push(answer(authorization, host, kind, challenges).await?),
            // Validated for an earlier order, which failed before it had a certificate.
            AuthorizationStatus::Valid => {}
            AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated => return Err(AcmeError::invalid(None)),
        }
    }
    match order.poll_ready(&POLLING).await {
        Ok(OrderStatus::Ready) => Ok(()),
        Ok(_) => Err(cause(order).await.unwrap_or_else(|| AcmeError::invalid(None))),
        // The error of the challenge says more than that of the order.
        Err(error) => Err(cause(order).await.unwrap_or_else(|| error.into())),
    }
}

/// Prepares the answer to the challenge, and tells the ACME server that it is ready.
async fn answer(
    mut authorization: AuthorizationHandle<'_>,
    host: &str,
    kind: ChallengeKind,
    challenges: &Arc<Challenges>,
) -> Result<Answer, AcmeError> {
    let is_ours =
        matches!(authorization.identifier().identifier, Identifier::Dns(name) if name.eq_ignore_ascii_case(host));
    if !is_ours {
        return Err(AcmeError::Protocol("the ACME server wants to validate another host".to_owned()));
    }
    let wanted = match kind {
        ChallengeKind::Http01 => ChallengeType::Http01,
        ChallengeKind::TlsAlpn01 => ChallengeType::TlsAlpn01,
    };
    let not_offered = AcmeError::ChallengeNotOffered { kind: kind.name() };
    let mut challenge = authorization.challenge(wanted).ok_or(not_offered)?;
    let key_authorization = challenge.key_authorization();
    let answer = match kind {
        ChallengeKind::Http01 if is_token(&challenge.token) => {
            challenges.answer_requests(&challenge.token, key_authorization.as_str())
        }
        ChallengeKind::Http01 => {
            return Err(AcmeError::Protocol("the token of the challenge is malformed".to_owned()));
        }
        ChallengeKind::TlsAlpn01 => {
            let digest = key_authorization.digest();
            let digest = digest.as_ref().try_into().expect("SHA-256 has 32 bytes");
            challenges.answer_handshakes(host, digest)?
        }
    };
    challenge.set_ready().await?;
    Ok(answer)
}

/// Whether `token` is base64url, as RFC 8555 §8.3 requires. The token becomes part of a response.
fn is_token(token: &str) -> bool {
    !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// Why the ACME server has not validated the host, if it says so.
async fn cause(order: &mut Order) -> Option<AcmeError> {
    let mut authorizations = order.authorizations();
    while let Some(Ok(mut authorization)) = authorizations.next().await {
        let state = authorization.refresh().await.ok()?;
        if let Some(problem) = state.challenges.iter().find_map(|challenge| challenge.error.as_ref()) {
            return Some(AcmeError::invalid(Some(problem)));
        }
    }
    None
}

/// A certificate signing request (RFC 2986) with a new ECDSA P-256 key: the request in DER, and the
/// key in PEM.
fn request_for(host: &str) -> Result<(Vec<u8>, String), AcmeError> {
    let failed = |error: rcgen::Error| AcmeError::Unusable(error.to_string());
    let mut params = CertificateParams::new(vec![host.to_owned()]).map_err(failed)?;
    params.distinguished_name = DistinguishedName::new();
    let key = KeyPair::generate().map_err(failed)?;
    let request = params.serialize_request(&key).map_err(failed)?;
    Ok((request.der().to_vec(), key.serialize_pem()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_base64url() {
        for (token, expected) in
            [("evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr_oA", true), ("", false), ("a/b", false), ("<b>", false)]
        {
            assert_eq!(is_token(token), expected, "{token:?}");
        }
    }
}
