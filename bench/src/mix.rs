//! The reference mix of a site: temperature sensors, vibration monitors,
//! cameras as feature vectors, energy meters and PLCs in the proportions and at
//! the rates of a site of the reference deployment, times a scale.
//!
//! Everything is a function of the seed, the device and the reading's number,
//! so that a check can compute what was sent without a record of it. Nothing
//! here knows a clock or a socket.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::Write;

use crate::Outcome;

/// Samples in one vibration reading: 64 at 10 readings a second are 640 Hz.
pub const VIBRATION_SAMPLES: usize = 64;
/// Features that a camera's own network makes of a frame.
pub const CAMERA_FEATURES: usize = 32;
/// Rendered vectors that readings are taken from; a prime, so that devices differ.
const POOL: usize = 61;

/// A kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// °C, once a minute.
    Temperature,
    /// m/s², ten times a second a vector of samples.
    Vibration,
    /// 30 feature vectors a second.
    Camera,
    /// W, every 15 seconds.
    Meter,
    /// bar, 100 times a second.
    Plc,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Temperature, Self::Vibration, Self::Camera, Self::Meter, Self::Plc];

    /// Devices of one site.
    pub fn per_site(self) -> u64 {
        match self {
            Self::Temperature => 20,
            Self::Vibration => 15,
            Self::Camera => 5,
            Self::Meter => 8,
            Self::Plc => 2,
        }
    }

    /// Time between two readings of one device, µs.
    pub fn period_us(self) -> u64 {
        match self {
            Self::Temperature => 60_000_000,
            Self::Vibration => 100_000,
            Self::Camera => 33_333,
            Self::Meter => 15_000_000,
            Self::Plc => 10_000,
        }
    }

    /// The stream's name.
    pub fn stream(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Vibration => "vibration",
            Self::Camera => "features",
            Self::Meter => "power",
            Self::Plc => "pressure",
        }
    }

    /// What devices of it are called, before a number.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Temperature => "temp",
            Self::Vibration => "vib",
            Self::Camera => "cam",
            Self::Meter => "meter",
            Self::Plc => "plc",
        }
    }

    /// Decimals of its numbers as text.
    fn decimals(self) -> i32 {
        match self {
            Self::Temperature | Self::Meter => 1,
            Self::Vibration | Self::Plc => 3,
            Self::Camera => 4,
        }
    }
}

/// One device.
#[derive(Debug, Clone)]
pub struct Device {
    /// Its kind.
    pub class: Class,
    /// Its name.
    pub name: String,
    /// When its first reading is due, µs after the start.
    pub phase_us: u64,
}

/// How often readings are out of the ordinary: one in so many, 0 for never.
#[derive(Debug, Clone, Copy)]
pub struct Unusual {
    /// A temperature above 85 °C.
    pub hot: u64,
    /// A pressure above 8 bar.
    pub high: u64,
    /// A pressure below 1 bar.
    pub low: u64,
    /// A frame with a defect.
    pub defect: u64,
}

/// The devices and what they say.
#[derive(Debug)]
pub struct Mix {
    /// All devices.
    pub devices: Vec<Device>,
    unusual: Unusual,
    seed: u64,
    vibration: Vec<Vec<u8>>,
    camera: Vec<Vec<u8>>,
    defects: Vec<Vec<u8>>,
}

/// A reading that is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due {
    /// When, µs after the start.
    pub at_us: u64,
    /// Index of the device.
    pub device: u32,
    /// Its reading's number, from 0.
    pub number: u32,
}

/// splitmix64 (Steele, Lea and Flood, 2014): a hash of a counter.
pub fn hash(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Evenly in [-1, 1).
fn noise(x: u64) -> f64 {
    (hash(x) >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
}

impl Mix {
    /// The devices of `sites` sites behind one agent.
    pub fn new(sites: u64, unusual: Unusual, seed: u64) -> Self {
        let mut devices = Vec::new();
        for class in Class::ALL {
            for n in 0..class.per_site() * sites {
                let phase_us = hash(seed ^ (n << 8 | class as u64)) % class.period_us();
                devices.push(Device { class, name: format!("{}-{n}", class.prefix()), phase_us });
            }
        }
        let vector = |class: Class, n: usize, length: usize, value: &dyn Fn(u64) -> f64| {
            let mut text = vec![b'['];
            for i in 0..length {
                let separator = if i > 0 { "," } else { "" };
                let x = value((n * length + i) as u64);
                // Writing to memory does not fail.
                let _ = write!(text, "{separator}{x:.*}", class.decimals() as usize);
            }
            text.push(b']');
            text
        };
        let shake = |i: u64| {
            let t = i as f64 / 640.0;
            let tone = |hz: f64, a: f64| a * (std::f64::consts::TAU * hz * t).sin();
            tone(24.7, 1.2) + tone(118.3, 0.4) + 0.3 * noise(seed ^ i)
        };
        let frame = |i: u64| 0.5 + 0.1 * noise(seed ^ (i << 20));
        let defect = |i: u64| if i.is_multiple_of(4) { 0.97 } else { frame(i) };
        let pool = |class, length, value: &dyn Fn(u64) -> f64| -> Vec<Vec<u8>> {
            (0..POOL).map(|n| vector(class, n, length, value)).collect()
        };
        Self {
            vibration: pool(Class::Vibration, VIBRATION_SAMPLES, &shake),
            camera: pool(Class::Camera, CAMERA_FEATURES, &frame),
            defects: pool(Class::Camera, CAMERA_FEATURES, &defect),
            devices,
            unusual,
            seed,
        }
    }

    /// Readings a second.
    pub fn rate(&self) -> f64 {
        self.devices.iter().map(|device| 1e6 / device.class.period_us() as f64).sum()
    }

    /// All readings up to an end, in order of time.
    pub fn schedule(&self, end_us: u64) -> Vec<Due> {
        let first = |(n, device): (usize, &Device)| Due { at_us: device.phase_us, device: n as u32, number: 0 };
        let mut heap: BinaryHeap<Reverse<Due>> = self.devices.iter().enumerate().map(first).map(Reverse).collect();
        let mut all = Vec::new();
        while let Some(Reverse(due)) = heap.pop() {
            if due.at_us >= end_us {
                break;
            }
            all.push(due);
            let at_us = due.at_us + self.devices[due.device as usize].class.period_us();
            heap.push(Reverse(Due { at_us, device: due.device, number: due.number + 1 }));
        }
        all
    }

    /// True for one reading in `every`, the same ones always.
    fn is_one_in(&self, every: u64, device: u32, number: u32, what: u64) -> bool {
        every > 0 && (u64::from(number) + hash(self.seed ^ what ^ u64::from(device) << 16)).is_multiple_of(every)
    }

    /// The number that a device sends, as it is read back from its text; none of a vector.
    pub fn value(&self, due: Due) -> Option<f64> {
        let class = self.devices[due.device as usize].class;
        let n = u64::from(due.number);
        let jitter = noise(self.seed ^ u64::from(due.device) << 32 ^ n);
        let slow = (n as f64 / 40.0 + f64::from(due.device)).sin();
        let value = match class {
            Class::Temperature if self.is_one_in(self.unusual.hot, due.device, due.number, 1) => 90.0 + jitter,
            Class::Temperature => 62.0 + 6.0 * slow + 0.4 * jitter,
            Class::Meter => 4_200.0 + 900.0 * slow + 60.0 * jitter,
            Class::Plc if self.is_one_in(self.unusual.high, due.device, due.number, 2) => 9.0 + 0.5 * jitter,
            Class::Plc if self.is_one_in(self.unusual.low, due.device, due.number, 3) => 0.5 + 0.2 * jitter,
            Class::Plc => 5.0 + 0.8 * (n as f64 / 900.0).sin() + 0.05 * jitter,
            Class::Vibration | Class::Camera => return None,
        };
        let scale = 10_f64.powi(class.decimals());
        Some((value * scale).round() / scale)
    }

    /// True when the reading is a frame with a defect.
    pub fn is_defect(&self, due: Due) -> bool {
        self.devices[due.device as usize].class == Class::Camera
            && self.is_one_in(self.unusual.defect, due.device, due.number, 4)
    }

    /// Appends the JSON that the device sends, with its own time.
    pub fn payload(&self, due: Due, time_ms: i64, out: &mut Vec<u8>) -> Outcome<()> {
        let class = self.devices[due.device as usize].class;
        let at = (due.device as usize * 7 + due.number as usize) % POOL;
        out.extend_from_slice(b"{\"value\":");
        match (class, self.value(due)) {
            (_, Some(value)) => write!(out, "{value:.*}", class.decimals() as usize)?,
            (Class::Vibration, None) => out.extend_from_slice(&self.vibration[at]),
            _ if self.is_defect(due) => out.extend_from_slice(&self.defects[at]),
            _ => out.extend_from_slice(&self.camera[at]),
        }
        let unit = match class {
            Class::Temperature => ",\"unit\":\"°C\"",
            Class::Vibration => ",\"unit\":\"m/s²\"",
            Class::Meter => ",\"unit\":\"W\"",
            Class::Plc => ",\"unit\":\"bar\"",
            Class::Camera => "",
        };
        write!(out, "{unit},\"ts\":{time_ms},\"id\":\"{:x}-{}\"}}", self.seed, due.number)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNUSUAL: Unusual = Unusual { hot: 4, high: 100, low: 300, defect: 50 };

    #[test]
    fn twenty_sites_are_ten_thousand_readings_a_second() {
        let mix = Mix::new(20, UNUSUAL, 1);
        assert!((mix.rate() - 10_017.0).abs() < 5.0, "{}", mix.rate());
        let due = mix.schedule(2_000_000);
        assert!(due.is_sorted());
        assert!((due.len() as f64 - 20_034.0).abs() < 500.0, "{}", due.len());
    }

    #[test]
    fn a_payload_is_json_with_the_value_that_is_said_of_it() {
        let mix = Mix::new(1, UNUSUAL, 1);
        for due in mix.schedule(20_000_000) {
            let mut out = Vec::new();
            mix.payload(due, 1_767_225_600_000, &mut out).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
            match mix.value(due) {
                Some(value) => assert_eq!(json["value"].as_f64(), Some(value)),
                None => assert!(json["value"].as_array().unwrap().len() >= 32),
            }
        }
    }
}
