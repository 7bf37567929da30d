//! `[server.tls.acme]`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::Url;

use super::syntax::nonzero_duration;
use crate::acme::{AcmeSettings, ChallengeKind, ExternalAccount};
use crate::config;
use crate::config::key_path::element;
use crate::config::problem::quoted;
use crate::config::units::AcmeChallenge;
use crate::config::{Acme, Problems};
use crate::outbound::UrlPolicy;

const KEY: &str = "server.tls.acme";

/// The most hosts. Each needs an order of its own, and public authorities limit orders per week.
const MAX_HOSTS: usize = 100;

/// The longest URL of a directory, in bytes. Its letters become the name of a file.
const MAX_DIRECTORY_BYTES: usize = 200;

const HOSTS_HINT: &str = "list the host names, such as `hosts = [\"api.example.com\"]`";
const WILDCARD_HINT: &str = "list the hosts one by one, or obtain the certificate with certbot or cert-manager and \
                             add its files to `certificates`";
const DIRECTORY_HINT: &str = "write the https URL of a directory, such as \
                              \"https://acme-staging-v02.api.letsencrypt.org/directory\"";
const TERMS_HINT: &str = "read the terms of service that the ACME server links to, and write `terms_agreed = true`";

/// Compiles `acme`. The challenge `http-01` needs `has_redirect_listener`.
pub(super) fn compile(acme: &Acme, has_redirect_listener: bool, problems: &mut Problems) -> Option<AcmeSettings> {
    let problems_before = problems.len();
    let hosts = compile_hosts(&acme.hosts, problems);
    let directory = compile_directory(&acme.directory, problems);
    if !acme.terms_agreed {
        problems.add_with_hint(format!("{KEY}.terms_agreed"), "is not `true`", TERMS_HINT);
    }
    for (index, contact) in acme.contacts.iter().enumerate() {
        if !is_mail_url(contact) {
            let hint = "write an address such as \"mailto:ops@example.com\"";
            let what = format!("{} is not a mailto URL", quoted(contact));
            problems.add_with_hint(element(&format!("{KEY}.contacts"), index), what, hint);
        }
    }
    let challenge = match acme.challenge {
        AcmeChallenge::TlsAlpn01 => ChallengeKind::TlsAlpn01,
        AcmeChallenge::Http01 => ChallengeKind::Http01,
    };
    if challenge == ChallengeKind::Http01 && !has_redirect_listener {
        let hint = "add an address to `redirect_listen`, such as \"0.0.0.0:80\"";
        problems.add_with_hint(
            format!("{KEY}.challenge"),
            "`http-01` needs a listener without TLS at port 80, and `redirect_listen` is empty",
            hint,
        );
    }
    for (name, value) in
        [("state_dir", Some(&acme.state_dir)), ("ca_file", acme.ca_file.as_ref()), ("profile", acme.profile.as_ref())]
    {
        if value.is_some_and(String::is_empty) {
            problems.add(format!("{KEY}.{name}"), "must not be empty");
        }
    }
    let renew_before = acme.renew_before.map(|span| {
        let duration: Duration = nonzero_duration(&format!("{KEY}.renew_before"), span, problems);
        duration
    });
    let external_account = acme.external_account.as_ref().map(|account| compile_external_account(account, problems));
    let (directory, url_policy) = directory?;
    (problems.len() == problems_before).then(|| AcmeSettings {
        hosts,
        directory,
        url_policy,
        contacts: acme.contacts.clone(),
        state_dir: PathBuf::from(&acme.state_dir),
        challenge,
        ca_file: acme.ca_file.as_ref().map(PathBuf::from),
        profile: acme.profile.clone(),
        external_account: external_account.flatten(),
        renew_before,
    })
}

fn compile_hosts(texts: &[String], problems: &mut Problems) -> Vec<Arc<str>> {
    let key = format!("{KEY}.hosts");
    if texts.is_empty() {
        problems.add_with_hint(key.as_str(), "missing", HOSTS_HINT);
    } else if texts.len() > MAX_HOSTS {
        problems.add(key.as_str(), format!("{} hosts are more than the limit of {MAX_HOSTS}", texts.len()));
    }
    let (mut hosts, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, text) in texts.iter().enumerate() {
        let host = text.to_ascii_lowercase();
        let mut refuse = |what: &str, hint: &'static str| {
            problems.add_with_hint(element(&key, index), format!("{} {what}", quoted(text)), hint);
        };
        if host.starts_with("*.") {
            refuse("is a wildcard, which needs the challenge dns-01; the gateway does not support it", WILDCARD_HINT);
        } else if text.parse::<IpAddr>().is_ok() {
            refuse("is an IP address; the gateway obtains certificates for host names", HOSTS_HINT);
        } else if !is_host_name(&host) {
            refuse(
                "is not a host name",
                "write letters, digits, hyphens and dots, without a port; write other letters in Punycode (`xn--`)",
            );
        } else if seen.insert(host.clone()) {
            hosts.push(Arc::from(host));
        } else {
            refuse("is listed twice", "remove one of them");
        }
    }
    hosts
}

/// Whether `text`, in lower case, is a host name (RFC 1123 §2.1).
fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let usual = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        (1..=63).contains(&label.len()) && label.bytes().all(usual) && !label.starts_with('-') && !label.ends_with('-')
    };
    let ends_like_an_address =
        text.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(is_label) && !ends_like_an_address
}

fn compile_directory(text: &str, problems: &mut Problems) -> Option<(Url, UrlPolicy)> {
    let compiled = Url::parse(text).ok().filter(|_| text.len() <= MAX_DIRECTORY_BYTES);
    let compiled = compiled.and_then(|url| UrlPolicy::of(&url, false).map(|policy| (url, policy)));
    if compiled.is_none() {
        let what = format!("{} is not an https URL", quoted(text));
        problems.add_with_hint(format!("{KEY}.directory"), what, DIRECTORY_HINT);
    }
    compiled
}

fn is_mail_url(text: &str) -> bool {
    let address = text.strip_prefix("mailto:").and_then(|address| address.split_once('@'));
    let is_usual = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic());
    address.is_some_and(|(local, domain)| is_usual(local) && is_usual(domain) && !domain.contains('@'))
}

/// Compiles the external account binding. No message shows the key.
fn compile_external_account(account: &config::ExternalAccount, problems: &mut Problems) -> Option<ExternalAccount> {
    let mut required = |name: &str, value: &Option<String>| match value.as_deref() {
        None | Some("") => {
            let hint = "write the value that the authority has given you";
            problems.add_with_hint(format!("{KEY}.external_account.{name}"), "missing", hint);
            None
        }
        Some(text) => Some(text.to_owned()),
    };
    let (key_id, hmac_key) = (required("key_id", &account.key_id), required("hmac_key", &account.hmac_key)?);
    let Ok(hmac_key) = URL_SAFE_NO_PAD.decode(hmac_key.trim_end_matches('=')) else {
        problems.add(format!("{KEY}.external_account.hmac_key"), "is not base64url");
        return None;
    };
    Some(ExternalAccount { key_id: key_id?, hmac_key })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use crate::plan::Plan;

    fn compile(keys: &str) -> Result<Plan, String> {
        let text = format!(
            "[server.tls.acme]\n{keys}\n[issuers.main]\nissuer = \"https://idp.test\"\naudiences = [\"api\"]\n\
             [upstreams.up]\nservers = [\"http://127.0.0.1:1\"]\n[[routes]]\npath = \"/\"\nupstream = \"up\"\n"
        );
        Plan::compile(load_text("gateway.toml", &text, &|_| None)).map_err(|problems| problems.to_string())
    }

    #[test]
    fn problem_texts_say_what_is_wrong_and_what_to_write() {
        let report = compile(
            r#"
hosts = ["api.example.com", "*.example.com", "API.example.com", "192.0.2.1", "api.example.com:443", "-a.test", "1.2.3"]
directory = "http://acme.test/directory"
contacts = ["mailto:ops@example.com", "ops@example.com"]
state_dir = ""
challenge = "http-01"
renew_before = "0s"
external_account = { key_id = "kid", hmac_key = "not base64!" }"#,
        );
        insta::assert_snapshot!(report.unwrap_err(), @r#"
        gateway.toml: 13 problems
          line 1  server.tls.acme.terms_agreed: is not `true`
                  hint: read the terms of service that the ACME server links to, and write `terms_agreed = true`
          line 3  server.tls.acme.hosts[1]: `*.example.com` is a wildcard, which needs the challenge dns-01; the gateway does not support it
                  hint: list the hosts one by one, or obtain the certificate with certbot or cert-manager and add its files to `certificates`
          line 3  server.tls.acme.hosts[2]: `API.example.com` is listed twice
                  hint: remove one of them
          line 3  server.tls.acme.hosts[3]: `192.0.2.1` is an IP address; the gateway obtains certificates for host names
                  hint: list the host names, such as `hosts = ["api.example.com"]`
          line 3  server.tls.acme.hosts[4]: `api.example.com:443` is not a host name
                  hint: write letters, digits, hyphens and dots, without a port; write other letters in Punycode (`xn--`)
          line 3  server.tls.acme.hosts[5]: `-a.test` is not a host name
                  hint: write letters, digits, hyphens and dots, without a port; write other letters in Punycode (`xn--`)
          line 3  server.tls.acme.hosts[6]: `1.2.3` is not a host name
                  hint: write letters, digits, hyphens and dots, without a port; write other letters in Punycode (`xn--`)
          line 4  server.tls.acme.directory: `http://acme.test/directory` is not an https URL
                  hint: write the https URL of a directory, such as "https://acme-staging-v02.api.letsencrypt.org/directory"
          line 5  server.tls.acme.contacts[1]: `ops@example.com` is not a mailto URL
                  hint: write an address such as "mailto:ops@example.com"
          line 6  server.tls.acme.state_dir: must not be empty
          line 7  server.tls.acme.challenge: `http-01` needs a listener without TLS at port 80, and `redirect_listen` is empty
                  hint: add an address to `redirect_listen`, such as "0.0.0.0:80"
          line 8  server.tls.acme.renew_before: must be greater than zero
          line 9  server.tls.acme.external_account.hmac_key: is not base64url
        "#);
        let report = compile("challenge = \"dns-01\"\nexternal_account = {}\ndirectory = \"acme.test\"");
        insta::assert_snapshot!(report.unwrap_err(), @r#"
        gateway.toml: 6 problems
          line 1  server.tls.acme.hosts: missing
                  hint: list the host names, such as `hosts = ["api.example.com"]`
          line 1  server.tls.acme.terms_agreed: is not `true`
                  hint: read the terms of service that the ACME server links to, and write `terms_agreed = true`
          line 2  server.tls.acme.challenge: `dns-01` is not one of "tls-alpn-01", "http-01"
          line 3  server.tls.acme.external_account.key_id: missing
                  hint: write the value that the authority has given you
          line 3  server.tls.acme.external_account.hmac_key: missing
                  hint: write the value that the authority has given you
          line 4  server.tls.acme.directory: `acme.test` is not an https URL
                  hint: write the https URL of a directory, such as "https://acme-staging-v02.api.letsencrypt.org/directory"
        "#);
    }

    #[test]
    fn the_hosts_are_those_whose_certificates_the_gateway_manages() {
        let plan =
            compile("hosts = [\"API.example.com\", \"b.test\"]\nterms_agreed = true\nstate_dir = \"/s\"").unwrap();
        let managed: Vec<_> = plan.server.tls.unwrap().managed;
        let files: Vec<_> = managed.iter().map(|host| (&*host.host, host.file.to_str().unwrap())).collect();
        assert_eq!(
            files,
            [("api.example.com", "/s/certificates/api.example.com.pem"), ("b.test", "/s/certificates/b.test.pem")]
        );
        let acme = plan.server.acme.unwrap();
        assert_eq!(acme.directory.as_str(), "https://acme-v02.api.letsencrypt.org/directory");
        assert_eq!((acme.challenge, acme.url_policy), (ChallengeKind::TlsAlpn01, UrlPolicy::HttpsOnly));
    }

    /// Threat AC-3.
    #[test]
    fn the_key_of_an_external_account_is_not_shown() {
        let keys = "hosts = [\"a.test\"]\nterms_agreed = true\n";
        let secret = "external_account = { key_id = \"k\", hmac_key = \"c2VjcmV0\" }";
        let acme = compile(&format!("{keys}{secret}")).unwrap().server.acme.unwrap();
        assert_eq!(acme.external_account.as_ref().unwrap().hmac_key, b"secret");
        assert!(!format!("{acme:?}").contains("115, 101"), "{acme:?}");
        let broken = compile(&format!("{keys}{}", secret.replace("c2VjcmV0", "c2Vjc!!!"))).unwrap_err();
        assert!(!broken.contains("c2Vjc"), "{broken}");
    }
}
