//! Accumulators against plain lists, and their parts against the whole.

use proptest::prelude::*;

use super::*;

const ALL: Needs = Needs { deviation: true, sketch: true };

fn of(values: &[(f64, i64)]) -> Accumulator {
    let mut accumulator = Accumulator::new(ALL);
    for (value, time_ms) in values {
        accumulator.add(*value, *time_ms);
    }
    accumulator
}

fn merged(one: &Accumulator, two: &Accumulator) -> Accumulator {
    let mut merged = one.clone();
    merged.merge(two);
    merged
}

fn bytes_of(accumulator: &Accumulator) -> Vec<u8> {
    let mut bytes = Vec::new();
    accumulator.write(&mut bytes);
    bytes
}

#[test]
fn figures_of_a_few_values() {
    let found = of(&[(4.0, 2_000), (2.0, 1_000), (9.0, 5_000), (5.0, 3_000)]);
    let expected = [
        (Field::Avg, 5.0),
        (Field::Min, 2.0),
        (Field::Max, 9.0),
        (Field::Count, 4.0),
        (Field::Sum, 20.0),
        (Field::Stddev, 6.5_f64.sqrt()),
        (Field::First, 2.0),
        (Field::Last, 9.0),
        (Field::Rate, 7.0 / 4.0),
    ];
    for (field, value) in expected {
        assert_eq!(found.get(field), Some(value), "{field}");
    }
    let median = found.get(Field::P50).unwrap();
    assert!((median - 4.0).abs() <= 0.04);
    assert_eq!(of(&[(20.0, 1)]).get(Field::P95), Some(20.0), "no error where all are the same");
}

#[test]
fn what_is_not_defined_is_none() {
    let empty = Accumulator::new(ALL);
    for field in Field::ALL {
        assert_eq!(empty.get(field), (field == Field::Count).then_some(0.0));
    }
    let one = of(&[(3.0, 7)]);
    assert_eq!((one.get(Field::Rate), one.get(Field::Stddev)), (None, Some(0.0)));
    let mut plain = Accumulator::default();
    plain.add(1.0, 0);
    plain.add(2.0, 1);
    assert_eq!((plain.get(Field::P50), plain.get(Field::Stddev)), (None, None));
    // A part that did not keep them: better none than a figure of the other part.
    let both = merged(&one, &plain);
    assert_eq!((both.count(), both.get(Field::P50), both.get(Field::Stddev)), (3, None, None));
    assert_eq!(bytes_of(&both), bytes_of(&merged(&plain, &one)));
}

#[test]
fn values_that_are_not_finite_are_left_out() {
    let mut found = of(&[(1.0, 5)]);
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        found.add(value, 9);
    }
    assert_eq!(found, of(&[(1.0, 5)]));
}

#[test]
fn sums_neither_drift_nor_lie() {
    let mut found = Accumulator::new(ALL);
    for n in 0..1_000_000 {
        found.add(0.1, n);
    }
    assert_eq!(found.get(Field::Sum), Some(100_000.0));
    assert!(found.get(Field::Stddev).unwrap() < 1e-12);
    assert_eq!(of(&[(1e16, 1), (1.0, 2), (-1e16, 3)]).get(Field::Sum), Some(1.0));
    // Small differences on a large base.
    let base: Vec<(f64, i64)> = (0..1_000).map(|n| (1e9 + (n % 2) as f64, n)).collect();
    assert!((of(&base).get(Field::Stddev).unwrap() - 0.5).abs() < 1e-6);
    let over = of(&[(f64::MAX, 1), (f64::MAX, 2), (-f64::MAX, 3)]);
    for field in [Field::Sum, Field::Avg, Field::Stddev] {
        assert_eq!(over.get(field), None, "{field}");
    }
    assert_eq!(over.get(Field::Max), Some(f64::MAX));
    assert_eq!(Accumulator::read(&mut Reader::new(&bytes_of(&over))).unwrap(), over);
    assert_eq!(merged(&over, &over).get(Field::Sum), None);
    let apart = of(&[(0.0, i64::MIN), (1.0, i64::MAX)]);
    assert!(apart.get(Field::Rate).unwrap() > 0.0);
    assert_eq!(Accumulator::read(&mut Reader::new(&bytes_of(&apart))).unwrap(), apart);
}

#[test]
fn it_is_small() {
    assert_eq!(size_of::<Accumulator>(), 80);
    assert_eq!(Accumulator::default().bytes(), 0);
    assert!(Accumulator::new(ALL).bytes() <= 48);
}

fn values() -> impl Strategy<Value = Vec<(f64, i64)>> {
    let value = prop_oneof![8 => -1e6..1e6, 1 => Just(-0.0), 1 => -1e300..1e300];
    prop::collection::vec((value, 0..50_i64), 0..120)
}

fn is_near(one: Option<f64>, two: Option<f64>, scale: f64) -> bool {
    match (one, two) {
        (Some(one), Some(two)) => (one - two).abs() <= scale,
        (one, two) => one == two,
    }
}

proptest! {
    #[test]
    fn parts_merge_to_the_whole(values in values(), cuts in prop::collection::vec(0..3_usize, 120)) {
        let mut parts = vec![Accumulator::new(ALL); 3];
        for (value, part) in values.iter().zip(&cuts) {
            parts[*part].add(value.0, value.1);
        }
        let whole = of(&values);
        let left = merged(&merged(&parts[0], &parts[1]), &parts[2]);
        let right = merged(&parts[0], &merged(&parts[1], &parts[2]));
        let great = values.iter().fold(0.0_f64, |great, value| great.max(value.0.abs()));
        for found in [&left, &right] {
            for field in [Field::Count, Field::Min, Field::Max, Field::First, Field::Last, Field::Rate] {
                prop_assert_eq!(found.get(field), whole.get(field), "{}", field);
            }
            prop_assert_eq!(found.sketch(), whole.sketch());
            prop_assert!(is_near(found.get(Field::Sum), whole.get(Field::Sum), great * 1e-14));
            prop_assert!(is_near(found.get(Field::Avg), whole.get(Field::Avg), great * 1e-14));
            prop_assert!(is_near(found.get(Field::Stddev), whole.get(Field::Stddev), great * 1e-9));
        }
        prop_assert_eq!(bytes_of(&merged(&parts[0], &parts[1])), bytes_of(&merged(&parts[1], &parts[0])));
    }

    #[test]
    fn figures_are_those_of_a_list(values in prop::collection::vec((-1e6..1e6, 0..50_i64), 2..120)) {
        let found = of(&values);
        let count = values.len() as f64;
        let sum: f64 = values.iter().map(|value| value.0).sum();
        let squares: f64 = values.iter().map(|value| (value.0 - sum / count).powi(2)).sum();
        prop_assert!((found.get(Field::Sum).unwrap() - sum).abs() <= 1e-6);
        prop_assert!((found.get(Field::Stddev).unwrap() - (squares / count).sqrt()).abs() <= 1e-6);
        let (min, max) = (found.get(Field::Min).unwrap(), found.get(Field::Max).unwrap());
        prop_assert!((min..=max).contains(&found.get(Field::Avg).unwrap()));
        prop_assert!((min..=max).contains(&found.get(Field::P99).unwrap()));
    }

    #[test]
    fn a_restored_one_goes_on_to_the_bit(before in values(), after in values()) {
        let mut one = of(&before);
        let bytes = bytes_of(&one);
        let mut reader = Reader::new(&bytes);
        let mut two = Accumulator::read(&mut reader).unwrap();
        prop_assert!(reader.is_empty());
        prop_assert_eq!(bytes_of(&two), bytes);
        for (value, time_ms) in after {
            one.add(value, time_ms);
            two.add(value, time_ms);
        }
        prop_assert_eq!(bytes_of(&two), bytes_of(&one));
    }

    #[test]
    fn hostile_bytes_never_panic(bytes: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
        let _ = Accumulator::read(&mut Reader::new(&bytes));
        let mut damaged = bytes_of(&of(&[(1.0, 5), (2.0, 6)]));
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << bit;
        if let Ok(mut read) = Accumulator::read(&mut Reader::new(&damaged)) {
            read.merge(&read.clone());
            read.add(1.0, 1);
            for field in Field::ALL {
                prop_assert!(read.get(field).is_none_or(f64::is_finite));
            }
        }
    }
}
