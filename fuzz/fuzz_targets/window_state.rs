//! Saved windows with any damage, and any steps of any clock afterwards: refused,
//! or windows that hold only what belongs to them and are saved as they were read.
//! A sketch's text likewise.
#![no_main]

use grey_model::Reader;
use grey_window::{Assigner, Closed, Field, KeyWindows, Needs, Placed, Sketch, WindowSpec};
use libfuzzer_sys::fuzz_target;

const ASSIGNERS: [Assigner; 5] = [
    Assigner::Tumbling { size_ms: 1_000 },
    Assigner::Hopping { size_ms: 3_000, every_ms: 500 },
    Assigner::Sliding { size_ms: 2_000, every_ms: 300 },
    Assigner::Session { gap_ms: 600, size_max_ms: 3_000 },
    Assigner::Count { size: 7 },
];

fn saved(key: &KeyWindows) -> Vec<u8> {
    let mut bytes = Vec::new();
    key.write(&mut bytes);
    bytes
}

fuzz_target!(|input: (u8, Vec<u8>, Vec<(i64, i64, bool)>)| {
    let (choice, state, steps) = input;
    if let Ok(sketch) = std::str::from_utf8(&state).map_or(Ok(Sketch::default()), Sketch::from_text) {
        assert_eq!(Sketch::from_text(&sketch.to_text()).expect("just written"), sketch);
    }
    let assigner = ASSIGNERS[usize::from(choice) % ASSIGNERS.len()];
    let needs = Needs { deviation: choice & 64 != 0, sketch: choice & 128 != 0 };
    let spec = WindowSpec::new(assigner, needs, 700, 1_000, 60_000).expect("constant definitions");
    let mut key = KeyWindows::read(&spec, &mut Reader::new(&state)).unwrap_or_default();
    let mut out: Vec<Closed> = Vec::new();
    let mut now_ms = 1_760_000_000_000_i64;
    for (pace_ms, apart_ms, is_event) in steps {
        now_ms = now_ms.wrapping_add(pace_ms);
        if is_event {
            let time_ms = now_ms.wrapping_add(apart_ms);
            if key.add(&spec, time_ms, now_ms, pace_ms as f64, &mut out) == Placed::Taken {
                assert!(!key.is_empty() || !out.is_empty());
            }
        } else {
            key.advance(&spec, now_ms, &mut out);
        }
        let _ = key.due_ms(&spec);
        let bytes = saved(&key);
        let again = KeyWindows::read(&spec, &mut Reader::new(&bytes)).expect("just saved");
        assert_eq!(saved(&again), bytes);
    }
    key.finish(&spec, &mut out);
    assert!(key.is_empty());
    for closed in &out {
        let (first_ms, last_ms) = closed.accumulator.span_ms().expect("no window is empty");
        assert!(closed.start_ms <= first_ms && last_ms < closed.end_ms);
        for field in Field::ALL {
            assert!(closed.accumulator.get(field).is_none_or(f64::is_finite));
        }
    }
});
