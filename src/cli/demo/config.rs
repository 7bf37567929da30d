//! The demo's configuration, in the form that an operator would write.

use std::net::SocketAddr;

/// The audience of the demo's tokens.
pub(super) const AUDIENCE: &str = "demo-api";

/// The addresses of all listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) gateway: SocketAddr,
    pub(super) issuer: SocketAddr,
    pub(super) upstream: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// The text of the configuration file.
pub(super) fn text(addresses: &Addresses) -> String {
    let Addresses { gateway, issuer, upstream, admin } = addresses;
    format!(
        r#"[server]
listen = "{gateway}"

[admin]
listen = "{admin}"

[issuers.local]                    # the demo's issuer; its keys are found by discovery
issuer = "http://{issuer}"
audiences = ["{AUDIENCE}"]
algorithms = ["ES256"]
role_claims = ["roles"]

[upstreams.sample]                 # echoes the request as JSON
servers = ["http://{upstream}"]

[identity.headers]
X-Identity-Subject = "subject"
X-Identity-Issuer = "issuer"
X-Identity-Client = "client"
X-Identity-Scopes = "scopes"
X-Identity-Roles = "roles"
X-Identity-Plan = "claim:plan"

[limits.five-a-minute]
key = "subject"
rate = "5/min"
burst = 5

[cors.local-app]
origins = ["http://localhost:3000"]

[[routes]]                         # no token needed
path = "/public/*"
access = "public"
upstream = "sample"

[[routes]]                         # any valid token
path = "/me"
upstream = "sample"

[[routes]]                         # a token with this scope
path = "/orders/*"
methods = ["GET"]
scopes = ["orders:read"]
upstream = "sample"

[[routes]]                         # the same path with other methods and another scope
path = "/orders/*"
methods = ["POST", "PUT", "DELETE"]
scopes = ["orders:write"]
upstream = "sample"

[[routes]]                         # a token with this role
path = "/admin/*"
roles = ["admin"]
upstream = "sample"

[[routes]]                         # five requests per minute and caller
path = "/limited"
limits = ["five-a-minute"]
upstream = "sample"

[[routes]]                         # for web pages of another origin
path = "/browser/*"
cors = "local-app"
upstream = "sample"
"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load_text;
    use crate::plan::Plan;

    #[test]
    fn the_demos_configuration_compiles() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let addresses = Addresses { gateway: address, issuer: address, upstream: address, admin: address };
        let plan = Plan::compile(load_text("demo.toml", &text(&addresses), &|_| None));
        assert_eq!(plan.map(|plan| plan.routes.len()).map_err(|problems| problems.to_string()), Ok(7));
    }
}
