//! The documents: what they list is what there is, and prose keeps within its width.
//!
//! Refusals are compared in `gateway/response/error_response`, configuration keys in
//! [`reference`](super::reference), directions between modules in [`layers`](super::layers).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::support::fixture::Fixture;
use crate::{client_certificates, observability};

/// Columns of prose, in documents and comments.
const MAX_COLUMNS: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` whose name ends with `ending`.
fn files(folder: &str, ending: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder of the project") {
            let path: PathBuf = entry.expect("an entry of it").path();
            let is_foreign = path.file_name().is_some_and(|name| name == "node_modules");
            if path.is_dir() && !is_foreign {
                folders.push(path);
            } else if path.to_string_lossy().ends_with(ending) {
                let name = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
                found.push((name, std::fs::read_to_string(&path).expect("a text file")));
            }
        }
    }
    assert!(!found.is_empty(), "no {ending} in {folder}");
    found
}

fn document(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test]
async fn operations_md_lists_every_metric_and_no_other() {
    let fixture = Fixture::start(observability::config()).await;
    observability::send_traffic(&fixture).await;
    // Some metrics have samples only with TLS, and with revocation lists.
    let files = client_certificates::files();
    let with_crl = client_certificates::with_crl(&files, "optional");
    let with_tls = Fixture::start(client_certificates::config(&files, &with_crl)).await;
    let texts = [fixture.gateway.metrics().await, with_tls.gateway.metrics().await];
    let exposed: BTreeSet<String> = texts
        .map(|samples| samples.text().to_owned())
        .concat()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|rest| rest.split(' ').next().unwrap_or_default().to_owned())
        .collect();
    let operations = document("docs/operations.md");
    let table = operations.split("| metric | type |").nth(1).expect("the table of metrics");
    let documented: BTreeSet<String> = table
        .lines()
        .skip(2)
        .map_while(|row| row.strip_prefix("| ")?.split_once(" | "))
        .flat_map(|(names, _)| names.split(", "))
        .map(|name| name.trim_matches('`').to_owned())
        .collect();
    assert!(documented.len() > 20, "{documented:?}");
    assert_eq!(documented, exposed);
}

/// A threat id in a comment or test is explained in docs/threats.md, and each one there is cited.
#[test]
fn threats_md_explains_every_id_that_the_code_cites() {
    let threats = document("docs/threats.md");
    let section = threats.split("## Threats by id").nth(1).expect("the section");
    let first_cells = section.lines().filter_map(|row| row.strip_prefix("| ")?.split(" |").next());
    let explained: BTreeSet<&str> =
        first_cells.filter(|cell| *cell != "id").flat_map(|cell| cell.split(", ")).collect();
    assert!(explained.len() > 100, "only {} ids are explained", explained.len());
    let cited: BTreeSet<String> = ["src", "tests/it", "benches"]
        .into_iter()
        .flat_map(|folder| files(folder, ".rs"))
        .flat_map(|(_, text)| cited_ids(&text, &explained))
        .collect();
    let not_cited: Vec<_> = explained.iter().filter(|id| !cited.contains(**id)).collect();
    assert!(not_cited.is_empty(), "explained, but cited nowhere: {not_cited:?}");
}

/// A promise of docs/reliability.md is as good as its test.
#[test]
fn reliability_md_names_tests_that_exist() {
    let tests = files("tests/it", ".rs");
    let document = document("docs/reliability.md");
    let named: Vec<&str> = document.split('`').filter(|text| text.contains("::")).collect();
    assert!(named.len() > 30, "only {} tests are named", named.len());
    for name in named {
        let (module, test) = name.rsplit_once("::").expect("it contains `::`");
        let module = module.replace("::", "/");
        let exists = |(file, text): &(String, String)| {
            let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
            path.ends_with(&module) && text.contains(&format!("fn {test}("))
        };
        assert!(tests.iter().any(exists), "docs/reliability.md names {name}, which is no test");
    }
}

/// The ids in comments and in the names of rows, such as `J-07`, `A12` or `CVE-2025-64484`;
/// `J-10 to J-13` and `A60–A63` cite all that lie between.
///
/// # Panics
///
/// If one is not explained.
fn cited_ids(text: &str, explained: &BTreeSet<&str>) -> Vec<String> {
    let mut ids = Vec::new();
    for line in text.lines().map(str::trim_start).filter(|line| line.starts_with("//") || line.starts_with("(\"")) {
        let spaced = line.replace(['–', '…'], " to ");
        let words: Vec<&str> =
            spaced.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).filter(|word| !word.is_empty()).collect();
        for (index, word) in words.iter().enumerate() {
            let is_explained = explained.contains(word);
            assert!(is_explained || !looks_like_an_id(word), "{word} is not explained: {line}");
            if is_explained {
                ids.push((*word).to_owned());
            }
            if let (true, Some(&"to"), Some(last)) = (is_explained, words.get(index + 1), words.get(index + 2)) {
                ids.extend(explained.iter().filter(|id| lies_between(id, word, last)).map(|id| (*id).to_owned()));
            }
        }
    }
    ids
}

/// Whether `id` is of the family of `first` and `last`, and its number is between theirs.
fn lies_between(id: &str, first: &str, last: &str) -> bool {
    let split = |id: &str| {
        let digits = id.find(|c: char| c.is_ascii_digit())?;
        Some((id[..digits].to_owned(), id[digits..].parse::<u32>().ok()?))
    };
    let (Some((family, number)), Some((from_family, from)), Some((to_family, to))) =
        (split(id), split(first), split(last))
    else {
        return false;
    };
    family == from_family && family == to_family && (from..=to).contains(&number)
}

fn looks_like_an_id(word: &str) -> bool {
    let Some((letters, digits)) = word.split_once('-') else { return false };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let families = ["AC", "CO", "DO", "FR", "H2", "HH", "J", "LM", "PA", "RL", "RS", "TG", "TO", "UP"];
    (families.contains(&letters) && is_number) || (letters == "CVE" && digits.len() > 5)
}

#[test]
fn documents_wrap_at_100_columns() {
    let mut wide = Vec::new();
    let top =
        ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"].map(|name| (name.to_owned(), document(name)));
    for (name, text) in files("docs", ".md").into_iter().chain(top) {
        let mut in_code = false;
        for (index, line) in text.lines().enumerate() {
            in_code ^= line.starts_with("```");
            let is_prose = !in_code && !line.starts_with('|') && !line.starts_with("```");
            if is_prose && line.chars().count() > MAX_COLUMNS && line.contains(' ') {
                wide.push(format!("{name}:{}", index + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
}

#[test]
fn comments_wrap_at_100_columns() {
    let mut wide = Vec::new();
    for (name, text) in ["src", "tests", "benches"].into_iter().flat_map(|folder| files(folder, ".rs")) {
        for (index, line) in text.lines().enumerate() {
            let is_comment = line.trim_start().starts_with("//");
            let is_table = line.contains("//! |") || line.contains("/// |");
            if is_comment && !is_table && line.chars().count() > MAX_COLUMNS {
                wide.push(format!("{name}:{}", index + 1));
            }
        }
    }
    assert!(wide.is_empty(), "{wide:#?}");
}
