//! What a process used, as the kernel counts it.

use std::fs;

/// Clock ticks a second of `/proc/PID/stat`; the kernel's interface has this value on every platform.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds, user and system, of all threads, ended ones too. To 10 ms.
pub fn cpu_s(pid: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the program's name in parentheses, and may hold anything.
    let fields = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
    ticks as f64 / TICKS_PER_S
}

/// Resident bytes now.
pub fn resident(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

/// Most resident bytes since the start or [`forget_peak`].
pub fn resident_peak(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:") * 1024
}

/// Begins a new measurement of the peak.
pub fn forget_peak(pid: u32) {
    // Where it is not permitted the peak is since the start, which is no better for us.
    let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
}

/// Bytes that a process caused to be written to disk.
pub fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
    let bytes = text.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok());
    bytes.unwrap_or(0)
}

/// Open files, sockets among them.
pub fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

fn status_kib(pid: u32, key: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
