//! Tests of the spectra: known signals have known numbers.

use std::f64::consts::{FRAC_1_SQRT_2, SQRT_2, TAU};

use grey_model::Reader;
use proptest::prelude::*;

use super::*;

const T0_MS: i64 = 1_760_000_000_000;

fn band(name: &str, from_hz: f64, to_hz: f64) -> Band {
    Band { name: name.into(), from_hz, to_hz }
}

fn sine(rate_hz: f64, count: usize, hz: f64, amplitude: f64) -> Vec<f64> {
    (0..count).map(|n| amplitude * (TAU * hz * n as f64 / rate_hz + 0.3).sin()).collect()
}

/// Uniform numbers in [0, 1): SplitMix64.
struct Uniform(u64);

impl Uniform {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normally distributed (Box and Muller).
    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.next()).ln()).sqrt() * (TAU * self.next()).cos()
    }
}

fn one_frame(spec: SpectrumSpec, samples: &[f64]) -> Features {
    Analyzer::new(spec).unwrap().analyze(samples, T0_MS).unwrap()
}

fn near(found: f64, expected: f64, relative: f64) {
    assert!((found - expected).abs() <= relative * expected.abs(), "{found} is not {expected}");
}

#[test]
fn a_sine_has_its_rms_frequency_amplitude_and_band() {
    for window in [Window::Hann, Window::Hamming, Window::FlatTop] {
        // Between two lines, at every tenth of their distance.
        for tenth in 0..10 {
            let mut spec = SpectrumSpec::new(1_024.0, 1_024);
            let hz = 120.0 + f64::from(tenth) / 10.0;
            (spec.window, spec.peaks) = (window, 1);
            spec.bands = vec![band("below", 0.0, 100.0), band("tone", 100.0, 150.0), band("above", 150.0, 512.0)];
            let found = one_frame(spec, &sine(1_024.0, 1_024, hz, 3.0));
            // 120.5 cycles are no whole number, so the plain RMS has the end effect; the band has not.
            near(found.rms, 3.0 * FRAC_1_SQRT_2, 2e-3);
            near(found.bands[1], 3.0 * FRAC_1_SQRT_2, 1e-3);
            assert!(found.bands[0] < 0.03 && found.bands[2] < 0.03, "{window:?} {hz}: {found:?}");
            let (peak_hz, amplitude) = found.peaks[0];
            assert!((peak_hz - hz).abs() < 0.01, "{window:?}: {peak_hz} is not within a hundredth of a line of {hz}");
            near(amplitude, 3.0, 1e-3);
        }
    }
}

#[test]
fn a_sine_of_whole_cycles_is_exact() {
    let mut spec = SpectrumSpec::new(1_000.0, 1_000_usize.next_power_of_two());
    spec.peaks = 1;
    let hz = 101.0 * spec.resolution_hz();
    let found = one_frame(spec, &sine(1_000.0, 1_024, hz, 2.0));
    near(found.rms, SQRT_2, 1e-12);
    near(found.kurtosis, 1.5, 1e-12);
    near(found.peaks[0].0, hz, 1e-9);
    near(found.crest, SQRT_2, 1e-3);
    assert!(found.mean.abs() < 1e-12);
}

#[test]
fn bands_that_cover_the_spectrum_hold_its_power() {
    // Parseval: the lines together are the mean square of the weighted samples over that of the weights.
    for window in Window::ALL {
        let mut random = Uniform(7);
        let samples: Vec<f64> = (0..512).map(|_| random.normal() + 5.0).collect();
        let mut spec = SpectrumSpec::new(512.0, 512);
        spec.window = window;
        spec.bands = vec![band("low", 0.0, 63.5), band("middle", 63.5, 200.0), band("high", 200.0, 256.0)];
        let found = one_frame(spec, &samples);
        let sum: f64 = found.bands.iter().map(|rms| rms * rms).sum();
        let weights: Vec<f64> = (0..512).map(|n| window.weight(n, 512)).collect();
        let weighted: f64 = samples.iter().zip(&weights).map(|(x, w)| ((x - found.mean) * w).powi(2)).sum();
        near(sum, weighted / weights.iter().map(|w| w * w).sum::<f64>(), 1e-12);
        if window == Window::Rectangular {
            near(sum.sqrt(), found.rms, 1e-12);
        }
    }
}

#[test]
fn the_spectrum_is_the_plain_transform() {
    let mut random = Uniform(3);
    let samples: Vec<f64> = (0..64).map(|_| random.normal()).collect();
    let mean = samples.iter().sum::<f64>() / 64.0;
    let mut spec = SpectrumSpec::new(64.0, 64);
    spec.bands = (1..32).map(|k| band(&format!("line-{k}"), f64::from(k) - 0.5, f64::from(k) + 0.5)).collect();
    let found = one_frame(spec, &samples);
    let weights: Vec<f64> = (0..64).map(|n| Window::Hann.weight(n, 64)).collect();
    let squares: f64 = weights.iter().map(|w| w * w).sum();
    for k in 1..32_usize {
        let (mut re, mut im) = (0.0, 0.0);
        for (n, x) in samples.iter().enumerate() {
            let phase = TAU * (k * n) as f64 / 64.0;
            re += (x - mean) * weights[n] * phase.cos();
            im -= (x - mean) * weights[n] * phase.sin();
        }
        near(found.bands[k - 1], (2.0 * (re * re + im * im) / (64.0 * squares)).sqrt(), 1e-9);
    }
}

#[test]
fn white_noise_has_a_kurtosis_of_three_and_equal_bands() {
    let mut random = Uniform(42);
    let samples: Vec<f64> = (0..65_536).map(|_| 0.5 * random.normal()).collect();
    let mut spec = SpectrumSpec::new(1_000.0, 65_536);
    spec.bands = vec![band("low", 0.0, 250.0), band("high", 250.0, 500.0)];
    let found = one_frame(spec, &samples);
    near(found.rms, 0.5, 0.02);
    assert!((found.kurtosis - 3.0).abs() < 0.1, "{}", found.kurtosis);
    near(found.bands[0], 0.5 * FRAC_1_SQRT_2, 0.03);
    near(found.bands[1], 0.5 * FRAC_1_SQRT_2, 0.03);
}

#[test]
fn an_impulse_train_has_its_crest_and_kurtosis() {
    // One sample in 64 is 1: mean 1/64, variance p(1-p), peak 1-p, kurtosis (1-3p+3p²)/(p(1-p)).
    let samples: Vec<f64> = (0..1_024).map(|n| f64::from(u8::from(n % 64 == 0))).collect();
    let found = one_frame(SpectrumSpec::new(1_000.0, 1_024), &samples);
    let p = 1.0 / 64.0;
    let rms = f64::sqrt(p * (1.0 - p));
    near(found.rms, rms, 1e-12);
    near(found.crest, (1.0 - p) / rms, 1e-12);
    near(found.kurtosis, (1.0 - 3.0 * p + 3.0 * p * p) / (p * (1.0 - p)), 1e-12);
}

#[test]
fn acceleration_becomes_velocity() {
    for (rate_hz, size, hz, tolerance) in
        [(4_096.0, 4_096, 50.0, 1e-3), (4_096.0, 4_096, 159.155, 1e-3), (1_000.0, 1_024, 25.0, 2e-3)]
    {
        let mut spec = SpectrumSpec::new(rate_hz, size);
        spec.velocity = true;
        let found = one_frame(spec, &sine(rate_hz, size, hz, 10.0));
        // v = a / (2 pi f), in mm/s.
        near(found.velocity_rms.unwrap(), 10.0 * FRAC_1_SQRT_2 / (TAU * hz) * 1_000.0, tolerance);
    }
    // What is outside 10 to 1000 Hz does not count.
    for hz in [4.0, 1_500.0] {
        let mut spec = SpectrumSpec::new(4_096.0, 4_096);
        spec.velocity = true;
        let found = one_frame(spec, &sine(4_096.0, 4_096, hz, 10.0));
        assert!(found.velocity_rms.unwrap() < 0.01, "{hz} Hz: {found:?}");
    }
}

#[test]
fn peaks_come_in_the_order_of_their_height() {
    let tones = [(40.0, 1.0), (100.0, 3.0), (200.0, 2.0)];
    let mut samples = vec![0.0; 1_024];
    for (hz, amplitude) in tones {
        samples.iter_mut().zip(sine(1_024.0, 1_024, hz, amplitude)).for_each(|(sum, x)| *sum += x);
    }
    let mut spec = SpectrumSpec::new(1_024.0, 1_024);
    spec.peaks = 8;
    let found = one_frame(spec.clone(), &samples);
    // Rounding makes no peaks.
    assert_eq!(found.peaks.len(), 3, "{:?}", found.peaks);
    for ((hz, amplitude), (expected_hz, expected)) in found.peaks.iter().zip([(100.0, 3.0), (200.0, 2.0), (40.0, 1.0)])
    {
        near(*hz, expected_hz, 1e-3);
        near(*amplitude, expected, 1e-2);
    }
    let fields = found.fields(&spec);
    let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names[5..7], ["peak1_hz", "peak1"]);
    assert_eq!(names.len(), 5 + 6);
}

#[test]
fn a_signal_that_does_not_move_has_no_features() {
    for level in [0.0, 0.1, -1e9, 1e60, 1e-300] {
        let mut spec = SpectrumSpec::new(1_000.0, 64);
        (spec.velocity, spec.size) = (true, 128);
        spec.peaks = 2;
        let found = one_frame(spec, &[level; 128]);
        assert_eq!((found.rms, found.peak, found.crest, found.kurtosis), (0.0, 0.0, 0.0, 0.0), "{level}");
        assert_eq!((found.velocity_rms, found.peaks.len()), (Some(0.0), 0));
    }
}

#[test]
fn frames_overlap_and_bear_the_time_of_their_last_sample() {
    let mut spec = SpectrumSpec::new(1_000.0, 64);
    spec.overlap = 0.75;
    let analyzer = Analyzer::new(spec).unwrap();
    let samples = sine(1_000.0, 256, 100.0, 1.0);
    let (mut series, mut out) = (Samples::default(), Vec::new());
    series.push(&analyzer, &samples, T0_MS + 255, &mut out);
    let times: Vec<i64> = out.iter().map(|frame| frame.time_ms - T0_MS).collect();
    assert_eq!(times, (63..256).step_by(16).collect::<Vec<i64>>());
    for (i, frame) in out.iter().enumerate() {
        let alone = analyzer.analyze(&samples[i * 16..i * 16 + 64], frame.time_ms).unwrap();
        assert_eq!(*frame, alone);
    }
}

#[test]
fn arrays_and_single_samples_give_the_same_bits() {
    let mut spec = SpectrumSpec::new(1_000.0, 128);
    (spec.overlap, spec.peaks, spec.velocity) = (0.5, 3, true);
    let analyzer = Analyzer::new(spec).unwrap();
    let mut random = Uniform(1);
    let samples: Vec<f64> = (0..1_000).map(|_| random.normal()).collect();
    let (mut whole, mut single) = (Vec::new(), Vec::new());
    Samples::default().push(&analyzer, &samples, T0_MS + 999, &mut whole);
    let mut series = Samples::default();
    for (n, sample) in samples.iter().enumerate() {
        series.push(&analyzer, &[*sample], T0_MS + n as i64, &mut single);
    }
    assert_eq!(whole, single);
    assert_eq!(whole.len(), (1_000 - 128) / 64 + 1);
}

#[test]
fn a_gap_begins_a_new_frame() {
    let analyzer = Analyzer::new(SpectrumSpec::new(1_000.0, 64)).unwrap();
    let (mut series, mut out) = (Samples::default(), Vec::new());
    let mut push = |series: &mut Samples, count: usize, from_ms: i64| {
        for n in 0..count {
            series.push(&analyzer, &[n as f64], T0_MS + from_ms + n as i64, &mut out);
        }
        out.len()
    };
    // Three samples missing are jitter; a second is a gap.
    push(&mut series, 30, 0);
    push(&mut series, 10, 33);
    assert_eq!((series.len(), series.restarts()), (40, 0));
    assert_eq!(push(&mut series, 30, 1_000), 0);
    assert_eq!((series.len(), series.restarts()), (30, 1));
    // The same again is stale; an hour back is another clock.
    push(&mut series, 10, 1_000);
    assert_eq!((series.len(), series.restarts(), series.stale()), (30, 1, 10));
    assert_eq!(push(&mut series, 64, -3_600_000), 1);
    assert_eq!((series.len(), series.restarts(), series.stale()), (0, 2, 10));
}

#[test]
fn arrays_may_jitter_but_not_go_missing() {
    let analyzer = Analyzer::new(SpectrumSpec::new(25_600.0, 4_096)).unwrap();
    let (mut series, mut out) = (Samples::default(), Vec::new());
    // 2,560 samples every 100 ms; the stamps jitter by 9 ms.
    for (n, jitter_ms) in [(1, 0), (2, 9), (3, -2), (4, 3)] {
        series.push(&analyzer, &sine(25_600.0, 2_560, 1_000.0, 1.0), T0_MS + n * 100 + jitter_ms, &mut out);
    }
    assert_eq!((out.len(), series.restarts(), series.len()), (2, 0, 4 * 2_560 - 2 * 4_096));
    series.push(&analyzer, &sine(25_600.0, 2_560, 1_000.0, 1.0), T0_MS + 600, &mut out);
    assert_eq!((out.len(), series.restarts(), series.len()), (2, 1, 2_560));
}

#[test]
fn unusable_samples_break_the_frame() {
    let analyzer = Analyzer::new(SpectrumSpec::new(1_000.0, 64)).unwrap();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e61] {
        let mut samples = sine(1_000.0, 100, 100.0, 1.0);
        samples[50] = bad;
        let (mut series, mut out) = (Samples::default(), Vec::new());
        series.push(&analyzer, &samples, T0_MS, &mut out);
        assert_eq!((out.len(), series.len(), series.not_finite(), series.restarts()), (0, 49, 1, 1));
        assert_eq!(analyzer.analyze(&samples[..64], T0_MS), None);
    }
}

#[test]
fn clocks_at_the_ends_of_time_do_no_harm() {
    let analyzer = Analyzer::new(SpectrumSpec::new(SAMPLE_RATE_HZ_MIN, 64)).unwrap();
    let (mut series, mut out) = (Samples::default(), Vec::new());
    for time_ms in [i64::MAX, i64::MIN, 0, i64::MIN, i64::MAX, i64::MAX] {
        series.push(&analyzer, &[1.0, 2.0], time_ms, &mut out);
        series.push(&analyzer, &[0.5; 64], time_ms, &mut out);
    }
    assert!(series.len() < 64);
}

#[test]
fn wrong_specifications_are_named() {
    let good = SpectrumSpec::new(1_000.0, 1_024);
    let wrong = |change: &dyn Fn(&mut SpectrumSpec)| {
        let mut spec = good.clone();
        change(&mut spec);
        Analyzer::new(spec).unwrap_err().to_string()
    };
    for size in [0, 32, 1_000, 131_072] {
        assert!(wrong(&|spec| spec.size = size).starts_with(&format!("size {size} is not a power of two")));
    }
    for rate_hz in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e9] {
        assert!(wrong(&|spec| spec.sample_rate_hz = rate_hz).contains("sample rate"), "{rate_hz}");
    }
    for overlap in [-0.1, 0.95, 1.0, f64::NAN] {
        assert!(wrong(&|spec| spec.overlap = overlap).contains("overlap"), "{overlap}");
    }
    assert!(wrong(&|spec| spec.peaks = 9).contains("9 peaks are over the limit of 8"));
    assert!(wrong(&|spec| spec.bands = vec![band("a", 1.0, 2.0); 33]).contains("33 bands are over the limit of 32"));
    for name in ["", "a b", "a.b", "ä"] {
        assert!(wrong(&|spec| spec.bands = vec![band(name, 1.0, 9.0)]).contains("band name"), "{name}");
    }
    assert!(wrong(&|spec| spec.bands = vec![band("a", 1.0, 9.0), band("a", 9.0, 19.0)]).contains("each name once"));
    for (from_hz, to_hz) in [(-1.0, 5.0), (9.0, 9.0), (9.0, 5.0), (100.0, 501.0), (f64::NAN, 5.0), (5.0, f64::NAN)] {
        assert!(wrong(&|spec| spec.bands = vec![band("a", from_hz, to_hz)]).contains("band \"a\" from"), "{from_hz}");
    }
    assert!(wrong(&|spec| spec.bands = vec![band("a", 1.0, 1.5)]).contains("holds no line"));
    for (rate_hz, size) in [(15.0, 1_024), (1_000.0, 64), (1e6, 4_096)] {
        let change = |spec: &mut SpectrumSpec| (spec.sample_rate_hz, spec.size, spec.velocity) = (rate_hz, size, true);
        assert!(wrong(&change).starts_with("velocity needs lines"), "{rate_hz}");
    }
}

#[test]
fn zones_follow_their_limits() {
    let zones = Zones::new(Some(2.8), 4.5, 7.1).unwrap();
    let found: Vec<Zone> = [0.0, 2.8, 2.9, 4.5, 4.6, 7.1, 7.2].map(|value| zones.zone(value)).into();
    assert_eq!(found, [Zone::A, Zone::A, Zone::B, Zone::B, Zone::C, Zone::C, Zone::D]);
    assert_eq!(Zones::new(None, 4.5, 7.1).unwrap().zone(0.0), Zone::B);
    for (good, warning, critical) in [(None, 7.1, 4.5), (Some(5.0), 4.5, 7.1), (None, 0.0, 1.0), (None, 1.0, f64::NAN)]
    {
        assert!(Zones::new(good, warning, critical).is_err());
    }
}

#[test]
fn windows_have_names() {
    for window in Window::ALL {
        assert_eq!(Window::parse(window.as_str()), Some(window));
    }
    assert_eq!(Window::parse("kaiser"), None);
}

/// The state after a version byte, for one sample at a time.
const GOLDEN: &[u8] = &[
    1, 1, 0x40, 0x42, 0x0f, 0, 0, 0, 0, 0, // version, time 1,000,000
    2, 3, 4, // restarts, stale, not finite
    2, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0, 0, 0, 0, 0, 0, 0, 0xc0, // 1.0 and -2.0
];

#[test]
fn the_saved_form_is_stable() {
    let samples = Samples::read(&mut Reader::new(GOLDEN)).unwrap();
    assert_eq!((samples.restarts(), samples.stale(), samples.not_finite(), samples.len()), (2, 3, 4, 2));
    assert_eq!(samples.last_ms(), Some(1_000_000));
    let mut bytes = Vec::new();
    samples.write(&mut bytes);
    assert_eq!(bytes, GOLDEN);
}

#[test]
fn damaged_state_is_refused() {
    let refused = |bytes: &[u8]| Samples::read(&mut Reader::new(bytes)).unwrap_err().to_string();
    let with = |at: usize, byte: u8| {
        let mut bytes = GOLDEN.to_vec();
        bytes[at] = byte;
        bytes
    };
    assert!(refused(&with(0, 2)).contains("version"));
    assert!(refused(&with(1, 2)).contains("flag"));
    assert!(refused(&[1, 0, 0, 0, 0, 0x80, 0x80, 4]).contains("count of samples of 65536"));
    // A false count of 65,535 allocates nothing.
    assert!(refused(&[1, 0, 0, 0, 0, 0xff, 0xff, 3]).contains("524280 more bytes"));
    let mut infinite = GOLDEN[..13].to_vec();
    infinite.extend([1, 0, 0, 0, 0, 0, 0, 0xf0, 0x7f]);
    assert!(refused(&infinite).contains("invalid sample"));
    for end in 0..GOLDEN.len() {
        assert!(refused(&GOLDEN[..end]).contains("ends early"), "{end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_restored_series_continues_bit_for_bit(
        batches in prop::collection::vec((0_i64..40, prop::collection::vec(-1e3..1e3_f64, 0..90)), 1..12),
        cut in 0_usize..12,
    ) {
        let mut spec = SpectrumSpec::new(1_000.0, 64);
        (spec.overlap, spec.peaks) = (0.5, 2);
        let analyzer = Analyzer::new(spec).unwrap();
        let (mut series, mut out, mut time_ms) = (Samples::default(), Vec::new(), T0_MS);
        let (mut other, mut other_out) = (Samples::default(), Vec::new());
        for (i, (gap_ms, samples)) in batches.iter().enumerate() {
            if i == cut {
                let mut bytes = Vec::new();
                other.write(&mut bytes);
                let mut reader = Reader::new(&bytes);
                other = Samples::read(&mut reader).unwrap();
                prop_assert!(reader.is_empty());
                let mut again = Vec::new();
                other.write(&mut again);
                prop_assert_eq!(bytes, again);
            }
            time_ms += gap_ms / 8 * gap_ms + samples.len() as i64;
            series.push(&analyzer, samples, time_ms, &mut out);
            other.push(&analyzer, samples, time_ms, &mut other_out);
        }
        prop_assert_eq!(&series, &other);
        let bits = |frames: &[Features]| -> Vec<u64> {
            frames.iter().flat_map(|frame| analyzer.fields(frame)).map(|(_, value)| value.to_bits()).collect()
        };
        prop_assert_eq!(bits(&out), bits(&other_out));
    }

    #[test]
    fn hostile_state_never_panics(mut bytes: Vec<u8>, samples in prop::collection::vec(any::<f64>(), 0..200), time_ms: i64) {
        let analyzer = Analyzer::new(SpectrumSpec::new(1_000.0, 64)).unwrap();
        for _ in 0..2 {
            if let Ok(mut series) = Samples::read(&mut Reader::new(&bytes)) {
                let mut out = Vec::new();
                series.push(&analyzer, &samples, time_ms, &mut out);
                prop_assert!(out.iter().flat_map(|frame| analyzer.fields(frame)).all(|(_, value)| value.is_finite()));
            }
            // The second time past the version and the flag.
            bytes.splice(0..bytes.len().min(2), [1, 0]);
        }
    }

    #[test]
    fn any_finite_frame_gives_finite_numbers(
        samples in prop::collection::vec(prop_oneof![any::<f64>(), -1e60..1e60_f64, -1e-300..1e-300_f64], 64),
    ) {
        let mut spec = SpectrumSpec::new(100.0, 64);
        (spec.peaks, spec.velocity) = (8, true);
        spec.bands = vec![band("all", 0.0, 50.0)];
        let analyzer = Analyzer::new(spec).unwrap();
        if let Some(found) = analyzer.analyze(&samples, 0) {
            for (name, value) in analyzer.fields(&found) {
                prop_assert!(value.is_finite(), "{name} is {value}");
            }
        }
    }
}
