//! The structure: which module may use which, as docs/design.md says. Rust does not check
//! directions inside a crate; this does.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};

/// Where a status may be named: the error responses, and the few places that speak HTTP for
/// themselves.
const MAY_CHOOSE_A_STATUS: [&str; 11] = [
    "admin/",
    "cli/demo/serve.rs",
    "gateway/response/error_response/",
    "gateway/response/tunnel_response.rs",
    "gateway/stages/cors.rs",
    "gateway/stages/https_redirect.rs",
    "local_issuer/endpoints.rs",
    "outbound/",
    "token/fetch/",
    "telemetry/",
    "upstream/exchange",
];

/// A source file without its tests.
struct Source {
    /// Below `src/`.
    name: String,
    /// Its module's path, such as `["gateway", "stages", "cors"]`.
    module: Vec<String>,
    text: String,
    code: syn::File,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path: PathBuf = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
                if !is_test(&name) {
                    files.push(source(name, std::fs::read_to_string(&path).expect("a source file")));
                }
            }
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(files.len() > 100, "only {} files found", files.len());
    files
}

fn source(name: String, text: String) -> Source {
    let path = name.trim_end_matches(".rs").trim_end_matches("/mod");
    let module = match path {
        "lib" | "main" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    };
    let code = syn::parse_file(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
    Source { name, module, text, code }
}

fn is_test(name: &str) -> bool {
    name.ends_with("tests.rs") || name.ends_with("test_support.rs") || name.contains("/tests/")
}

/// Collects every path in code that begins with `crate`, `super` or the name of a child module,
/// from the crate's root.
struct Paths<'a> {
    module: &'a [String],
    children: BTreeSet<String>,
    found: BTreeSet<Vec<String>>,
}

impl Paths<'_> {
    fn of(source: &Source) -> BTreeSet<Vec<String>> {
        let children = source.code.items.iter().filter_map(|item| match item {
            syn::Item::Mod(module) => Some(module.ident.to_string()),
            _ => None,
        });
        let mut paths = Paths { module: &source.module, children: children.collect(), found: BTreeSet::new() };
        paths.visit_file(&source.code);
        paths.found
    }

    fn add(&mut self, segments: &[String]) {
        let mut from: Vec<String> = self.module.to_vec();
        let mut rest = segments;
        match segments.first().map(String::as_str) {
            Some("crate") => {
                from.clear();
                rest = &rest[1..];
            }
            Some("super") => {
                while let [first, tail @ ..] = rest
                    && first == "super"
                {
                    from.pop();
                    rest = tail;
                }
            }
            Some(name) if self.children.contains(name) => {}
            Some(_) | None => return,
        }
        from.extend_from_slice(rest);
        self.found.insert(from);
    }

    fn add_tree(&mut self, before: &[String], tree: &syn::UseTree) {
        let with = |name: &syn::Ident| before.iter().cloned().chain([name.to_string()]).collect::<Vec<_>>();
        match tree {
            syn::UseTree::Path(path) => self.add_tree(&with(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.add(&with(&name.ident)),
            syn::UseTree::Rename(rename) => self.add(&with(&rename.ident)),
            syn::UseTree::Glob(_) => self.add(before),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.add_tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.add_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.add(&segments);
        visit::visit_path(self, path);
    }

    /// `pub(in …)` uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}

    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_fn(self, item);
        }
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        if !is_for_tests(&item.attrs) {
            visit::visit_item_impl(self, item);
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
    })
}

/// The table in docs/design.md: each module with all that it may use, what its line names and what
/// those lines lead to.
fn directions() -> BTreeMap<String, BTreeSet<String>> {
    let document = include_str!("../../docs/design.md");
    let table = document.split("## Directions").nth(1).and_then(|rest| rest.split("```").nth(1)).expect("the table");
    let mut named: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in table.lines().skip(1) {
        let (module, uses) = line.split_once("->").unwrap_or_else(|| panic!("no arrow in {line:?}"));
        let uses = uses.trim();
        let uses = if uses == "nothing" { BTreeSet::new() } else { uses.split(", ").map(str::to_owned).collect() };
        assert!(named.insert(module.trim().to_owned(), uses).is_none(), "{module} is there twice");
    }
    let reached = |module: &str| {
        let mut reached = BTreeSet::new();
        let mut open: Vec<&str> = vec![module];
        while let Some(next) = open.pop() {
            for used in named.get(next).unwrap_or_else(|| panic!("{next} has no line in the table")) {
                if reached.insert(used.clone()) {
                    open.push(used);
                }
            }
        }
        assert!(!reached.contains(module), "{module} leads back to itself");
        reached
    };
    named.keys().map(|module| (module.clone(), reached(module))).collect()
}

/// The line of the table that a path belongs to: the longest that it begins with.
fn part_of<'a>(path: &[String], table: &'a BTreeMap<String, BTreeSet<String>>) -> Option<&'a str> {
    (1..=path.len().min(2)).rev().find_map(|length| {
        let (known, _) = table.get_key_value(&path[..length].join("/"))?;
        Some(known.as_str())
    })
}

#[test]
fn modules_use_only_what_the_design_allows() {
    let table = directions();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for source in sources().iter().filter(|source| !source.module.is_empty()) {
        let module = part_of(&source.module, &table).unwrap_or_else(|| panic!("{} has no line", source.name));
        seen.insert(module);
        for path in Paths::of(source) {
            let Some(used) = part_of(&path, &table) else { continue };
            if used != module && !table[module].contains(used) {
                wrong.push(format!("{} ({module}) uses {}", source.name, path.join("::")));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let unused: Vec<_> = table.keys().filter(|module| !seen.contains(module.as_str())).collect();
    assert!(unused.is_empty(), "in the table, but not in the code: {unused:?}");
}

/// Only `decide()` runs the stages; the data path runs the last one, `explain` shows what it would
/// send, and a fuzz target checks that.
#[test]
fn each_stage_is_called_from_one_place() {
    let stages = ["normalize", "routing", "cors", "rate_limit", "authenticate", "authorize"].map(stage_path);
    let callers = |stage: &[String]| {
        let calls = |source: &&Source| {
            !source.name.starts_with("gateway/stages/") && Paths::of(source).iter().any(|path| path.starts_with(stage))
        };
        sources().iter().filter(calls).map(|source| source.name.clone()).collect::<Vec<_>>()
    };
    for stage in &stages {
        assert_eq!(callers(stage), ["gateway/decide.rs"], "{}", stage.join("::"));
    }
    let expected = ["cli/explain/mod.rs", "fuzz_targets/decision.rs", "gateway/mod.rs"];
    assert_eq!(callers(&stage_path("forward")), expected);
}

fn stage_path(name: &str) -> Vec<String> {
    ["gateway", "stages", name].map(str::to_owned).to_vec()
}

#[test]
fn a_status_is_chosen_only_where_responses_are_made() {
    struct Names(bool);
    impl<'ast> Visit<'ast> for Names {
        fn visit_ident(&mut self, name: &'ast syn::Ident) {
            self.0 |= name == "StatusCode";
        }
        fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
            if !is_for_tests(&item.attrs) {
                visit::visit_item_mod(self, item);
            }
        }
    }
    let names_a_status = |source: &Source| {
        let mut names = Names(false);
        names.visit_file(&source.code);
        names.0
    };
    let wrong: Vec<_> = sources()
        .into_iter()
        .filter(names_a_status)
        .map(|source| source.name)
        .filter(|name| !MAY_CHOOSE_A_STATUS.iter().any(|allowed| name.starts_with(allowed)))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_file_says_what_it_is_and_stays_one_concept() {
    let mut wrong = Vec::new();
    for Source { name, text, .. } in sources() {
        if !text.starts_with("//!") {
            wrong.push(format!("{name} does not open with what it is"));
        }
        let lines = text.lines().count();
        if lines > 450 {
            wrong.push(format!("{name} has {lines} lines"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn unsafe_code_is_forbidden_and_tasks_stay_on_their_thread() {
    for Source { name, text, .. } in sources() {
        if name == "lib.rs" || name == "main.rs" {
            assert!(text.contains("#![forbid(unsafe_code)]"), "{name}");
        }
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<String>();
        assert!(!code.contains("tokio::spawn("), "{name}");
    }
}
