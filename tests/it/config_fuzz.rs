//! The configuration loader on files with arbitrary mistakes: nothing loops, panics or grows.

use std::sync::mpsc;
use std::time::Duration;

use portcullis::internals::{Plan, load_text};

use crate::support::config_generator::{check_loading, generate, random_bytes};

/// Files per run. `make fuzz` tries as many as there is time for.
const FILES: u64 = 4_000;

/// How long one file may take: a thousand times what one takes.
const MAX_TIME_PER_FILE: Duration = Duration::from_secs(10);

/// What `work` returns for each number below `cases`, computed on a thread of its own.
///
/// # Panics
///
/// With what `describe` says of a case that panics or does not end.
fn run_each<T: Send + 'static>(cases: u64, work: fn(u64) -> T, describe: fn(u64) -> String) -> Vec<T> {
    let (sender, results) = mpsc::channel();
    std::thread::spawn(move || {
        // An error means that the test has ended.
        (0..cases).all(|case| sender.send(work(case)).is_ok())
    });
    let result = |case| match results.recv_timeout(MAX_TIME_PER_FILE) {
        Ok(result) => result,
        Err(error) => panic!("{error}: case {case}:\n{}", describe(case)),
    };
    (0..cases).map(result).collect()
}

fn generated(seed: u64) -> String {
    generate(&random_bytes(seed, 4096))
}

#[test]
fn every_generated_file_is_a_plan_or_a_report() {
    run_each(FILES, |seed| check_loading(&generated(seed)), generated);
}

/// The paths of the problems of a file.
fn problem_paths(text: &str) -> Vec<String> {
    match Plan::compile(load_text("a.toml", text, &|_| None)) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(|problem| problem.path.clone()).collect(),
    }
}

/// Without mistakes the generator makes the reference itself. With mistakes it makes files that are
/// read to their end as well as files that are not TOML.
#[test]
fn the_generator_makes_valid_and_invalid_files() {
    assert_eq!(problem_paths(&generate(&[])), Vec::<String>::new());
    let all = run_each(1_000, |seed| problem_paths(&generated(seed)), generated);
    let count = |is_counted: fn(&[String]) -> bool| all.iter().filter(|paths| is_counted(paths)).count();
    for (name, found) in [
        ("syntax errors", count(|paths| paths.first().is_some_and(String::is_empty))),
        ("one problem", count(|paths| paths.len() == 1)),
        ("many problems", count(|paths| paths.len() > 10)),
        ("problems in routes", count(|paths| paths.iter().any(|path| path.starts_with("routes[")))),
    ] {
        assert!(found >= 3, "{name}: {found} of 1000");
    }
}
