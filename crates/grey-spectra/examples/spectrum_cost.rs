//! What a frame costs: microseconds for 1,024 points, with everything on.
//!
//! `cargo run --release -p grey-spectra --example spectrum_cost`
#![allow(clippy::disallowed_methods, reason = "a driver: it measures time")]

use std::hint::black_box;
use std::time::Instant;

use grey_spectra::{Analyzer, Band, Samples, SpectrumSpec};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let bands = |count: u32| -> Vec<Band> {
        (0..count)
            .map(|n| Band {
                name: format!("b{n}").into(),
                from_hz: f64::from(n) * 50.0,
                to_hz: f64::from(n) * 50.0 + 50.0,
            })
            .collect()
    };
    println!(
        "{:>6} {:>5} {:>5} {:>10} {:>14} {:>14}",
        "size", "bands", "peaks", "us/frame", "ns/sample", "bytes/series"
    );
    for (size, count, peaks) in [(1_024, 0, 0), (1_024, 8, 5), (4_096, 8, 5), (16_384, 8, 5)] {
        let mut spec = SpectrumSpec::new(1_000.0, size);
        (spec.bands, spec.peaks, spec.velocity) = (bands(count), peaks, count > 0);
        let analyzer = Analyzer::new(spec)?;
        let samples: Vec<f64> = (0..size).map(|n| ((n * n) as f64 * 0.37).sin() + (n as f64 * 0.2).cos()).collect();
        let (mut series, mut out) = (Samples::default(), Vec::new());
        let frames = 20_000_000 / size / 10;
        let mut time_ms = 0;
        // The best frame: what the machine does besides does not count.
        let mut ns = f64::INFINITY;
        for _ in 0..frames {
            time_ms += size as i64;
            out.clear();
            let started = Instant::now();
            series.push(&analyzer, black_box(&samples), time_ms, &mut out);
            ns = ns.min(started.elapsed().as_nanos() as f64);
            black_box(&out);
        }
        let (us, per_sample) = (ns / 1_000.0, ns / size as f64);
        println!("{size:>6} {count:>5} {peaks:>5} {us:>10.2} {per_sample:>14.2} {:>14}", series.bytes());
    }
    Ok(())
}
