//! Which near paths are warned of, and which are not.

use super::*;
use crate::config::load_text;
use crate::plan::Plan;

/// The keys, weaker routes and paths of the warnings about routes with these keys.
fn warned(routes: &[&str]) -> Vec<String> {
    let mut text = String::from(
        "[issuers.main]\nissuer = \"https://idp.example\"\naudiences = [\"api\"]\n\
         [issuers.other]\nissuer = \"https://other.example\"\naudiences = [\"api\"]\n\
         [upstreams.main]\nservers = [\"http://127.0.0.1:9\"]\n",
    );
    for route in routes {
        text.push_str("[[routes]]\nupstream = \"main\"\n");
        text.push_str(route);
        text.push('\n');
    }
    let plan = Plan::compile(load_text("gateway.toml", &text, &|_| None)).unwrap();
    let brief = |warning: Warning| {
        let (paths, rest) = warning.what.split_once(": served by the route ").unwrap();
        format!("{} {} {}", warning.key, paths.replace('`', ""), rest.split(". A service").next().unwrap())
    };
    plan.warnings().into_iter().map(brief).collect()
}

const PUBLIC: &str = "path = \"/*\"\naccess = \"public\"";

#[test]
fn paths_near_a_protected_one_that_a_weaker_route_serves_are_warned_of() {
    for (name, routes, expected) in [
        (
            "an exact path",
            &[PUBLIC, "path = \"/admin\""][..],
            &["routes[1].path /ADMIN, /admin/, /admin.json `/*`, which is public"][..],
        ),
        (
            "a subtree",
            &[PUBLIC, "path = \"/admin/*\""],
            &["routes[1].path /ADMIN/x, /admin.json `/*`, which is public"],
        ),
        (
            "a trailing slash",
            &[PUBLIC, "path = \"/admin/\""],
            &["routes[1].path /ADMIN/, /admin `/*`, which is public"],
        ),
        (
            "capitals",
            &[PUBLIC, "path = \"/ADMIN/{id}\""],
            &["routes[1].path /admin/x, /ADMIN/x/ `/*`, which is public"],
        ),
        (
            "another protected route nearby",
            &[PUBLIC, "path = \"/a/{id}\"", "path = \"/a/*\""],
            &["routes[1].path /A/x `/*`, which is public", "routes[2].path /A/x, /a.json `/*`, which is public"],
        ),
        ("a bound segment alone", &[PUBLIC, "path = \"/{id}\""], &["routes[1].path /x/ `/*`, which is public"]),
        (
            "an optional token",
            &["path = \"/*\"\naccess = \"optional\"", "path = \"/1\""],
            &["routes[1].path /1/, /1.json `/*`, which needs no token"],
        ),
        (
            "a demand less",
            &["path = \"/*\"\nscopes = [\"a\"]", "path = \"/1/*\"\nscopes = [\"a\", \"b\"]"],
            &["routes[1].path /1.json `/*`, which demands less"],
        ),
        (
            "more issuers",
            &["path = \"/*\"", "path = \"/1/*\"\nissuers = [\"main\"]"],
            &["routes[1].path /1.json `/*`, which demands less"],
        ),
        (
            "other issuers",
            &["path = \"/*\"\nissuers = [\"other\"]", "path = \"/1/*\"\nissuers = [\"main\"]"],
            &["routes[1].path /1.json `/*`, which demands less"],
        ),
        (
            "more audiences",
            &["path = \"/*\"", "path = \"/1/*\"\naudiences = [\"a\"]"],
            &["routes[1].path /1.json `/*`, which demands less"],
        ),
        (
            "a route that only reports",
            &["path = \"/*\"\nreport_only = true", "path = \"/1/*\""],
            &["routes[1].path /1.json `/*`, which only reports"],
        ),
        (
            "a bound segment as a catch-all",
            &["path = \"/{any}\"\naccess = \"public\"", "path = \"/1\""],
            &["routes[1].path /1.json `/{any}`, which is public"],
        ),
        (
            "one method of several",
            &["path = \"/*\"\naccess = \"public\"\nmethods = [\"DELETE\"]", "path = \"/1/*\""],
            &["routes[1].path /1.json `DELETE /*`, which is public"],
        ),
        (
            "a catch-all of the same host",
            &["host = \"a.example\"\npath = \"/*\"\naccess = \"public\"", "host = \"a.example\"\npath = \"/1/*\""],
            &["routes[1].path /1.json `a.example/*`, which is public"],
        ),
        (
            "a catch-all of any host",
            &[PUBLIC, "host = \"*.example\"\npath = \"/1/*\""],
            &["routes[1].path /1.json `/*`, which is public"],
        ),
    ] {
        assert_eq!(warned(routes), expected, "{name}");
    }
}

#[test]
fn what_no_weaker_route_serves_is_not_warned_of() {
    for (name, routes) in [
        ("no other route", &["path = \"/admin\""][..]),
        ("a public route beside it", &["path = \"/public/*\"\naccess = \"public\"", "path = \"/admin\""]),
        (
            "a catch-all that is as strict",
            &["path = \"/*\"\nscopes = [\"a\", \"b\"]", "path = \"/admin\"\nscopes = [\"a\"]"],
        ),
        (
            "scopes that imply any of them",
            &["path = \"/*\"\nscopes = [\"a\", \"b\"]", "path = \"/admin\"\nany_scopes = [\"b\", \"c\"]"],
        ),
        (
            "fewer of any scopes and roles",
            &[
                "path = \"/*\"\nany_scopes = [\"a\"]\nany_roles = [\"a\"]",
                "path = \"/admin\"\nany_scopes = [\"a\", \"b\"]\nany_roles = [\"a\", \"b\"]",
            ],
        ),
        (
            "a stricter catch-all",
            &["path = \"/*\"\nissuers = [\"main\"]\naudiences = [\"a\"]", "path = \"/admin\"\naudiences = [\"a\"]"],
        ),
        ("a public path", &[PUBLIC, "path = \"/health\"\naccess = \"public\""]),
        ("an optional path", &[PUBLIC, "path = \"/home\"\naccess = \"optional\""]),
        (
            "another method",
            &["path = \"/*\"\naccess = \"public\"\nmethods = [\"GET\"]", "path = \"/1/*\"\nmethods = [\"POST\"]"],
        ),
        (
            "a catch-all of another host",
            &["host = \"a.example\"\npath = \"/*\"\naccess = \"public\"", "host = \"b.example\"\npath = \"/1/*\""],
        ),
        ("both report", &["path = \"/*\"\nreport_only = true", "path = \"/1/*\"\nreport_only = true"]),
        (
            "routes that close the gap with the same rules",
            &[PUBLIC, "path = \"/a/*\"", "path = \"/A/*\"", "path = \"/a.json\""],
        ),
        (
            "routes that spell the near paths out",
            &[
                PUBLIC,
                "path = \"/1\"",
                "path = \"/1/\"\naccess = \"public\"",
                "path = \"/1.json\"\naccess = \"public\"",
            ],
        ),
    ] {
        assert_eq!(warned(routes), Vec::<String>::new(), "{name}");
    }
}
