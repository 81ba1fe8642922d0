//! What a value costs in the windows of its key, and what a key costs in memory.
//!
//! `cargo run --release -p grey-window --example window_cost`

use std::hint::black_box;
use std::time::Instant;

use grey_window::{Assigner, Closed, Field, KeyWindows, Needs, Sketch, WindowError, WindowSpec};

const KEYS: usize = 1_000;
const STEPS: i64 = 1_000;
const ROUNDS: i64 = 10;

#[allow(clippy::disallowed_methods)]
fn cost(name: &str, assigner: Assigner, fields: &[Field], step_ms: i64) -> Result<(), WindowError> {
    let spec = WindowSpec::new(assigner, Needs::of(fields), 2_000, 10_000, 60_000)?;
    let mut keys = vec![KeyWindows::default(); KEYS];
    let mut out: Vec<Closed> = Vec::new();
    let (mut closed, mut best) = (0_usize, f64::MAX);
    for round in 0..ROUNDS {
        let start = Instant::now();
        for step in 0..STEPS {
            let now_ms = 1_760_000_000_000 + (round * STEPS + step) * step_ms;
            for (n, key) in keys.iter_mut().enumerate() {
                // Sensors at 20 to 86 °C, never twice the same.
                let value = 20.0 + ((n as i64 * 7 + step * 13) % 660) as f64 / 10.0;
                black_box(key.add(&spec, now_ms, now_ms, value, &mut out));
            }
            closed += out.len();
            out.clear();
        }
        best = best.min(start.elapsed().as_secs_f64() * 1e9 / (KEYS as f64 * STEPS as f64));
    }
    let bytes = keys.iter().map(KeyWindows::bytes).sum::<usize>() / KEYS;
    let mut saved = Vec::new();
    keys[0].write(&mut saved);
    println!("{name:34} {best:7.1} ns a value, {bytes:6} bytes a key, {:5} saved, {closed} closed", saved.len());
    Ok(())
}

#[allow(clippy::disallowed_methods)]
fn merge_cost() {
    let mut state = 1_u64;
    let mut sketches = vec![Sketch::default(); 64];
    for sketch in &mut sketches {
        for _ in 0..1_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            sketch.add(20.0 + (state >> 40) as f64 / 1e6);
        }
    }
    let start = Instant::now();
    let mut whole = Sketch::default();
    for _ in 0..1_000 {
        for sketch in &sketches {
            whole.merge(black_box(sketch));
        }
    }
    let each = start.elapsed().as_secs_f64() * 1e9 / 64_000.0;
    println!(
        "merge of sketches of {} bins: {each:.0} ns, {} characters as text",
        whole.bins(),
        sketches[0].to_text().len()
    );
}

fn main() -> Result<(), WindowError> {
    let plain = [Field::Avg, Field::Min, Field::Max, Field::Count];
    let minute = Assigner::Tumbling { size_ms: 60_000 };
    let hopping = Assigner::Hopping { size_ms: 300_000, every_ms: 60_000 };
    cost("tumbling 1m", minute, &plain, 100)?;
    cost("tumbling 1m, stddev", minute, &[Field::Stddev], 100)?;
    cost("tumbling 1m, p95", minute, &[Field::P95], 100)?;
    cost("tumbling 1s (closes every tenth)", Assigner::Tumbling { size_ms: 1_000 }, &plain, 100)?;
    cost("hopping 5m every 1m", hopping, &plain, 100)?;
    cost("hopping 5m every 1m, p95", hopping, &[Field::P95], 100)?;
    cost("session 30s", Assigner::Session { gap_ms: 30_000, size_max_ms: 3_600_000 }, &plain, 100)?;
    cost("count 100", Assigner::Count { size: 100 }, &plain, 100)?;
    cost("sliding 1m every 1s", Assigner::Sliding { size_ms: 60_000, every_ms: 1_000 }, &plain, 100)?;
    cost("sliding 1m every 1s, p95", Assigner::Sliding { size_ms: 60_000, every_ms: 1_000 }, &[Field::P95], 1_000)?;
    merge_cost();
    println!("a key without open windows: {} bytes", size_of::<KeyWindows>());
    Ok(())
}
