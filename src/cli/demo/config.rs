//! The demo's configuration: what a reader would write for the same purpose.

use std::net::SocketAddr;

/// The audience of the demo's tokens.
pub(super) const AUDIENCE: &str = "demo-api";

/// Where everything listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) gateway: SocketAddr,
    pub(super) issuer: SocketAddr,
    pub(super) upstream: SocketAddr,
    pub(super) admin: SocketAddr,
}

/// The text of the file.
pub(super) fn text(addresses: &Addresses) -> String {
    let Addresses { gateway, issuer, upstream, admin } = addresses;
    format!(
        r#"[server]
listen = "{gateway}"

[admin]
listen = "{admin}"

[issuers.local]                    # the demo's own issuer; keys are found from its address
issuer = "http://{issuer}"
audiences = ["{AUDIENCE}"]
role_claims = ["roles"]

[upstreams.sample]                 # says what it received
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

[[routes]]                         # everybody
path = "/public/*"
access = "public"
upstream = "sample"

[[routes]]                         # any valid token
path = "/me"
upstream = "sample"

[[routes]]                         # a token with a scope
path = "/orders/*"
methods = ["GET"]
scopes = ["orders:read"]
upstream = "sample"

[[routes]]                         # the same path, another method, another scope
path = "/orders/*"
methods = ["POST", "PUT", "DELETE"]
scopes = ["orders:write"]
upstream = "sample"

[[routes]]                         # a role
path = "/admin/*"
roles = ["admin"]
upstream = "sample"

[[routes]]                         # five requests a minute for each caller
path = "/limited"
limits = ["five-a-minute"]
upstream = "sample"

[[routes]]                         # for pages of another origin
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
    fn the_demos_configuration_is_right() {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let addresses = Addresses { gateway: address, issuer: address, upstream: address, admin: address };
        let plan = Plan::compile(load_text("demo.toml", &text(&addresses), &|_| None));
        assert_eq!(plan.map(|plan| plan.routes.len()).map_err(|problems| problems.to_string()), Ok(7));
    }
}
