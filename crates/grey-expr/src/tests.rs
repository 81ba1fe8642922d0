//! Conditions as people write them, every error with its character, and a naive evaluator as the reference.

mod errors;
mod evaluation;
mod hostile;
mod reference;
mod units;

use std::collections::BTreeMap;

use grey_model::Event;

use crate::{Expr, ExprError, Inputs, Schema, Slot, Truth};

/// The streams of a small plant.
fn plant() -> Schema {
    let streams = [
        ("temperature", Some("°C")),
        ("ambient", Some("°F")),
        ("pressure", Some("bar")),
        ("flow", Some("m³/h")),
        ("level", None),
        ("running", None),
        ("line", None),
        ("line-1/pressure", Some("bar")),
    ];
    let fields = [("vibration.velocity_rms", Some("mm/s")), ("temperature.avg", Some("°C"))];
    let owned = |all: &[(&str, Option<&str>)]| -> BTreeMap<String, Option<String>> {
        all.iter().map(|(name, unit)| ((*name).into(), unit.map(String::from))).collect()
    };
    Schema { streams: Some(owned(&streams)), fields: owned(&fields) }
}

fn compiled(text: &str) -> Expr {
    Expr::compile(text, &Schema::default()).unwrap_or_else(|e| panic!("{text}: {e}, {}", e.allowed))
}

fn planted(text: &str) -> Expr {
    Expr::compile(text, &plant()).unwrap_or_else(|e| panic!("{text}: {e}, {}", e.allowed))
}

fn error(text: &str, schema: &Schema) -> ExprError {
    match Expr::compile(text, schema) {
        Ok(expr) => panic!("{text} is {expr:?}"),
        Err(error) => error,
    }
}

fn names(expr: &Expr) -> Vec<&str> {
    expr.streams().iter().map(|name| name.as_str()).collect()
}

fn event() -> Event {
    Event::reading("press-7", "temperature", 86.5, 0)
}

/// Evaluates with slots that have seen the given values, NaN standing for none.
fn eval(expr: &Expr, values: &[f64], event: &Event) -> Truth {
    let slots: Vec<Slot> = values
        .iter()
        .map(|v| Slot { value: *v, previous: *v - 1.0, time_ms: 1_000, seen: if v.is_nan() { 0 } else { 2 } })
        .collect();
    expr.eval(&Inputs { slots: &slots, event, site: "plant-1", now_ms: 61_000 })
}
