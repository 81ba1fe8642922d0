//! The kinds of devices of the reference deployment, and what they measure.

use std::f64::consts::TAU;
use std::time::Duration;

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// One reading a minute; one of them sits on an oven and alarms.
    Temperature,
    /// Ten readings a second.
    Vibration,
    /// One reading in fifteen seconds.
    Energy,
    /// A hundred readings a second.
    Plc,
}

/// The share of one site in the reference deployment: 20,000 temperature
/// sensors, 15,000 vibration monitors, 8,000 energy meters and 2,000 PLCs over
/// 1,000 sites. That is 351 readings a second.
pub(crate) const REFERENCE_SITE: [(Profile, usize); 4] =
    [(Profile::Temperature, 20), (Profile::Vibration, 15), (Profile::Energy, 8), (Profile::Plc, 2)];

impl Profile {
    /// The device's name within its site.
    pub(crate) fn device(self, number: usize) -> String {
        let kind = match self {
            Self::Temperature => "temp",
            Self::Vibration => "vib",
            Self::Energy => "meter",
            Self::Plc => "plc",
        };
        format!("{kind}-{number:02}")
    }

    /// What it measures, and in which unit.
    pub(crate) fn stream(self) -> (&'static str, &'static str) {
        match self {
            Self::Temperature => ("temperature", "°C"),
            Self::Vibration => ("vibration", "mm/s"),
            Self::Energy => ("power", "kW"),
            Self::Plc => ("pressure", "bar"),
        }
    }

    /// Time between two readings.
    pub(crate) fn period(self) -> Duration {
        match self {
            Self::Temperature => Duration::from_secs(60),
            Self::Vibration => Duration::from_millis(100),
            Self::Energy => Duration::from_secs(15),
            Self::Plc => Duration::from_millis(10),
        }
    }

    /// When the first reading is due: the devices of a kind spread over their period.
    pub(crate) fn phase(self, number: usize, of: usize) -> Duration {
        self.period().mul_f64(number as f64 / of.max(1) as f64)
    }

    /// The n-th reading of a device: a smooth course with noise, in the
    /// resolution of a real sensor, the same in every run.
    pub(crate) fn value(self, number: usize, n: u64) -> f64 {
        let noise = noise(number as u64, n);
        let turn = |period: f64| (TAU * (n as f64 / period + number as f64 / 7.0)).sin();
        let (value, step) = match self {
            // Device 0 stands on the oven: always above the alarm limit of 85.
            Self::Temperature if number == 0 => (90.0 + 2.0 * turn(60.0) + noise, 0.1),
            Self::Temperature => (55.0 + 15.0 * turn(60.0) + noise, 0.1),
            Self::Vibration => (2.8 + 0.6 * turn(300.0) + 0.3 * noise, 0.01),
            Self::Energy => (14.0 + 6.0 * turn(240.0) + noise, 0.01),
            Self::Plc => (5.5 + 0.2 * turn(1_000.0) + 0.02 * noise, 0.001),
        };
        (value / step).round() * step
    }
}

/// Noise in -1..1 from a mixed counter (splitmix64, Steele et al., 2014).
fn noise(device: u64, n: u64) -> f64 {
    let mut z = (device << 40).wrapping_add(n).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64 * 2.0 - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_has_the_rate_of_the_reference_deployment() {
        let rate: f64 = REFERENCE_SITE.iter().map(|(p, count)| *count as f64 / p.period().as_secs_f64()).sum();
        assert!((350.0..352.0).contains(&rate), "{rate}");
    }

    #[test]
    fn only_the_oven_alarms() {
        for n in 0..10_000 {
            assert!(Profile::Temperature.value(0, n) > 85.0);
            assert!(Profile::Temperature.value(1, n) < 85.0);
        }
    }

    #[test]
    fn first_readings_are_spread_over_the_period() {
        let p = Profile::Temperature;
        assert_eq!(p.phase(0, 20), Duration::ZERO);
        assert!(p.phase(19, 20) < p.period());
    }
}
