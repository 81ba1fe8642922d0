//! What every method keeps, on made-up series: it finds what it is for, is silent on
//! what is usual, survives what is not, and continues from its bytes.

use grey_model::Reader;
use proptest::prelude::*;

use super::{Detector, Finding, Method};

const MINUTE_MS: i64 = 60_000;
/// A Monday at midnight UTC.
const START_MS: i64 = 1_767_571_200_000;

/// Made-up noise: uniform and bell-shaped numbers from a seed.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// Values every five minutes.
fn series(seed: u64, len: usize, of: impl Fn(usize, &mut Noise) -> f64) -> Vec<(i64, f64)> {
    let mut noise = Noise(seed);
    (0..len).map(|index| (START_MS + index as i64 * 5 * MINUTE_MS, of(index, &mut noise))).collect()
}

/// Where in the series a detector raises an alarm.
fn alarms(method: Method, series: &[(i64, f64)]) -> Vec<usize> {
    let mut detector = Detector::new(method);
    let threshold = Detector::threshold(method);
    let scores = series.iter().map(|(time, value)| detector.observe(*time, *value).score);
    scores.enumerate().filter(|(_, score)| *score >= threshold).map(|(index, _)| index).collect()
}

/// Alarms between two places.
fn within(alarms: &[usize], from: usize, to: usize) -> usize {
    alarms.iter().filter(|at| (from..to).contains(at)).count()
}

fn day(index: usize) -> f64 {
    (index as f64 / 288.0 * std::f64::consts::TAU).sin()
}

#[test]
fn a_spike_is_found_at_once() {
    for seed in 1..=10 {
        let spiked = series(seed, 1_500, |index, noise| 50.0 + noise.normal() + f64::from(index == 1_000) * 25.0);
        for method in [Method::General, Method::Robust, Method::Ewma] {
            let alarms = alarms(method, &spiked);
            assert!(within(&alarms, 1_000, 1_002) > 0, "{method:?}, seed {seed}: {alarms:?}");
        }
    }
}

#[test]
fn a_step_is_found_soon_and_told_few_times() {
    for seed in 1..=10 {
        let stepped = series(seed, 1_500, |index, noise| 50.0 + noise.normal() + f64::from(index >= 1_000) * 8.0);
        for (method, most) in [(Method::General, 3), (Method::Cusum, 3), (Method::Ewma, 60), (Method::Robust, 80)] {
            let alarms = alarms(method, &stepped);
            assert!(within(&alarms, 1_000, 1_012) > 0, "{method:?}, seed {seed}: {alarms:?}");
            assert!(within(&alarms, 1_000, 1_500) <= most, "{method:?}, seed {seed}: {alarms:?}");
        }
    }
}

#[test]
fn a_small_shift_is_found_by_the_cumulative_sum_with_its_beginning() {
    for seed in 1..=10 {
        let shifted = series(seed, 1_500, |index, noise| 50.0 + noise.normal() + f64::from(index >= 1_000) * 2.0);
        let mut detector = Detector::new(Method::Cusum);
        let mut first = None;
        for (index, (time, value)) in shifted.iter().enumerate() {
            let finding = detector.observe(*time, *value);
            if index >= 1_000 && finding.score >= 0.9 {
                first = first.or(Some((index, finding)));
            }
        }
        let Some((index, finding)) = first else { panic!("seed {seed}: not found") };
        assert!(index < 1_040, "seed {seed}: found at {index}");
        let began = (finding.since_ms.unwrap_or(0) - START_MS) / (5 * MINUTE_MS);
        assert!((980..=index as i64).contains(&began), "seed {seed}: began at {began}");
        assert!((finding.expected - 50.0).abs() < 1.5, "seed {seed}: {finding:?}");
    }
}

#[test]
fn a_changed_period_is_found() {
    for seed in 1..=10 {
        let changed = series(seed, 2_500, |index, noise| {
            let period = if index < 2_000 { 48.0 } else { 16.0 };
            (index as f64 / period * std::f64::consts::TAU).sin() * 10.0 + 0.3 * noise.normal()
        });
        let alarms = alarms(Method::General, &changed);
        assert!(within(&alarms, 2_000, 2_060) > 0, "seed {seed}: {alarms:?}");
    }
}

#[test]
fn a_flat_line_in_a_noisy_series_is_found() {
    for seed in 1..=10 {
        let flat = series(seed, 2_500, |index, noise| if index < 2_000 { 20.0 + noise.normal() } else { 20.0 });
        let alarms = alarms(Method::General, &flat);
        assert!(within(&alarms, 2_020, 2_040) == 1, "seed {seed}: {alarms:?}");
    }
}

#[test]
fn a_day_that_is_unlike_the_others_is_found() {
    // Each value is usual; what is not is that the day's wave is missing.
    for seed in 1..=10 {
        let missing = series(seed, 288 * 15, |index, noise| {
            let wave = if index / 288 == 13 { 0.0 } else { 10.0 * day(index) };
            40.0 + wave + noise.normal()
        });
        let alarms = alarms(Method::Seasonal, &missing);
        assert!(within(&alarms, 288 * 13, 288 * 14) > 0, "seed {seed}: {alarms:?}");
    }
}

#[test]
fn a_clean_season_with_noise_raises_no_alarm() {
    for seed in 1..=10 {
        let clean = series(seed, 288 * 20, |index, noise| 40.0 + 10.0 * day(index) + noise.normal());
        for method in [Method::Seasonal, Method::General] {
            let alarms = alarms(method, &clean);
            assert_eq!(within(&alarms, 288 * 4, usize::MAX), 0, "{method:?}, seed {seed}: {alarms:?}");
        }
    }
}

#[test]
fn plain_noise_raises_few_alarms() {
    for seed in 1..=5 {
        let noise = series(seed, 10_000, |_, noise| 40.0 + noise.normal());
        for method in Method::ALL {
            let alarms = alarms(method, &noise);
            assert!(within(&alarms, 300, usize::MAX) <= 4, "{method:?}, seed {seed}: {alarms:?}");
        }
    }
}

#[test]
fn a_constant_is_no_anomaly_and_its_end_is_one() {
    for method in [Method::General, Method::Robust, Method::Ewma] {
        for level in [0.0, 5.0, -1e9, 1e-12, 1e140] {
            let ends = series(1, 600, |index, _| if index < 500 { level } else { level + level.abs().max(1.0) });
            let alarms = alarms(method, &ends);
            assert_eq!(alarms.first(), Some(&500), "{method:?} at {level}: {alarms:?}");
        }
    }
}

#[test]
fn scale_and_origin_do_not_matter() {
    let of = |scale: f64, origin: f64| {
        series(3, 1_500, |index, noise| origin + scale * (noise.normal() + f64::from(index == 900) * 12.0))
    };
    for method in Method::ALL {
        let plain = alarms(method, &of(1.0, 0.0));
        assert_eq!(alarms(method, &of(1024.0, 0.0)), plain, "{method:?}");
        assert_eq!(alarms(method, &of(1.0 / 1024.0, 0.0)), plain, "{method:?}");
        assert_eq!(alarms(method, &of(-1.0, 0.0)).len(), plain.len(), "{method:?}");
    }
}

#[test]
fn what_is_not_finite_is_not_taken() {
    for method in Method::ALL {
        let (mut with, mut without) = (Detector::new(method), Detector::new(method));
        for (time, value) in series(5, 300, |_, noise| noise.normal()) {
            for hostile in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                assert_eq!(with.observe(time, hostile).score, 0.0);
            }
            assert_eq!(with.observe(time, value), without.observe(time, value));
        }
        assert_eq!(with, without);
    }
}

#[test]
fn memory_is_what_is_documented() {
    let bytes = Method::ALL.map(|method| Detector::new(method).bytes());
    let most = [2_200, 128, 128, 2_400, 8_192];
    for (method, (bytes, most)) in Method::ALL.into_iter().zip(bytes.into_iter().zip(most)) {
        assert!(bytes <= most, "{method:?}: {bytes} bytes");
    }
}

#[test]
fn names_are_read_back() {
    for method in Method::ALL {
        assert_eq!(Method::parse(method.as_str()), Some(method));
    }
    assert_eq!(Method::parse("other"), None);
    assert_eq!(Method::default(), Method::General);
}

fn written(detector: &Detector) -> Vec<u8> {
    let mut bytes = Vec::new();
    detector.write(&mut bytes);
    bytes
}

/// Bit for bit: a comparison of floating-point numbers takes -0 for 0.
fn bits(finding: Finding) -> (u64, u64, u64, Option<i64>) {
    (finding.score.to_bits(), finding.expected.to_bits(), finding.seen.to_bits(), finding.since_ms)
}

fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(Method::ALL.to_vec())
}

/// Usual and hostile values.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        6 => -100.0_f64..100.0,
        2 => Just(7.0),
        1 => any::<f64>(),
        1 => prop::sample::select(vec![0.0, -0.0, 1e308, -1e308, f64::MIN_POSITIVE, 5e-324, f64::NAN]),
    ]
}

/// Times that run, stand still, jump and lie at the ends.
fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => (0_i64..10_000_000).prop_map(|at| START_MS + at * 1_000),
        1 => any::<i64>(),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_series_keeps_the_score_in_bounds_and_the_state_finite(
        method in method(), rows in prop::collection::vec((time(), value()), 0..600)
    ) {
        let mut detector = Detector::new(method);
        for (time, value) in rows {
            let finding = detector.observe(time, value);
            prop_assert!((0.0..=1.0).contains(&finding.score), "{finding:?}");
            prop_assert!(finding.expected.is_finite() || !value.is_finite(), "{finding:?}");
        }
        // Reading refuses whatever is not finite.
        let bytes = written(&detector);
        let mut reader = Reader::new(&bytes);
        let again = Detector::read(&mut reader);
        prop_assert_eq!(again.as_ref(), Ok(&detector));
        prop_assert!(reader.is_empty());
    }

    #[test]
    fn a_restored_detector_continues_bit_for_bit(
        method in method(),
        before in prop::collection::vec((time(), value()), 0..400),
        after in prop::collection::vec((time(), value()), 0..100),
    ) {
        let mut detector = Detector::new(method);
        for (time, value) in before {
            detector.observe(time, value);
        }
        let bytes = written(&detector);
        let mut restored = Detector::read(&mut Reader::new(&bytes)).expect("own bytes");
        prop_assert_eq!(written(&restored), bytes);
        for (time, value) in after {
            prop_assert_eq!(bits(detector.observe(time, value)), bits(restored.observe(time, value)));
        }
        prop_assert_eq!(written(&restored), written(&detector));
    }

    #[test]
    fn hostile_bytes_never_panic(
        method in method(),
        noise in prop::collection::vec(any::<u8>(), 0..400),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let _ = Detector::read(&mut Reader::new(&noise));
        let mut detector = Detector::new(method);
        for (time, value) in series(9, 200, |_, noise| noise.normal()) {
            detector.observe(time, value);
        }
        let mut bytes = written(&detector);
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        // What is read of changed bytes may be wrong, but goes on without a panic.
        if let Ok(mut changed) = Detector::read(&mut Reader::new(&bytes)) {
            for (time, value) in series(10, 50, |_, noise| noise.normal()) {
                let finding = changed.observe(time, value);
                prop_assert!(finding.score.is_nan() || (0.0..=1.0).contains(&finding.score));
            }
        }
        let cut = cut.index(bytes.len());
        prop_assert!(Detector::read(&mut Reader::new(&written(&detector)[..cut.min(bytes.len() - 1)])).is_err());
    }
}
