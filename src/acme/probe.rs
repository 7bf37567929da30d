//! `check --online`: whether the ACME server can be reached. Nothing is ordered.

use bytes::Bytes;
use instant_acme::{BodyWrapper, HttpClient as _};
use serde::Deserialize;

use super::AcmeSettings;
use super::error::AcmeError;
use super::http::AcmeHttp;

/// What every directory has (RFC 8555 §7.1.1). Only its presence matters.
#[derive(Deserialize)]
struct Directory {
    #[serde(rename = "newNonce")]
    _nonce: String,
    #[serde(rename = "newAccount")]
    _account: String,
    #[serde(rename = "newOrder")]
    _order: String,
}

/// Fetches the directory of the ACME server.
///
/// # Errors
///
/// [`AcmeError`]: it cannot be fetched, or it is not a directory.
pub(crate) async fn fetch_directory(settings: &AcmeSettings) -> Result<(), AcmeError> {
    let http = AcmeHttp::new(settings).await?;
    let request = http::Request::get(settings.directory.as_str()).body(BodyWrapper::<Bytes>::default());
    let mut response = http.request(request.map_err(instant_acme::Error::from)?).await?;
    let body = response.body.into_bytes().await.map_err(instant_acme::Error::Other)?;
    let _: Directory = serde_json::from_slice(&body).map_err(instant_acme::Error::from)?;
    Ok(())
}
