//! A recorded day of a small site, made from a seed: readings as devices send
//! them, in the order of their arrival, some late, some twice.
//!
//! The last readings of every series come hours after the others, so that
//! whatever waits for the devices' time to pass has ended when they arrived.

use std::fmt::Write;

use crate::mix::hash;

/// Length of the day, ms.
pub const DAY_MS: i64 = 86_400_000;
/// How long after the day the closing readings are, ms.
pub const CLOSING_MS: i64 = 12 * 3_600_000;
/// Vibration samples of one reading, and how often a second they are taken.
pub const SAMPLES: usize = 64;

/// One message.
#[derive(Debug, Clone)]
pub struct Message {
    /// MQTT topic.
    pub topic: String,
    /// JSON.
    pub payload: String,
}

/// How often each kind of device sends, ms, and how many there are.
const TEMPERATURES: (i64, u64) = (60_000, 12);
const METERS: (i64, u64) = (15_000, 8);
const PRESSURES: (i64, u64) = (2_000, 2);
const VIBRATIONS: (i64, u64) = (10_000, 3);
/// One reading in so many arrives late, or twice.
const LATE_EVERY: u64 = 97;
const TWICE_EVERY: u64 = 211;
/// A late reading is overtaken by what the next so many ms bring.
const LATE_MS: i64 = 200_000;

fn noise(x: u64) -> f64 {
    (hash(x) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

/// The messages of a day that begins at a time (Unix ms).
pub fn day(seed: u64, start_ms: i64) -> Vec<Message> {
    let mut all: Vec<(i64, u64, Message)> = Vec::new();
    let kinds = [("temperature", TEMPERATURES), ("power", METERS), ("pressure", PRESSURES), ("vibration", VIBRATIONS)];
    for (kind, (stream, (period_ms, devices))) in kinds.into_iter().enumerate() {
        for n in 0..devices {
            let salt = hash(seed ^ (kind as u64) << 32 ^ n);
            let phase = (salt % period_ms as u64) as i64;
            let mut times: Vec<i64> = (0..DAY_MS / period_ms).map(|i| phase + i * period_ms).collect();
            // Twice, since the first one may itself be what a window waits for.
            times.extend([DAY_MS + CLOSING_MS, DAY_MS + CLOSING_MS + 60_000]);
            for (i, at) in times.into_iter().enumerate() {
                let x = salt ^ i as u64;
                // Silence at times: sessions end, sources idle.
                if at < DAY_MS && hash(salt ^ (at / 1_800_000) as u64).is_multiple_of(23) {
                    continue;
                }
                let message = message(stream, n, i as u64, start_ms + at, x);
                let late = at < DAY_MS && hash(x ^ 5).is_multiple_of(LATE_EVERY);
                let arrives = if late { at + LATE_MS } else { at };
                if hash(x ^ 6).is_multiple_of(TWICE_EVERY) {
                    all.push((arrives + 500, hash(x ^ 7), message.clone()));
                }
                all.push((arrives, hash(x ^ 8), message));
            }
        }
    }
    all.sort_by_key(|(arrives, tie, _)| (*arrives, *tie));
    all.into_iter().map(|(_, _, message)| message).collect()
}

fn message(stream: &str, n: u64, i: u64, time_ms: i64, x: u64) -> Message {
    let hours = (time_ms % DAY_MS) as f64 / 3_600_000.0;
    let daily = (hours / 24.0 * std::f64::consts::TAU).sin();
    let mut payload = String::from("{\"value\":");
    let unit = match stream {
        "temperature" => {
            // An episode of an hour and more in some of the hours.
            let hot = hash(n ^ (hours as u64) << 8).is_multiple_of(9);
            let celsius = 70.0 + 8.0 * daily + 1.5 * noise(x) + if hot { 18.0 } else { 0.0 };
            let fahrenheit = n % 4 == 3;
            let value = if fahrenheit { celsius * 1.8 + 32.0 } else { celsius };
            let _ = write!(payload, "{value:.1}");
            if fahrenheit { "°F" } else { "°C" }
        }
        "power" => {
            let value =
                if hash(x ^ 1).is_multiple_of(500) { 9_500.0 } else { 4_200.0 + 900.0 * daily + 80.0 * noise(x) };
            let _ = write!(payload, "{value:.1}");
            "W"
        }
        "pressure" => {
            let value = match hash(x ^ 2) % 400 {
                0 => 9.0 + noise(x),
                1 => 0.6,
                _ => 5.0 + 0.5 * daily + 0.1 * noise(x),
            };
            let _ = write!(payload, "{value:.3}");
            "bar"
        }
        _ => {
            payload.push('[');
            let strong = hash(n ^ (hours as u64) << 9).is_multiple_of(6);
            for s in 0..SAMPLES as u64 {
                let t = (i * SAMPLES as u64 + s) as f64 / 640.0;
                let tone = |hz: f64, a: f64| a * (std::f64::consts::TAU * hz * t).sin();
                let value = tone(24.7, 1.2) + tone(118.3, if strong { 3.0 } else { 0.4 }) + 0.2 * noise(x ^ s << 40);
                let _ = write!(payload, "{}{value:.3}", if s > 0 { "," } else { "" });
            }
            payload.push(']');
            "m/s²"
        }
    };
    let quality = if hash(x ^ 3).is_multiple_of(300) { ",\"quality\":\"bad\"" } else { "" };
    let _ = write!(
        payload,
        ",\"unit\":\"{unit}\",\"ts\":{time_ms},\"id\":\"{i}\"{quality},\"attributes\":{{\"line\":\"{}\"}}}}",
        n % 3
    );
    Message { topic: format!("grey/{stream}-{n}/{stream}"), payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_same_each_time_and_is_json() {
        let messages = day(1, 1_767_225_600_000);
        assert!(messages.len() > 150_000, "{}", messages.len());
        for (a, b) in messages.iter().zip(day(1, 1_767_225_600_000)).step_by(1_001) {
            assert_eq!(a.payload, b.payload);
            let json: serde_json::Value = serde_json::from_str(&a.payload).unwrap();
            assert!(json["value"].is_number() || json["value"].is_array());
        }
    }
}
