//! Instructions per request, counted by callgrind: `cargo bench --bench instructions`.
//!
//! A count is the same whatever else the machine does, so it can be held against a figure that is kept beside this file, where a time cannot.
//! It holds for one kind of processor: valgrind shows programs an x86-64 with AVX2. Elsewhere, and without valgrind, it is left out.
//!
//! The program runs itself under valgrind, which counts only within [`counted`]. In it is the part of the client and the origin, some
//! hundred instructions, and no kernel's.

#![expect(clippy::print_stdout, reason = "a program that reports to its terminal")]

mod rig;
#[path = "../tests/it/support/token.rs"]
#[expect(dead_code, reason = "the integration tests use all of it")]
mod token;

use std::path::Path;
use std::process::{Command, ExitCode};

use rig::{Features, Rig};

/// How far a count may be above its figure: what compilers and libraries move without anybody's doing.
const TOLERANCE_PERCENT: u64 = 3;

/// Requests before it is counted, and those that are counted.
const WARM_UP: usize = 200;
const REQUESTS: usize = 1_000;

/// Names of what is counted, as they stand in the file of figures.
const WORKLOADS: [&str; 3] = ["known", "equipped", "expired"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, run, workload] = &arguments[..]
        && run == "run"
    {
        run_workload(workload);
        return ExitCode::SUCCESS;
    }
    if !cfg!(target_arch = "x86_64") || Command::new("valgrind").arg("--version").output().is_err() {
        println!("instructions: left out, valgrind does not run here");
        return ExitCode::SUCCESS;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let figures = std::fs::read_to_string(&file).expect("the file of figures is there");
    let mut met = true;
    for workload in WORKLOADS {
        let figure = figures
            .lines()
            .find_map(|line| line.strip_prefix(workload)?.trim().parse::<u64>().ok())
            .expect("every workload has its figure");
        let counted = collected(workload) / REQUESTS as u64;
        let most = figure * (100 + TOLERANCE_PERCENT) / 100;
        println!("{workload}: {counted} instructions per request, {figure} kept, at most {most}");
        met &= counted <= most;
    }
    if met {
        return ExitCode::SUCCESS;
    }
    println!("more than is kept in {}: find out why, or write the new figure there with its reason", file.display());
    ExitCode::FAILURE
}

/// What callgrind counts of a run.
fn collected(workload: &str) -> u64 {
    let program = std::env::current_exe().expect("a program knows its file");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .args(["--collect-atstart=no", "--toggle-collect=*instructions*counted*"])
        .arg(program)
        .args(["run", workload])
        .output()
        .expect("valgrind runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line =
        text.lines().find_map(|line| line.split_once("Collected : ")).expect("callgrind says what it has collected");
    line.1.trim().parse().expect("a number")
}

fn run_workload(workload: &str) {
    let bare = Features { access_log: false, cors_and_limit: false };
    let (mut rig, status) = match workload {
        "equipped" => (Rig::start(Features { access_log: true, cors_and_limit: true }), 200),
        "expired" => (Rig::start(bare), 401),
        "known" => (Rig::start(bare), 200),
        other => panic!("{other} is not one of {WORKLOADS:?}"),
    };
    let token = if status == 401 { rig.expired("alice") } else { rig.token("alice") };
    let request = Rig::request(&token);
    for _ in 0..WARM_UP {
        assert_eq!(rig.round_trip(&request), status);
    }
    counted(&mut rig, &request, status);
}

/// What valgrind counts: found by its name, so it must stay a function of its own.
#[inline(never)]
fn counted(rig: &mut Rig, request: &[u8], status: u16) {
    for _ in 0..REQUESTS {
        assert_eq!(rig.round_trip(request), status);
    }
}
