//! The configuration that a test gives to the gateway: a minimal `gateway.toml`, and strict edits
//! of it.

use std::net::SocketAddr;

use toml::{Table, Value};

/// Stands for the issuer of the fixture's identity provider. Lines that a test adds may use it too.
const ISSUER: &str = "<issuer>";

/// Stands for the address of the fixture's origin.
const ORIGIN: &str = "<origin>";

/// One issuer, one upstream, and a route for each kind of requirement.
const MINIMAL: &str = r#"
[server]
listen = "127.0.0.1:0"
workers = 2
drain_delay = "0s"

[admin]
listen = "127.0.0.1:0"

[issuers.main]
issuer = "<issuer>"
audiences = ["api"]
algorithms = ["RS256", "ES256", "EdDSA"]
role_claims = ["roles"]

[upstreams.main]
servers = ["http://<origin>"]

[[routes]]
name = "public"
path = "/public/*"
access = "public"
upstream = "main"

[[routes]]
name = "token"
path = "/token/*"
upstream = "main"

[[routes]]
name = "scope"
path = "/scope/*"
scopes = ["orders:read"]
upstream = "main"

[[routes]]
name = "admin"
path = "/admin/*"
roles = ["admin"]
upstream = "main"
"#;

/// A `gateway.toml` without addresses: a test can start a gateway with it, edit it, and reload the
/// result.
///
/// Tables are named as in the file (`server`, `issuers.main`); `routes.NAME` is the route with that
/// name. An edit panics, and shows the table it found, if it does not change exactly what it names:
/// a test with another configuration than the intended one shows nothing.
#[derive(Clone, Debug)]
pub(crate) struct Config(Table);

impl Config {
    /// `/public/*` needs no token, `/token/*` any, `/scope/*` the scope `orders:read`, and
    /// `/admin/*` the role `admin`.
    pub(crate) fn minimal() -> Self {
        Self(parse(MINIMAL))
    }

    /// Adds keys to an existing table.
    ///
    /// # Panics
    ///
    /// If the table does not exist or already has one of the keys.
    pub(crate) fn add(mut self, table: &str, lines: &str) -> Self {
        let found = self.table(table);
        for (key, value) in parse(lines) {
            assert!(!found.contains_key(&key), "[{table}] already has `{key}`:\n{found}");
            found.insert(key, value);
        }
        self
    }

    /// Changes keys of an existing table.
    ///
    /// # Panics
    ///
    /// If the table does not exist, lacks one of the keys, or already has the new value.
    pub(crate) fn replace(mut self, table: &str, lines: &str) -> Self {
        let found = self.table(table);
        for (key, value) in parse(lines) {
            assert!(found.contains_key(&key), "[{table}] has no `{key}`:\n{found}");
            assert_ne!(found[&key], value, "[{table}] already has this `{key}`:\n{found}");
            found.insert(key, value);
        }
        self
    }

    /// Adds whole tables and routes, written as in the file.
    ///
    /// # Panics
    ///
    /// If one of their keys already exists.
    pub(crate) fn append(mut self, toml: &str) -> Self {
        merge(&mut self.0, parse(toml));
        self
    }

    /// Adds the route `name`. Its path is `/NAME/*` and its upstream is `main`, unless `lines` sets
    /// them.
    pub(crate) fn route(mut self, name: &str, lines: &str) -> Self {
        let mut route: Table = lines.parse().unwrap_or_else(|error| panic!("{error}\n{lines}"));
        let defaults = [("name", name.to_owned()), ("path", format!("/{name}/*")), ("upstream", "main".to_owned())];
        for (key, value) in defaults {
            route.entry(key).or_insert(Value::String(value));
        }
        merge(&mut self.0, Table::from_iter([("routes".to_owned(), Value::Array(vec![Value::Table(route)]))]));
        self
    }

    /// Adds the upstream `name` with these servers and further keys.
    pub(crate) fn upstream(self, name: &str, servers: &[SocketAddr], lines: &str) -> Self {
        self.append(&format!("[upstreams.{name}]\n{}\n{lines}\n", server_list(servers)))
    }

    /// Makes `server` the only server of the upstream `main`, in place of the fixture's origin.
    pub(crate) fn main_server(self, server: SocketAddr) -> Self {
        self.replace("upstreams.main", &server_list(&[server]))
    }

    /// Sets one worker, and so one connection pool: a test can tell which connection a request
    /// uses.
    pub(crate) fn one_worker(self) -> Self {
        self.replace("server", "workers = 1")
    }

    /// Turns `auth_failures` off, for tests that send many bad tokens.
    pub(crate) fn without_auth_failure_limit(self) -> Self {
        self.add("server", "auth_failures = \"off\"")
    }

    /// The text of the file, with the addresses filled in.
    pub(crate) fn to_toml(&self, issuer: &str, origin: SocketAddr) -> String {
        self.0.to_string().replace(ISSUER, issuer).replace(ORIGIN, &origin.to_string())
    }

    fn table(&mut self, path: &str) -> &mut Table {
        let text = self.0.to_string();
        let found = match path.strip_prefix("routes.") {
            Some(name) => self.0["routes"].as_array_mut().and_then(|routes| {
                let mut named = routes.iter_mut().filter_map(Value::as_table_mut).filter(|route| has_name(route, name));
                named.next().filter(|_| named.next().is_none())
            }),
            None => path.split('.').try_fold(&mut self.0, |table, key| table.get_mut(key)?.as_table_mut()),
        };
        found.unwrap_or_else(|| panic!("not exactly one [{path}] in:\n{text}"))
    }
}

fn has_name(route: &Table, name: &str) -> bool {
    route.get("name").and_then(Value::as_str) == Some(name)
}

fn server_list(servers: &[SocketAddr]) -> String {
    let urls: Vec<_> = servers.iter().map(|server| format!("\"http://{server}\"")).collect();
    format!("servers = [{}]", urls.join(", "))
}

/// # Panics
///
/// If the text is not TOML or has no keys.
fn parse(text: &str) -> Table {
    let table: Table = text.parse().unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert!(!table.is_empty(), "nothing to change with {text:?}");
    table
}

/// Adds `more` to `table`: appends routes, and merges tables of the same name.
fn merge(table: &mut Table, more: Table) {
    for (key, value) in more {
        match (table.get_mut(&key), value) {
            (None, value) => {
                table.insert(key, value);
            }
            (Some(Value::Array(routes)), Value::Array(more)) if key == "routes" => {
                for route in more {
                    let name = route.get("name").and_then(Value::as_str);
                    let mut known = routes.iter().filter_map(Value::as_table);
                    let exists = name.is_some_and(|name| known.any(|route| has_name(route, name)));
                    assert!(!exists, "there is already a route {name:?}: {routes:?}");
                    routes.push(route);
                }
            }
            (Some(Value::Table(found)), Value::Table(more)) => merge(found, more),
            (Some(found), _) => panic!("`{key}` already exists: {found}"),
        }
    }
}
