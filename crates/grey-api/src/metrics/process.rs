//! The process as `/proc` shows it, under the names that every Prometheus client uses.

use std::fs;

use super::names::{self, Metric};
use super::{Collector, Exposition};

/// Ticks of CPU time in a second: the kernel's USER_HZ, fixed on every Linux architecture in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self`; elsewhere there is nothing to read and nothing is written.
#[derive(Debug)]
pub(crate) struct Process;

impl Collector for Process {
    fn collect(&self, out: &mut Exposition) {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let stat = read("/proc/self/stat");
        let mut put = |metric: &'static Metric, value: Option<f64>| {
            if let Some(value) = value {
                out.sample(metric, &[], value);
            }
        };
        put(&names::PROCESS_RESIDENT, status_field(&status, "VmRSS:").map(|kib| kib * 1024.0));
        put(&names::PROCESS_VIRTUAL, status_field(&status, "VmSize:").map(|kib| kib * 1024.0));
        put(&names::PROCESS_THREADS, status_field(&status, "Threads:"));
        let cpu =
            stat_field(&stat, 14).zip(stat_field(&stat, 15)).map(|(user, system)| (user + system) / TICKS_PER_SECOND);
        put(&names::PROCESS_CPU, cpu);
        let booted = status_field(&read("/proc/stat"), "btime");
        put(
            &names::PROCESS_START,
            booted.zip(stat_field(&stat, 22)).map(|(boot, ticks)| boot + ticks / TICKS_PER_SECOND),
        );
        // The directory itself is open while it is counted.
        put(
            &names::PROCESS_OPEN_FDS,
            fs::read_dir("/proc/self/fd").ok().map(|list| list.count().saturating_sub(1) as f64),
        );
        put(&names::PROCESS_MAX_FDS, status_field(&read("/proc/self/limits"), "Max open files"));
    }
}

/// The first number of the line that starts with `name`.
fn status_field(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

/// A field of `/proc/PID/stat` by its number in proc(5). The second is the
/// program's name in brackets and may hold anything.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let stat = "42 (a) b c) S 1 42 42 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 12345 1000 200";
        assert_eq!(stat_field(stat, 14), Some(250.0));
        assert_eq!(stat_field(stat, 15), Some(50.0));
        assert_eq!(stat_field(stat, 22), Some(12_345.0));
        assert_eq!(stat_field("", 14), None);
        let limits = "Max open files            1024                 524288               files     \n";
        assert_eq!(status_field(limits, "Max open files"), Some(1024.0));
        assert_eq!(status_field("VmRSS:\t    1234 kB\n", "VmRSS:"), Some(1234.0));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_plausible_figures() {
        let (mut out, mut text) = (Exposition::new(), String::new());
        Process.collect(&mut out);
        out.write(&mut text);
        for metric in names::ALL.iter().filter(|m| m.name.starts_with("process_")) {
            let line = text.lines().find(|l| l.starts_with(&format!("{} ", metric.name)));
            let value: f64 = line.and_then(|l| l.split(' ').nth(1)).and_then(|v| v.parse().ok()).unwrap();
            assert!(value > 0.0 || metric.name == names::PROCESS_CPU.name, "{line:?}");
        }
    }
}
