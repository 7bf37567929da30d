//! The texts of the problems that `check` reports, for one file that breaks nearly every rule.

use super::Plan;
use crate::config::load_text;

#[test]
fn problem_texts_say_what_is_wrong_and_what_to_write() {
    let file = r#"
[server]
listen = ["127.0.0.1:1", "127.0.0.1:1", "localhost"]
header_timeout = "0s"
max_header_size = "10 B"
max_token_size = "64 KiB"
realm = 'a"b'
trusted_proxies = ["10.0.0.0/99"]
auth_failures = { burst = 1 }
[admin]
listen = "no"
[issuers.a]
issuer = "acme"
audiences = []
algorithms = ["HS256", "RS256", "RS256"]
leeway = "6m"
subject_claim = ""
[issuers.b]
issuer = "https://idp/?x"
audiences = [""]
algorithms = []
[issuers.c]
issuer = "https://idp/?x"
audiences = ["a"]
jwks_url = "keys"
[issuers.d]
audiences = ["a"]
[issuers.e]
issuer = "https://e"
audiences = ["a"]
jwks_url = "https://e/keys"
jwks_file = "keys.json"
[upstreams.up]
servers = ["https://a", "http://a", "http://a:80", "http://a/b", "a:b", { weight = 101 }]
[upstreams.down]
servers = []
health = { path = "health", host = "http://a", interval = "0s", expect = [] }
eject = { for = "0s", statuses = ["400-599", 503] }
[cors.web]
origins = ["null", "https://*.example.com", "https://App.example.com", "app"]
headers = ["*", "a b"]
methods = ["get", "CONNECT", "a b"]
[cors.any]
origins = ["*", "https://a"]
credentials = true
[limits.auth_failures]
key = "caller"
[limits.early]
key = "ip"
rate = "1/s"
tiers = {}
[limits.caller]
key = "subject"
rate = "1/s"
[limits.header]
key = "header:a b"
rate = "1/s"
[identity.headers]
X-Forwarded-For = "subject"
X-Identity-Subject = "sub"
[[routes]]
name = 'a"b'
host = "https://a"
path = "/a/../b"
methods = []
access = "public"
scopes = ["a"]
issuers = ["e"]
limits = ["caller", "caller"]
[[routes]]
path = "/.portcullis/x"
methods = ["PUT", "PUT"]
access = "optional"
roles = ["a"]
audiences = []
upstream = "upp"
cors = "webb"
[[routes]]
path = "/a/*"
scopes = ["a b"]
claims = { x = [] }
issuers = []
limits = ["x"]
upstream = "up"
strip_prefix = "/b"
add_prefix = "b"
timeout = "0s"
set_headers = { Content-Length = "1", X-Identity-Subject = "x", X-A = "a\nb", "a b" = "" }
remove_response_headers = ["WWW-Authenticate"]
[[routes]]
path = "/x"
upstream = "up"
[[routes]]
path = "/x"
upstream = "up"
"#;
    let report = Plan::compile(load_text("gateway.toml", file, &|_| None)).map(|_| ()).unwrap_err();
    insta::assert_snapshot!(report, @r##"
    gateway.toml: 84 problems
      line 3   server.listen[1]: `127.0.0.1:1` is listed twice
      line 3   server.listen[2]: `localhost` is not an IP address with a port
               hint: write an IP address and a port, such as "127.0.0.1:8080", "0.0.0.0:8080" or "[::]:8080", a Unix socket, such as "unix:/run/portcullis/http.sock", or "systemd:NAME" for a socket that systemd hands over
      line 4   server.header_timeout: must be greater than zero
      line 5   server.max_header_size: `10 B` is not between `1 KiB` and `1 MiB`
      line 7   server.realm: `a"b` contains a character that a realm cannot have
               hint: use printable ASCII characters other than `"` and `\`
      line 8   server.trusted_proxies[0]: `10.0.0.0/99` is not an IP address or a CIDR block
               hint: write an address or a block, such as "::1" or "10.0.0.0/8"
      line 9   server.auth_failures.rate: missing
               hint: write a rate such as "600/min"
      line 11  admin.listen: `no` is not an IP address with a port
               hint: write an address such as "127.0.0.1:9090", or "off" for no admin listener
      line 13  issuers.a.issuer: `acme` is not a URL: relative URL without a base
               hint: an issuer that is not a URL needs `discovery_url`, `jwks_url` or `jwks_file`
      line 14  issuers.a.audiences: missing
               hint: list at least one audience; otherwise tokens for any other service would be accepted
      line 15  issuers.a.algorithms[0]: `HS256` is not a supported algorithm
               hint: supported are RS256, RS384, RS512, ES256, ES384, PS256, PS384, PS512, EdDSA
      line 15  issuers.a.algorithms[2]: `RS256` is listed twice
      line 16  issuers.a.leeway: `6m` is longer than the limit of `5m`
      line 17  issuers.a.subject_claim: `` is not a claim path: it contains an empty name
               hint: write a path such as "sub" or "realm_access.roles"; for a name with dots, a JSON Pointer such as "/https:~1~1example.com~1roles"
      line 19  issuers.b.issuer: `https://idp/?x` has a query or a fragment, which an issuer cannot have
      line 20  issuers.b.audiences[0]: an audience cannot be empty
      line 21  issuers.b.algorithms: an empty list accepts no token
               hint: list at least one algorithm
      line 23  issuers.c.issuer: `https://idp/?x` is already the issuer of `issuers.b`
               hint: configure each issuer once
      line 25  issuers.c.jwks_url: `keys` is not a URL: relative URL without a base
               hint: write an absolute URL, such as "https://login.example.com/keys"
      line 26  issuers.d.issuer: missing
               hint: write the exact `iss` of the tokens, such as "https://login.example.com"
      line 32  issuers.e.jwks_file: cannot be combined with `jwks_url`
               hint: remove one of the two
      line 34  upstreams.up.servers[2]: `http://a:80` is listed twice
               hint: for a larger share, write `{ url = "…", weight = 2 }`
      line 34  upstreams.up.servers[3]: `http://a/b` has a path, a query or a fragment
               hint: write scheme, host and port only; `add_prefix` in a route puts a path in front
      line 34  upstreams.up.servers[4]: `a:b` is not an http or https URL
               hint: write scheme, host and port, such as "http://127.0.0.1:9000"
      line 34  upstreams.up.servers[5].weight: 101 is more than the limit of 100
               hint: weights are compared with each other: write smaller numbers in the same proportion
      line 34  upstreams.up.servers[5].url: missing
               hint: write scheme, host and port, such as "http://127.0.0.1:9000"
      line 34  upstreams.up.servers: some servers have https URLs and others have not, so that chance would decide what is encrypted
               hint: write `https://` for all of them, or make two upstreams of them
      line 36  upstreams.down.servers: missing
               hint: list at least one server, such as ["http://127.0.0.1:9000"]
      line 37  upstreams.down.health.path: `health` is not a path
               hint: write a path, such as "/health"
      line 37  upstreams.down.health.host: `http://a` is not a host
               hint: write a host, and a port if it needs one, such as "orders.internal"
      line 37  upstreams.down.health.interval: must be at least 100 ms
               hint: write a few seconds, such as "5s": every gateway process checks every server this often
      line 37  upstreams.down.health.expect: no status would pass, so that every server would be down
               hint: list at least one status, such as 200, or leave the key out
      line 38  upstreams.down.eject.statuses[0]: 400-599 is not a failure of the server
               hint: list statuses from 500 to 599
      line 38  upstreams.down.eject.for: must be greater than zero
      line 40  cors.web.origins[0]: `null` is not allowed: every sandboxed page and every local file has this origin
               hint: write the origin of the page, such as "https://app.example.com"
      line 40  cors.web.origins[1]: `https://*.example.com` is a pattern, but origins are compared exactly
               hint: list each origin; "*" alone allows every origin
      line 40  cors.web.origins[2]: `https://App.example.com` is not in the form that browsers send
               hint: write `https://app.example.com`
      line 40  cors.web.origins[3]: `app` is not an origin
               hint: write scheme and host, and the port unless it is the default, such as "https://app.example.com"
      line 41  cors.web.headers[0]: `*` is not supported: it does not cover `Authorization`, and with credentials it matches no header
               hint: list each header
      line 41  cors.web.headers[1]: `a b` is not a valid header name
      line 42  cors.web.methods[0]: `get` is not in upper case
               hint: methods are case-sensitive; write `GET`
      line 42  cors.web.methods[1]: `CONNECT` is not supported; the gateway never forwards it
      line 42  cors.web.methods[2]: `a b` is not a valid method
      line 44  cors.any.origins[0]: `*` with `credentials = true` would let any website use its visitors' credentials
               hint: list the origins, or remove `credentials`
      line 44  cors.any.origins[0]: `*` allows every origin, so the other entries have no effect
               hint: write ["*"], or list the origins without "*"
      line 46  limits.auth_failures: the name is reserved for `server.auth_failures`
               hint: choose another name
      line 46  limits.auth_failures.rate: missing
               hint: write a rate such as "100/min"
      line 47  limits.auth_failures.key: `caller` is not a limit key
               hint: write "ip", "subject", "client", "issuer", "route", "claim:PATH" or "header:NAME"
      line 51  limits.early.tiers: a limit with this key is checked before authentication, when no claim is known
               hint: use a key such as "subject", or remove `tiers`
      line 51  limits.early.tiers.rates: missing
               hint: write at least one rate, such as `{ gold = "1000/min" }`
      line 51  limits.early.tiers.claim: missing
               hint: write the path of the claim that names the tier, such as "plan"
      line 56  limits.header.key: `a b` is not a valid header name
      line 59  identity.headers.X-Forwarded-For: `x-forwarded-for` cannot be an identity header; it has another meaning
      line 60  identity.headers.X-Identity-Subject: `sub` is not a source for an identity header
               hint: write "subject", "issuer", "client", "scopes", "roles", "claim:PATH", "client_cert_subject", "client_cert_san" or "client_cert_thumbprint"
      line 61  routes[0].upstream: missing
               hint: write the name of an upstream
      line 62  routes[0].name: `a"b` is not a valid name
               hint: use 1 to 120 printable ASCII characters other than `"`
      line 63  routes[0].host: `https://a` is not a host: the port is not a number from 1 to 65535
               hint: write a host without scheme and port, such as "api.example.com" or "*.example.com"
      line 64  routes[0].path: `/a/../b` is not a valid path pattern: the path has a `.` or `..` segment
      line 65  routes[0].methods: an empty list allows no method
               hint: remove the key to allow all methods
      line 67  routes[0].scopes: has no effect on a public route, which ignores tokens
               hint: write `access = "token"`, or remove the key
      line 68  routes[0].issuers: has no effect on a public route, which ignores tokens
               hint: write `access = "token"`, or remove the key
      line 69  routes[0].limits[0]: `caller` counts requests by caller, but a public route does not identify callers
               hint: use a limit with the key "ip", "header:NAME" or "route"
      line 69  routes[0].limits[1]: `caller` is listed twice
      line 69  routes[0].limits[1]: `caller` counts requests by caller, but a public route does not identify callers
               hint: use a limit with the key "ip", "header:NAME" or "route"
      line 71  routes[1].path: `/.portcullis/x` is reserved for the gateway itself
      line 72  routes[1].methods[1]: `PUT` is listed twice
      line 74  routes[1].roles: has no effect with `access = "optional"`: a caller that does not meet it can omit the token
               hint: write `access = "token"`, or remove the key
      line 75  routes[1].audiences: an empty list accepts no token
               hint: remove the key to accept the issuer's audiences
      line 76  routes[1].upstream: there is no upstream named `upp`
      line 77  routes[1].cors: there is no CORS policy named `webb`
               hint: did you mean `web`?
      line 80  routes[2].scopes[0]: `a b` is not a valid scope
               hint: write each scope as a string of its own: printable ASCII, without spaces, `"` and `\`
      line 81  routes[2].claims.x: an empty list allows no value
               hint: list the allowed values
      line 82  routes[2].issuers: an empty list accepts no token
               hint: remove the key to accept tokens from all issuers
      line 83  routes[2].limits[0]: there is no limit named `x`
      line 85  routes[2].strip_prefix: the route's path `/a/*` does not begin with the segments of `/b`
      line 86  routes[2].add_prefix: `b` is not a valid path prefix: the path does not start with `/`
               hint: write a prefix such as "/api/v1"
      line 87  routes[2].timeout: must be greater than zero
      line 88  routes[2].set_headers.Content-Length: the gateway controls the header `content-length`; it cannot be configured here
      line 88  routes[2].set_headers.X-A: the value contains a control character or a character outside ASCII
      line 88  routes[2].set_headers.X-Identity-Subject: `x-identity-subject` is an identity header, which only the gateway sets
      line 88  routes[2].set_headers."a b": `a b` is not a valid header name
      line 89  routes[2].remove_response_headers[0]: the gateway controls the header `www-authenticate`; it cannot be configured here
      line 93  routes[4].name: `/x` is already the name of routes[3]
               hint: give one of the two another `name`
      line 93  routes[4]: duplicates routes[3]: same host and path, and a method in common
               hint: change the host, the path or the methods of one of the two
    "##);
}
