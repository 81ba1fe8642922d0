//! The sketch against exact quantiles, and its parts against the whole.

use proptest::prelude::*;

use super::*;

fn sketch_of(values: &[f64]) -> Sketch {
    let mut sketch = Sketch::default();
    for value in values {
        sketch.add(*value);
    }
    sketch
}

/// A fixed sequence of normal samples: the sum of twelve uniform ones, less six.
pub(crate) fn normals(len: usize) -> Vec<f64> {
    let mut state = 7_u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..len).map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0).collect()
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -1e3..1e3,
        2 => 19.0..26.0,
        1 => Just(0.0),
        1 => any::<f64>().prop_filter("finite", |value| value.is_finite()),
        1 => (-300..300_i32).prop_map(|exponent| 10_f64.powi(exponent)),
    ]
}

#[test]
fn every_bin_is_where_its_value_is() {
    for key in (1..=KEY_MAX).step_by(13).chain(KEY_MAX - 40..=KEY_MAX) {
        let (lower, upper) = (lower_of(key), lower_of(key + 1));
        assert_eq!(key_of(lower), key);
        assert_eq!(key_of(-lower), -key);
        if key < KEY_MAX {
            assert_eq!(key_of(f64::from_bits(upper.to_bits() - 1)), key, "the greatest of the bin");
        }
        let value = value_of(key);
        assert!((lower..=upper).contains(&value));
        for bound in [lower, upper] {
            assert!((value - bound).abs() / bound < RELATIVE_ERROR, "bin {key}: {value} for {bound}");
        }
    }
    assert_eq!(key_of(f64::MAX), KEY_MAX);
    assert_eq!(key_of(f64::MIN_POSITIVE), 1);
    assert_eq!((key_of(0.0), key_of(-0.0), key_of(1e-310)), (0, 0, 0));
    // Written down, so that no machine may differ.
    assert_eq!((key_of(1.0), key_of(20.0), key_of(-85.5)), (35_771, 35_922, -35_995));
}

#[test]
fn ten_thousand_normal_samples_are_small_as_text() {
    let near_zero = sketch_of(&normals(10_000));
    let sensor = sketch_of(&normals(10_000).iter().map(|value| 65.0 + 2.0 * value).collect::<Vec<_>>());
    println!(
        "normal(0, 1): {} bins, {} characters; normal(65, 2): {} bins, {} characters",
        near_zero.bins(),
        near_zero.to_text().len(),
        sensor.bins(),
        sensor.to_text().len()
    );
    assert!(near_zero.to_text().len() <= 1_600);
    assert!(sensor.to_text().len() <= 48);
    assert!(near_zero.bins() < BINS_MAX, "nothing was collapsed");
}

#[test]
fn too_many_bins_are_collapsed_from_below() {
    let values: Vec<f64> = (0..3_000).map(|n| 1.021_f64.powi(n - 1_000)).collect();
    let sketch = sketch_of(&values);
    assert_eq!((sketch.bins(), sketch.count()), (BINS_MAX, 3_000));
    let backwards: Vec<f64> = values.iter().rev().copied().collect();
    assert_eq!(sketch, sketch_of(&backwards));
    for q in [0.7, 0.95, 0.99, 1.0] {
        let exact = values[(q * 2_999.0) as usize];
        let found = sketch.quantile(q).unwrap();
        assert!((found - exact).abs() <= RELATIVE_ERROR * exact, "{q}: {found} for {exact}");
    }
}

#[test]
fn counts_stop_at_their_greatest() {
    let mut sketch = sketch_of(&[1.0]);
    for _ in 0..40 {
        let other = sketch.clone();
        sketch.merge(&other);
    }
    assert_eq!(sketch.count(), u64::from(u32::MAX));
    let mut bytes = Vec::new();
    sketch.write(&mut bytes);
    assert_eq!(Sketch::read(&mut Reader::new(&bytes)).unwrap(), sketch);
}

#[test]
fn damaged_text_is_named() {
    let text = sketch_of(&[1.0, 2.0, 2.0]).to_text();
    assert_eq!(Sketch::from_text(&text).unwrap().count(), 3);
    assert!(matches!(Sketch::from_text("not base64!"), Err(WindowError::NotBase64(_))));
    assert!(matches!(Sketch::from_text(""), Err(WindowError::Sketch(_))));
    let mut longer = URL_SAFE_NO_PAD.decode(&text).unwrap();
    longer.push(0);
    assert!(matches!(Sketch::from_text(&URL_SAFE_NO_PAD.encode(longer)), Err(WindowError::Sketch(_))));
    assert_eq!(Sketch::default().quantile(0.5), None);
    assert_eq!(sketch_of(&[1.0]).quantile(f64::NAN), None);
    assert_eq!(sketch_of(&[f64::NAN, f64::INFINITY]).count(), 0);
}

proptest! {
    #[test]
    fn a_quantile_is_within_the_error(values in prop::collection::vec(value(), 1..400), q in 0.0..=1.0_f64) {
        let sketch = sketch_of(&values);
        let mut sorted: Vec<f64> =
            values.iter().map(|value| if value.abs() < f64::MIN_POSITIVE { 0.0 } else { *value }).collect();
        sorted.sort_by(f64::total_cmp);
        let exact = sorted[(q * (sorted.len() - 1) as f64) as usize];
        let found = sketch.quantile(q).unwrap();
        prop_assert!((found - exact).abs() <= RELATIVE_ERROR * exact.abs(), "{} for {}", found, exact);
    }

    #[test]
    fn parts_merge_to_the_whole(
        values in prop::collection::vec((any::<prop::sample::Index>(), value()), 0..1_500),
        wide: bool,
    ) {
        let mut parts = vec![Sketch::default(); 3];
        let mut whole = Sketch::default();
        for (n, (part, value)) in values.iter().enumerate() {
            // Wide ones need more bins than there are.
            let value = if wide { value * 1.03_f64.powi(n as i32 % 1_400) } else { *value };
            whole.add(value);
            parts[part.index(3)].add(value);
        }
        let [a, b, c] = parts.as_slice() else { unreachable!() };
        let merge = |one: &Sketch, two: &Sketch| {
            let mut merged = one.clone();
            merged.merge(two);
            merged
        };
        prop_assert_eq!(&merge(&merge(a, b), c), &whole);
        prop_assert_eq!(&merge(a, &merge(b, c)), &whole);
        prop_assert_eq!(&merge(&merge(c, a), b), &whole);
        prop_assert_eq!(merge(a, b), merge(b, a));
    }

    #[test]
    fn bytes_and_text_round_trip(values in prop::collection::vec(value(), 0..300)) {
        let sketch = sketch_of(&values);
        let mut bytes = Vec::new();
        sketch.write(&mut bytes);
        let mut reader = Reader::new(&bytes);
        prop_assert_eq!(&Sketch::read(&mut reader).unwrap(), &sketch);
        prop_assert!(reader.is_empty());
        prop_assert_eq!(&Sketch::from_text(&sketch.to_text()).unwrap(), &sketch);
    }

    #[test]
    fn hostile_bytes_never_panic(mut bytes: Vec<u8>, text in "[A-Za-z0-9_-]{0,80}") {
        let _ = Sketch::from_text(&text);
        bytes.insert(0, VERSION);
        if let Ok(sketch) = Sketch::read(&mut Reader::new(&bytes)) {
            let mut again = Vec::new();
            sketch.write(&mut again);
            prop_assert_eq!(&Sketch::read(&mut Reader::new(&again)).unwrap(), &sketch);
            prop_assert!(sketch.quantile(0.5).is_some() || sketch.count() == 0);
        }
    }
}
