//! `[server.tls]`: what can be checked without reading the files.

use std::path::PathBuf;

use crate::acme::AcmeSettings;
use crate::config::key_path::element;
use crate::config::problem::quoted;
use crate::config::units;
use crate::config::{Problems, Server, ServerTls};
use crate::tls::client_auth::{ClientAuthMode, ClientAuthSettings};
use crate::tls::server::{CertificateFiles, ServerTlsSettings, TlsVersion};

const CERTIFICATES_HINT: &str = "write at least one, such as `certificates = [{ cert = \"/etc/portcullis/tls.crt\", key = \"/etc/portcullis/tls.key\" }]`";

/// The hint for a key that has no effect while clients are not asked for a certificate.
pub(super) const CLIENT_AUTH_HINT: &str =
    "write `client_auth = \"required\"` or `\"optional\"` in `[server.tls]`, or remove the key";

/// Whether clients are asked for a certificate.
pub(super) fn asks_for_client_certificates(server: &Server) -> bool {
    server.tls.as_ref().is_some_and(|tls| tls.client_auth != units::ClientAuth::None)
}

/// Checks what can be checked without reading the files. `acme` has the hosts whose certificates
/// the gateway obtains itself.
pub(super) fn compile(
    tls: &ServerTls,
    acme: Option<&AcmeSettings>,
    problems: &mut Problems,
) -> Option<ServerTlsSettings> {
    let problems_before = problems.len();
    let mut certificates: Vec<CertificateFiles> = Vec::new();
    for (index, certificate) in tls.certificates.iter().enumerate() {
        let key_path = element("server.tls.certificates", index);
        let mut file = |name: &str, value: &Option<String>| match value.as_deref() {
            None | Some("") => {
                problems.add_with_hint(format!("{key_path}.{name}"), "missing", "write the path of a PEM file");
                None
            }
            Some(path) => Some(PathBuf::from(path)),
        };
        let files = (file("cert", &certificate.cert), file("key", &certificate.key));
        let (Some(chain), Some(key)) = files else { continue };
        if certificates.iter().any(|other| other.chain == chain) {
            let what = format!("{} is listed twice", quoted(&chain.display().to_string()));
            problems.add(format!("{key_path}.cert"), what);
        }
        certificates.push(CertificateFiles { chain, key });
    }
    if tls.certificates.is_empty() && tls.acme.is_none() {
        problems.add_with_hint("server.tls.certificates", "missing", CERTIFICATES_HINT);
    }
    let min_version = match tls.min_version {
        units::TlsVersion::Tls12 => TlsVersion::Tls12,
        units::TlsVersion::Tls13 => TlsVersion::Tls13,
    };
    let client_auth = compile_client_auth(tls, problems);
    (problems.len() == problems_before).then(|| ServerTlsSettings {
        certificates,
        managed: acme.map(AcmeSettings::managed).unwrap_or_default(),
        min_version,
        client_auth,
    })
}

fn compile_client_auth(tls: &ServerTls, problems: &mut Problems) -> Option<ClientAuthSettings> {
    let mut file = |key: &str, value: &Option<String>| match value.as_deref() {
        Some("") => {
            problems.add_with_hint(format!("server.tls.{key}"), "empty", "write the path of a PEM file");
            None
        }
        path => path.map(PathBuf::from),
    };
    let (authorities, revocations) = (file("client_ca", &tls.client_ca), file("client_crl", &tls.client_crl));
    let mode = match tls.client_auth {
        units::ClientAuth::None => {
            for (key, value) in [("client_ca", &tls.client_ca), ("client_crl", &tls.client_crl)] {
                if value.is_some() {
                    problems.add_with_hint(
                        format!("server.tls.{key}"),
                        "has no effect, because clients are not asked for a certificate",
                        CLIENT_AUTH_HINT,
                    );
                }
            }
            return None;
        }
        units::ClientAuth::Optional => ClientAuthMode::Optional,
        units::ClientAuth::Required => ClientAuthMode::Required,
    };
    if tls.client_ca.is_none() {
        problems.add_with_hint(
            "server.tls.client_ca",
            "missing, although `client_auth` is set",
            "write the path of a PEM file with the authorities that issue the clients' certificates",
        );
    }
    Some(ClientAuthSettings { mode, authorities: authorities?, revocations })
}

#[cfg(test)]
mod tests {
    use crate::config::load_text;
    use crate::plan::Plan;

    #[test]
    fn problem_texts_say_what_is_wrong_and_what_to_write() {
        let file = r#"
[server.tls]
min_version = "1.1"
certificates = [
    { cert = "/a.crt", key = "/a.key" },
    { cert = "/a.crt", key = "/b.key" },
    { key = "/c.key" },
    { cert = "/d.crt", key = "" },
    "e.pem",
]
"#;
        let report = Plan::compile(load_text("gateway.toml", file, &|_| None)).map(|_| ()).unwrap_err();
        insta::assert_snapshot!(report, @r#"
        gateway.toml: 6 problems
                  routes: missing
                  hint: add at least one [[routes]] table; without it, every request is 404
          line 3  server.tls.min_version: `1.1` is not one of "1.2", "1.3"
                  hint: did you mean `1.2`?
          line 6  server.tls.certificates[1].cert: `/a.crt` is listed twice
          line 7  server.tls.certificates[2].cert: missing
                  hint: write the path of a PEM file
          line 8  server.tls.certificates[3].key: missing
                  hint: write the path of a PEM file
          line 9  server.tls.certificates[4]: invalid type: string "e.pem", expected a table
        "#);
        let report = Plan::compile(load_text("gateway.toml", "[server.tls]", &|_| None)).map(|_| ()).unwrap_err();
        insta::assert_snapshot!(report, @r#"
        gateway.toml: 2 problems
                  routes: missing
                  hint: add at least one [[routes]] table; without it, every request is 404
          line 1  server.tls.certificates: missing
                  hint: write at least one, such as `certificates = [{ cert = "/etc/portcullis/tls.crt", key = "/etc/portcullis/tls.key" }]`
        "#);
    }

    #[test]
    fn client_auth_comes_with_its_authorities_and_not_without() {
        let problems = |lines: &str| {
            let file = format!(
                "[server.tls]\ncertificates = [{{ cert = \"a.crt\", key = \"a.key\" }}]\n{lines}\n\
                 [upstreams.a]\nservers = [\"http://a\"]\n[[routes]]\npath = \"/\"\nupstream = \"a\"\naccess = \"public\""
            );
            match Plan::compile(load_text("gateway.toml", &file, &|_| None)) {
                Ok(_) => String::new(),
                Err(problems) => problems.to_string(),
            }
        };
        for (lines, expected) in [
            ("client_auth = \"required\"\nclient_ca = \"ca.pem\"", &[][..]),
            ("client_auth = \"optional\"\nclient_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"", &[]),
            ("client_auth = \"none\"", &[]),
            ("client_auth = \"required\"", &["server.tls.client_ca: missing, although `client_auth` is set"]),
            (
                "client_auth = \"optional\"\nclient_crl = \"crl.pem\"",
                &["server.tls.client_ca: missing, although `client_auth` is set"],
            ),
            ("client_auth = \"optional\"\nclient_ca = \"\"", &["server.tls.client_ca: empty"]),
            (
                "client_ca = \"ca.pem\"\nclient_crl = \"crl.pem\"",
                &[
                    "server.tls.client_ca: has no effect, because clients are not asked for a certificate",
                    "server.tls.client_crl: has no effect, because clients are not asked for a certificate",
                ],
            ),
            ("client_auth = true", &["server.tls.client_auth: "]),
        ] {
            let shown = problems(lines);
            assert_eq!(shown.matches("server.tls.").count(), expected.len(), "{lines}: {shown}");
            assert!(expected.iter().all(|part| shown.contains(part)), "{lines}: {shown}");
        }
    }
}
