//! The addresses to listen on, and the permissions of Unix sockets.

use std::net::SocketAddr;
use std::path::PathBuf;

use url::Url;

use crate::config::key_path::element;
use crate::config::problem::quoted;
use crate::config::{Problems, Server};
use crate::gateway::runtime::HttpsOrigin;
use crate::primitives::listen_address::{ListenAddress, ListenerService, ListenerSettings, UnixMode, unix_path};

const DEFAULT_HTTPS_PORT: u16 = 443;

const ADDRESS_HINT: &str = "write an IP address and a port, such as \"127.0.0.1:8080\", \"0.0.0.0:8080\" or \
                            \"[::]:8080\", a Unix socket, such as \"unix:/run/portcullis/http.sock\", or \
                            \"systemd:NAME\" for a socket that systemd hands over";

/// All listeners, those of `listen` first.
pub(super) fn compile_listeners(server: &Server, problems: &mut Problems) -> Vec<ListenerSettings> {
    let of_listen = if server.tls.is_some() { ListenerService::Tls } else { ListenerService::Plain };
    let mut listeners = Vec::new();
    for (key_path, texts, service) in [
        ("server.listen", server.listen.as_slice(), of_listen),
        ("server.plain_listen", &server.plain_listen, ListenerService::Plain),
        ("server.redirect_listen", &server.redirect_listen, ListenerService::HttpsRedirect),
    ] {
        for (index, address) in compile_addresses(key_path, texts, problems) {
            let is_taken = |other: &ListenerSettings| other.service != service && address.collides_with(&other.address);
            if listeners.iter().any(is_taken) {
                let what =
                    format!("{} is already an address of another kind of listener", quoted(&address.to_string()));
                problems.add(element(key_path, index), what);
            }
            listeners.push(ListenerSettings { address, service });
        }
    }
    if server.listen.as_slice().is_empty() {
        problems.add_with_hint("server.listen", "the list is empty", ADDRESS_HINT);
    }
    if server.tls.is_none() && !server.plain_listen.is_empty() {
        let hint = "add the addresses to `listen`, or add `[server.tls]`";
        problems.add_with_hint("server.plain_listen", "has no effect without TLS, which is a matter of `listen`", hint);
    }
    if server.tls.is_none() && server.public_url.is_none() && !server.redirect_listen.is_empty() {
        let hint = "add `[server.tls]`; if a proxy has the certificate, set `public_url`";
        problems.add_with_hint("server.redirect_listen", "there is no https to redirect to", hint);
    }
    listeners
}

/// Where redirects to https lead.
pub(super) fn compile_https_origin(
    server: &Server,
    listeners: &[ListenerSettings],
    problems: &mut Problems,
) -> HttpsOrigin {
    let port_of = |listener: &ListenerSettings| match (&listener.address, listener.service) {
        (ListenAddress::Tcp(address), ListenerService::Tls) => Some(address.port()),
        (ListenAddress::Tcp(_), ListenerService::HttpsRedirect | ListenerService::Plain)
        | (ListenAddress::Unix(_) | ListenAddress::Systemd(_), _) => None,
    };
    let Some(text) = &server.public_url else {
        // Port 0 means any free port, which is not known before it is bound.
        let port = listeners.iter().find_map(port_of).filter(|port| !matches!(*port, 0 | DEFAULT_HTTPS_PORT));
        return HttpsOrigin::RequestedHost { port };
    };
    let hint = "write scheme and host, and the port unless it is the default, such as \"https://api.example.com\"";
    let mut refuse = |what: &str| problems.add_with_hint("server.public_url", format!("{} {what}", quoted(text)), hint);
    match Url::parse(text) {
        Ok(url) if !matches!(url.scheme(), "http" | "https") || !url.has_host() => {
            refuse("is not an http or https URL");
        }
        Ok(url)
            if url.path() != "/"
                || url.query().is_some()
                || url.fragment().is_some()
                || !url.username().is_empty()
                || url.password().is_some() =>
        {
            refuse("has more than scheme, host and port");
        }
        Ok(url) if url.scheme() == "http" && !server.redirect_listen.is_empty() => {
            refuse("is not https, but `redirect_listen` redirects there");
        }
        Ok(url) => return HttpsOrigin::Fixed(url.origin().ascii_serialization().into()),
        Err(error) => refuse(&format!("is not a URL: {error}")),
    }
    HttpsOrigin::RequestedHost { port: None }
}

/// The addresses of the key at `key_path`, each with its index.
fn compile_addresses(key_path: &str, texts: &[String], problems: &mut Problems) -> Vec<(usize, ListenAddress)> {
    let mut addresses: Vec<(usize, ListenAddress)> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let key_path = if texts.len() > 1 { element(key_path, index) } else { key_path.to_owned() };
        match ListenAddress::parse(text) {
            Ok(address) if addresses.iter().any(|(_, other)| address.collides_with(other)) => {
                problems.add(key_path, format!("{} is listed twice", quoted(text)));
            }
            Ok(address) => addresses.push((index, address)),
            Err(error) => problems.add_with_hint(key_path, format!("{} {error}", quoted(text)), ADDRESS_HINT),
        }
    }
    addresses
}

/// An IP address with a port.
///
/// # Errors
///
/// What is wrong with the text.
pub(super) fn parse_tcp_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("{} is not an IP address with a port", quoted(text)))
}

/// The permissions of Unix sockets, `server.unix_mode`. Without a valid value they are those of the
/// owner alone.
pub(super) fn compile_unix_mode(text: &str, problems: &mut Problems) -> UnixMode {
    UnixMode::parse(text).unwrap_or_else(|| {
        problems.add_with_hint(
            "server.unix_mode",
            format!("{} is not a file mode", quoted(text)),
            "write three octal digits after a zero, such as \"0660\" for the owner and the group",
        );
        UnixMode::OWNER
    })
}

/// `server.takeover_socket`.
pub(super) fn compile_takeover_socket(
    server: &Server,
    listeners: &[ListenerSettings],
    problems: &mut Problems,
) -> Option<PathBuf> {
    let text = server.takeover_socket.as_ref()?;
    let mut refuse = |what: &str| {
        let hint = "write a path that only this gateway uses, such as \"/run/portcullis/takeover.sock\"";
        problems.add_with_hint("server.takeover_socket", format!("{} {what}", quoted(text)), hint);
        None
    };
    match unix_path(text) {
        Ok(path) if listeners.iter().any(|listener| listener.address == ListenAddress::Unix(path.clone())) => {
            refuse("is also the address of a listener")
        }
        Ok(path) => Some(path),
        Err(error) => refuse(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use crate::plan::Plan;

    fn problems(server: &str) -> Vec<String> {
        let file = format!("[server]\n{server}");
        let report = Plan::compile(load_text("gateway.toml", &file, &|_| None)).map(|_| ()).unwrap_err();
        let of_server = report.iter().filter(|problem| problem.path.starts_with("server"));
        of_server.map(|problem| format!("{}: {}", problem.path, problem.what)).collect()
    }

    #[test]
    fn problems_of_listeners_and_of_the_public_url_are_reported() {
        const TLS: &str = "tls = { certificates = [{ cert = \"/c\", key = \"/k\" }] }\n";
        for (name, server, expected) in [
            ("good", format!("{TLS}plain_listen = [\"127.0.0.1:1\"]\nredirect_listen = [\"127.0.0.1:2\"]"), &[][..]),
            (
                "the same address twice",
                format!("{TLS}listen = \"127.0.0.1:1\"\nplain_listen = [\"127.0.0.1:1\"]"),
                &["server.plain_listen[0]: `127.0.0.1:1` is already an address of another kind of listener"],
            ),
            (
                "without TLS",
                "plain_listen = [\"127.0.0.1:1\"]\nredirect_listen = [\"127.0.0.1:2\"]".to_owned(),
                &[
                    "server.plain_listen: has no effect without TLS, which is a matter of `listen`",
                    "server.redirect_listen: there is no https to redirect to",
                ],
            ),
            ("TLS in a proxy", "redirect_listen = [\"127.0.0.1:2\"]\npublic_url = \"https://a.test\"".to_owned(), &[]),
            (
                "a redirect to http",
                "redirect_listen = [\"127.0.0.1:2\"]\npublic_url = \"http://a.test\"".to_owned(),
                &["server.public_url: `http://a.test` is not https, but `redirect_listen` redirects there"],
            ),
            (
                "a path",
                "public_url = \"https://a.test/api\"".to_owned(),
                &["server.public_url: `https://a.test/api` has more than scheme, host and port"],
            ),
            (
                "another scheme",
                "public_url = \"ftp://a.test\"".to_owned(),
                &["server.public_url: `ftp://a.test` is not an http or https URL"],
            ),
        ] {
            assert_eq!(problems(&server), expected, "{name}");
        }
    }

    #[test]
    fn a_redirect_leads_to_the_port_of_the_first_listener_with_tls() {
        for (listen, port) in [("0.0.0.0:8443", Some(8443)), ("0.0.0.0:443", None), ("unix:/run/a", None)] {
            let listeners = [("127.0.0.1:80", ListenerService::HttpsRedirect), (listen, ListenerService::Tls)];
            let listeners = listeners.map(|(text, service)| {
                let address = ListenAddress::parse(text).unwrap();
                ListenerSettings { address, service }
            });
            let origin = compile_https_origin(&Server::default(), &listeners, &mut Problems::new(""));
            assert_eq!(origin, HttpsOrigin::RequestedHost { port }, "{listen}");
        }
    }
}
