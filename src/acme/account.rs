//! The gateway's account with an ACME server: read from the state directory, or created.

use instant_acme::{Account, AccountCredentials, Error, ExternalAccountKey, NewAccount};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::AcmeSettings;
use super::error::AcmeError;
use super::http::AcmeHttp;
use super::state::StateDirectory;
use crate::primitives::escape::escape_for_log;

/// The content of an account's file.
#[derive(Deserialize, Serialize)]
struct StoredAccount {
    /// The URL of the directory of the ACME server.
    directory: String,
    /// The contacts that the ACME server knows.
    contacts: Vec<String>,
    /// The account's URL and key, as the library serializes them.
    credentials: Value,
}

/// Opens the account with the ACME server of `settings`; creates one if there is none.
///
/// # Errors
///
/// [`AcmeError`].
pub(super) async fn open(
    settings: &AcmeSettings,
    state: &StateDirectory,
    http: &AcmeHttp,
) -> Result<Account, AcmeError> {
    let Some(text) = state.account(&settings.directory).await? else {
        return create(settings, state, http).await;
    };
    let Some((stored, credentials)) = read(&text, settings) else {
        return replace_unusable(settings, state, http).await;
    };
    let account = match Account::builder_with_http(Box::new(http.clone())).from_credentials(credentials).await {
        Err(Error::KeyRejected) => return replace_unusable(settings, state, http).await,
        outcome => outcome?,
    };
    if stored.contacts != settings.contacts {
        account.update_contacts(&contacts(settings)).await?;
        store(settings, state, stored.credentials).await?;
    }
    Ok(account)
}

fn read(text: &[u8], settings: &AcmeSettings) -> Option<(StoredAccount, AccountCredentials)> {
    let stored: StoredAccount = serde_json::from_slice(text).ok()?;
    let credentials = serde_json::from_value(stored.credentials.clone()).ok()?;
    (stored.directory == settings.directory.as_str()).then_some((stored, credentials))
}

async fn replace_unusable(
    settings: &AcmeSettings,
    state: &StateDirectory,
    http: &AcmeHttp,
) -> Result<Account, AcmeError> {
    tracing::warn!(directory = %settings.directory, "the stored ACME account cannot be used; its file is renamed to *.unusable, and a new one is created");
    replace(settings, state, http).await
}

/// Creates another account. Renames the file of the previous one, so that it is not lost.
///
/// # Errors
///
/// [`AcmeError`].
pub(super) async fn replace(
    settings: &AcmeSettings,
    state: &StateDirectory,
    http: &AcmeHttp,
) -> Result<Account, AcmeError> {
    state.keep_account_aside(&settings.directory).await?;
    create(settings, state, http).await
}

async fn create(settings: &AcmeSettings, state: &StateDirectory, http: &AcmeHttp) -> Result<Account, AcmeError> {
    // The operator has agreed with `terms_agreed`, without which there are no settings.
    let account =
        NewAccount { contact: &contacts(settings), terms_of_service_agreed: true, only_return_existing: false };
    let external = settings.external_account.as_ref();
    let external = external.map(|account| ExternalAccountKey::new(account.key_id.clone(), &account.hmac_key));
    let directory = settings.directory.to_string();
    let builder = Account::builder_with_http(Box::new(http.clone()));
    let (account, credentials) = builder.create(&account, directory, external.as_ref()).await?;
    let credentials = serde_json::to_value(&credentials).expect("credentials are JSON");
    store(settings, state, credentials).await?;
    let url = escape_for_log(account.id());
    tracing::info!(directory = %settings.directory, account = url, "ACME account created");
    Ok(account)
}

async fn store(settings: &AcmeSettings, state: &StateDirectory, credentials: Value) -> Result<(), AcmeError> {
    let (directory, contacts) = (settings.directory.to_string(), settings.contacts.clone());
    let text = serde_json::to_string(&StoredAccount { directory, contacts, credentials }).expect("text is JSON");
    Ok(state.store_account(&settings.directory, text).await?)
}

fn contacts(settings: &AcmeSettings) -> Vec<&str> {
    settings.contacts.iter().map(String::as_str).collect()
}
