//! A warning about Unix sockets that every user of the machine may connect to.

use super::Warning;
use crate::plan::ServerPlan;
use crate::primitives::listen_address::ListenAddress;

/// A warning if there is such a socket.
pub(super) fn warning(server: &ServerPlan) -> Option<Warning> {
    let has_socket = server.listeners.iter().any(|listener| matches!(listener.address, ListenAddress::Unix(_)));
    (has_socket && server.unix_mode.admits_everyone()).then(|| Warning {
        key: "server.unix_mode".to_owned(),
        what: "every user of this machine may connect to the Unix sockets, and is trusted like a proxy in \
               `trusted_proxies`: it can write the client's address"
            .to_owned(),
        hint: "write \"0660\", and give the socket's group to the proxy in front".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use crate::config;
    use crate::plan::Plan;

    #[test]
    fn a_socket_that_every_user_may_connect_to_is_warned_of() {
        for (name, server, expected) in [
            ("everyone", "listen = \"unix:/run/a.sock\"\nunix_mode = \"0666\"", true),
            ("the group", "listen = \"unix:/run/a.sock\"\nunix_mode = \"0660\"", false),
            ("no socket", "unix_mode = \"0666\"", false),
        ] {
            let text = format!(
                "[server]\n{server}\n[upstreams.up]\nservers = [\"http://127.0.0.1:1\"]\n\
                 [[routes]]\npath = \"/\"\naccess = \"public\"\nupstream = \"up\"\n"
            );
            let plan = Plan::compile(config::load_text("gateway.toml", &text, &|_| None)).unwrap();
            let keys: Vec<String> = plan.warnings().into_iter().map(|warning| warning.key).collect();
            assert_eq!(keys.contains(&"server.unix_mode".to_owned()), expected, "{name}");
        }
    }
}
