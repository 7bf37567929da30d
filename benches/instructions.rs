//! Instructions per request, counted by callgrind: `cargo bench --bench instructions`.
//!
//! A count does not depend on the load of the machine, so it can be compared with a figure kept
//! beside this file; a time cannot. The figures hold for x86-64 with AVX2, which is the processor
//! that valgrind emulates. On other processors, and without valgrind, the benchmark is skipped.
//!
//! The program runs itself under valgrind, which counts only inside [`counted`]. The count includes
//! a few hundred instructions of the client and the origin, and none of the kernel.

#![expect(clippy::print_stdout, reason = "a program that reports to its terminal")]

mod rig;
#[path = "../tests/it/support/token.rs"]
#[expect(dead_code, reason = "the integration tests use all of it")]
mod token;

use std::path::Path;
use std::process::{Command, ExitCode};

use rig::{Features, Rig};

/// How far a count may exceed its figure: compilers and libraries move it without a change of ours.
const TOLERANCE_PERCENT: u64 = 3;

/// Requests before counting starts, and requests that are counted.
const WARM_UP: usize = 200;
const REQUESTS: usize = 1_000;

/// The names of the workloads, as in the file of figures.
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
        println!("instructions: skipped, valgrind does not run here");
        return ExitCode::SUCCESS;
    }
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions.txt");
    let figures = std::fs::read_to_string(&file).expect("the file of figures can be read");
    let mut within_limits = true;
    for workload in WORKLOADS {
        let figure = figures
            .lines()
            .find_map(|line| line.strip_prefix(workload)?.trim().parse::<u64>().ok())
            .expect("every workload has its figure");
        let counted = count_instructions(workload) / REQUESTS as u64;
        let most = figure * (100 + TOLERANCE_PERCENT) / 100;
        println!("{workload}: {counted} instructions per request, {figure} recorded, at most {most} allowed");
        within_limits &= counted <= most;
    }
    if within_limits {
        return ExitCode::SUCCESS;
    }
    println!(
        "more instructions than recorded in {}: fix the cause, or record the new figures with the reason",
        file.display()
    );
    ExitCode::FAILURE
}

/// The number of instructions that callgrind counts in a run.
fn count_instructions(workload: &str) -> u64 {
    let program = std::env::current_exe().expect("the program knows its own path");
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
        text.lines().find_map(|line| line.split_once("Collected : ")).expect("callgrind reports what it collected");
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
    let token = if status == 401 { rig.expired_token("alice") } else { rig.token("alice") };
    let request = Rig::request(&token);
    for _ in 0..WARM_UP {
        assert_eq!(rig.round_trip(&request), status);
    }
    counted(&mut rig, &request, status);
}

/// What valgrind counts. It finds the function by its name, so it must not be inlined.
#[inline(never)]
fn counted(rig: &mut Rig, request: &[u8], status: u16) {
    for _ in 0..REQUESTS {
        assert_eq!(rig.round_trip(request), status);
    }
}
