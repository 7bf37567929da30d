//! `[server.tls]`: what can be checked without reading the files.

use std::path::PathBuf;

use crate::config::key_path::element;
use crate::config::problem::quoted;
use crate::config::units;
use crate::config::{Problems, ServerTls};
use crate::tls::server::{CertificateFiles, ServerTlsSettings, TlsVersion};

const CERTIFICATES_HINT: &str = "write at least one, such as `certificates = [{ cert = \"/etc/portcullis/tls.crt\", key = \"/etc/portcullis/tls.key\" }]`";

/// Checks what can be checked without reading the files.
pub(super) fn compile(tls: &ServerTls, problems: &mut Problems) -> Option<ServerTlsSettings> {
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
    if tls.certificates.is_empty() {
        problems.add_with_hint("server.tls.certificates", "missing", CERTIFICATES_HINT);
    }
    let min_version = match tls.min_version {
        units::TlsVersion::Tls12 => TlsVersion::Tls12,
        units::TlsVersion::Tls13 => TlsVersion::Tls13,
    };
    (problems.len() == problems_before).then_some(ServerTlsSettings { certificates, min_version })
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
}
