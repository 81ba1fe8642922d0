//! What one evaluation of a condition costs, and what compiling one does.
//!
//! `cargo run --release -p grey-expr --example expr_cost`

#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

use std::hint::black_box;
use std::time::Instant;

use grey_expr::{Expr, ExprError, Inputs, Schema, Slot, Truth};
use grey_model::Event;

/// Short rounds, of which the best counts: it is the one that nothing interrupted.
const EVALUATIONS: u32 = 100_000;
const COMPILATIONS: u32 = 50;
const ROUNDS: usize = 300;

fn main() -> Result<(), ExprError> {
    let event = Event::reading("press-7", "temperature", 86.5, 0);
    let schema = Schema::default();
    println!("{:>8}  {:>10}  condition", "ns/eval", "µs/compile");
    for text in [
        "temperature > 85°C",
        "temperature > 85°C && pressure < 2 bar",
        "temperature > 85°C && (pressure < 2 bar || device.startsWith(\"press-\"))",
        "abs(temperature - ambient) / 2 > 5 K || delta(pressure) > 0.1 bar",
        "quality == 'bad'",
    ] {
        let expr = Expr::compile(text, &schema)?;
        // The values change between evaluations, so that nothing can be hoisted out of the loop.
        let mut slots = vec![Slot { value: 90.0, previous: 89.0, time_ms: 0, seen: 2 }; expr.streams().len()];
        let mut evaluation_ns = f64::INFINITY;
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let mut held = 0_u32;
            for i in 0..EVALUATIONS {
                if let Some(slot) = slots.first_mut() {
                    slot.value = f64::from(i & 127);
                }
                let inputs = Inputs { slots: &slots, event: &event, site: "plant-1", now_ms: 0 };
                held += u32::from(black_box(&expr).eval(black_box(&inputs)) == Truth::True);
            }
            black_box(held);
            evaluation_ns = evaluation_ns.min(start.elapsed().as_secs_f64() * 1e9 / f64::from(EVALUATIONS));
        }
        let mut compile_us = f64::INFINITY;
        for _ in 0..COMPILATIONS {
            let start = Instant::now();
            black_box(Expr::compile(black_box(text), &schema)?);
            compile_us = compile_us.min(start.elapsed().as_secs_f64() * 1e6);
        }
        println!("{evaluation_ns:>8.2}  {compile_us:>10.1}  {text}");
    }
    Ok(())
}
