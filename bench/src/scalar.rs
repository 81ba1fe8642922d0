//! The scalar readings of one site of the reference deployment: 50 devices that
//! send 167 readings a second together, as 1,000 sites send 10 million a minute.
//!
//! Everything is a function of a reading's number. Nothing here knows a clock.

use std::io::Write;

use crate::Outcome;
use crate::mix::hash;

/// Devices of a site.
pub const DEVICES: u64 = 50;
/// Readings a second of all of them.
pub const PER_S: f64 = 10_000_000.0 / 60.0 / 1_000.0;
/// Readings of a day.
pub const PER_DAY: u64 = 14_400_000;

/// Stream, unit, middle, swing, noise and decimals of one device's readings.
fn kind(device: u64) -> (&'static str, &'static str, f64, f64, f64, usize) {
    match device {
        0..20 => ("temperature", "°C", 62.0, 6.0, 0.2, 1),
        20..35 => ("vibration", "mm/s", 2.8, 0.6, 0.15, 2),
        35..40 => ("score", "%", 12.0, 5.0, 2.0, 1),
        40..48 => ("power", "W", 4_200.0, 900.0, 30.0, 0),
        _ => ("pressure", "bar", 5.0, 0.8, 0.02, 2),
    }
}

/// A device's clock is off by up to this, differently each time, ms.
const JITTER_MS: u64 = 16;

/// Appends one reading as a line of NDJSON, at `time_ms` or a little later. `stream` stands before its own stream's name.
pub fn line(number: u64, time_ms: i64, stream: &str, out: &mut Vec<u8>) -> Outcome<()> {
    let device = number % DEVICES;
    let step = number / DEVICES;
    let (name, unit, middle, swing, noise, decimals) = kind(device);
    let time_ms = time_ms + (hash(!number) % JITTER_MS) as i64;
    let random = (hash(number) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0;
    let slow = (step as f64 / 600.0 + device as f64).sin();
    let value = middle + swing * slow + noise * random;
    writeln!(
        out,
        "{{\"device\":\"{name}-{device}\",\"stream\":\"{stream}{name}\",\"value\":{value:.decimals$},\"unit\":\"{unit}\",\"ts\":{time_ms}}}"
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_day() {
        assert!((PER_S * 86_400.0 / PER_DAY as f64 - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_line_is_an_event() {
        let mut out = Vec::new();
        line(12_345, 1_767_225_600_000, "live/", &mut out).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!((json["device"].as_str(), json["stream"].as_str()), (Some("power-45"), Some("live/power")));
        assert!((3_200.0..5_200.0).contains(&json["value"].as_f64().unwrap()));
    }
}
