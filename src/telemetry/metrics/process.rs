//! Metrics of the process: the `process_*` metrics that all Prometheus client libraries expose.
//!
//! Read from `/proc` (proc(5)) at each scrape. A metric whose file or line cannot be read is
//! absent, because a wrong number would be worse.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

/// Collects the metrics of this process at each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector {
    /// Where proc(5) is mounted.
    root: PathBuf,
}

/// Length of the clock tick in which `/proc` counts time. Linux reports 100 ticks per second to
/// user space on every architecture that the gateway supports, whatever tick the kernel uses
/// internally.
const TICK: Duration = Duration::from_millis(10);

impl ProcessCollector {
    pub(super) fn new() -> Self {
        Self { root: PathBuf::from("/proc") }
    }

    fn read(&self, path: impl AsRef<Path>) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }
}

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        if let Some(stat) = self.read("self/stat").as_deref().and_then(Stat::parse) {
            let help = "Processor time used, user and system.";
            encoder
                .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
                .encode_counter::<NoLabelSet, f64, f64>(&stat.processor_time.as_secs_f64(), None)?;
            if let Some(booted) = self.read("stat").as_deref().and_then(boot_time) {
                let help = "Start time of the process since the Unix epoch.";
                encoder
                    .encode_descriptor("process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?
                    .encode_gauge(&booted.saturating_add(stat.started_after_boot).as_secs_f64())?;
            }
        }
        let status = self.read("self/status").unwrap_or_default();
        let limits = self.read("self/limits").unwrap_or_default();
        let gauges = [
            ("process_resident_memory", "Resident memory.", Some(Unit::Bytes), kibibytes(&status, "VmRSS:")),
            ("process_virtual_memory", "Virtual memory.", Some(Unit::Bytes), kibibytes(&status, "VmSize:")),
            ("process_threads", "Threads.", None, field(&status, "Threads:")),
            ("process_open_fds", "Open file descriptors.", None, open_files(&self.root)),
            ("process_max_fds", "Maximum number of open file descriptors.", None, field(&limits, "Max open files")),
        ];
        for (name, help, unit, value) in gauges {
            if let Some(value) = value {
                encoder.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

/// The fields of `/proc/self/stat` that are exposed.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    processor_time: Duration,
    started_after_boot: Duration,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses, which may itself contain spaces
        // and parentheses. Fields are therefore counted from the last closing parenthesis, after
        // which field 3 begins.
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<u32>().ok().map(|ticks| TICK.saturating_mul(ticks));
        Some(Self { processor_time: ticks(14)?.saturating_add(ticks(15)?), started_after_boot: ticks(22)? })
    }
}

/// Boot time of the machine since the Unix epoch.
fn boot_time(stat: &str) -> Option<Duration> {
    field(stat, "btime").map(Duration::from_secs)
}

/// The first number after `name` on the line that begins with it. `None` if that is not a number,
/// such as `unlimited`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

/// Like [`field`], for a number in kibibytes; returns bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.checked_mul(1024)
}

fn open_files(root: &Path) -> Option<u64> {
    let open = fs::read_dir(root.join("self/fd")).ok()?.count();
    // One of them is the directory handle of this function.
    Some(open.saturating_sub(1) as u64)
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;
    use prometheus_client::registry::Registry;

    use super::*;

    fn exposed(process: ProcessCollector) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process));
        let mut exposed = String::new();
        text::encode(&mut exposed, &registry).unwrap();
        exposed
    }

    #[test]
    fn the_fields_of_stat_are_counted_after_the_name() {
        let behind = "S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 3 0 12345 100 10 1";
        let expect =
            Stat { processor_time: Duration::from_secs(2), started_after_boot: Duration::from_millis(123_450) };
        for name in ["portcullis", "a b", "a) b (c"] {
            assert_eq!(Stat::parse(&format!("7 ({name}) {behind}")).as_ref(), Some(&expect), "{name}");
        }
        for broken in ["", "7 (portcullis", "7 (portcullis) S 1", "7 (p) S 1 7 7 0 -1 1 1 0 0 0 x 50 0 0 20 0 3 0 1"] {
            assert_eq!(Stat::parse(broken), None, "{broken}");
        }
    }

    #[test]
    fn numbers_are_found_by_name() {
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024   4096   files\n";
        assert_eq!(field(limits, "Max open files"), Some(1024));
        assert_eq!(field("Max open files            unlimited            unlimited", "Max open files"), None);
        assert_eq!(kibibytes("VmSize:\t 5 kB\nVmRSS:\t  3 kB\n", "VmRSS:"), Some(3072));
        assert_eq!(kibibytes("VmRSS:\t18446744073709551615 kB\n", "VmRSS:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn on_linux_all_metrics_are_exposed() {
        let exposed = exposed(ProcessCollector::new());
        for name in [
            "process_cpu_seconds_total",
            "process_start_time_seconds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_threads",
            "process_open_fds",
            "process_max_fds",
        ] {
            assert!(exposed.lines().any(|line| line.starts_with(&format!("{name} "))), "{name} in {exposed}");
        }
    }

    #[test]
    fn without_proc_no_metric_is_exposed() {
        assert_eq!(exposed(ProcessCollector { root: PathBuf::from("/nowhere/at/all") }), "# EOF\n");
    }
}
