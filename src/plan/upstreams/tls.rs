//! `[upstreams.NAME.tls]`: what can be checked without reading the files.

use std::path::PathBuf;

use rustls_pki_types::ServerName;

use crate::config::key_path::{child, element};
use crate::config::problem::quoted;
use crate::config::{Problems, UpstreamTls};
use crate::tls::client::ClientTlsSettings;
use crate::tls::pin::Pin;
use crate::tls::server::CertificateFiles;

const PIN_HINT: &str = "write \"sha256/BASE64\"; `openssl x509 -in FILE -noout -pubkey | openssl pkey -pubin -outform DER | openssl dgst -sha256 -binary | openssl base64` prints the base64";

pub(super) fn compile(key_path: &str, tls: &UpstreamTls, problems: &mut Problems) -> ClientTlsSettings {
    let mut file = |name: &str, value: &Option<String>| match value.as_deref() {
        Some("") => {
            problems.add_with_hint(child(key_path, name), "empty", "write the path of a PEM file");
            None
        }
        path => path.map(PathBuf::from),
    };
    let (authorities, revocations) = (file("ca_file", &tls.ca_file), file("crl_file", &tls.crl_file));
    let identity = match (file("cert", &tls.cert), file("key", &tls.key)) {
        (Some(chain), Some(key)) => Some(CertificateFiles { chain, key }),
        (Some(_) | None, _) => None,
    };
    for (name, other, is_alone) in [
        ("key", "cert", tls.cert.is_some() && tls.key.is_none()),
        ("cert", "key", tls.key.is_some() && tls.cert.is_none()),
        ("ca_file", "crl_file", tls.crl_file.is_some() && tls.ca_file.is_none()),
    ] {
        if is_alone {
            let what = format!("missing, although `{other}` is there");
            problems.add_with_hint(child(key_path, name), what, format!("write both, or remove `{other}`"));
        }
    }
    let pins = compile_pins(&child(key_path, "pins"), &tls.pins, problems);
    ClientTlsSettings { authorities, revocations, identity, pins }
}

/// `server_name`, for all servers.
pub(super) fn server_name(key_path: &str, tls: &UpstreamTls, problems: &mut Problems) -> Option<ServerName<'static>> {
    let text = tls.server_name.as_deref()?;
    let name = ServerName::try_from(text.to_owned()).ok();
    if name.is_none() {
        problems.add_with_hint(
            child(key_path, "server_name"),
            format!("{} is neither a DNS name nor an IP address", quoted(text)),
            "write the name in the servers' certificates, such as \"orders.internal\"",
        );
    }
    name
}

fn compile_pins(key_path: &str, texts: &[String], problems: &mut Problems) -> Vec<Pin> {
    let mut pins = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let key_path = element(key_path, index);
        match Pin::parse(text) {
            Some(pin) if pins.contains(&pin) => problems.add(key_path, format!("{} is listed twice", quoted(text))),
            Some(pin) => pins.push(pin),
            None => problems.add_with_hint(
                key_path,
                format!("{} is not the SHA-256 of a public key", quoted(text)),
                PIN_HINT,
            ),
        }
    }
    pins
}
