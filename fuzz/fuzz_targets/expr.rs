//! Conditions of rules, from any text: an error or a condition that evaluates, never a panic.
#![no_main]

use grey_expr::{Expr, Inputs, Schema, Slot};
use grey_model::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let mut schema = Schema { streams: Some(Default::default()), ..Schema::default() };
    for (name, unit) in [("temperature", Some("°C")), ("pressure", Some("bar")), ("x", None), ("line-1/pressure", None)] {
        schema.fields.insert(name.into(), unit.map(String::from));
    }
    for schema in [Schema::default(), schema] {
        match Expr::compile(text, &schema) {
            Ok(expr) => {
                let event = Event::reading("press-7", "temperature", 86.5, 0);
                let slots = vec![Slot { value: 1.0, previous: 2.0, time_ms: 0, seen: 2 }; expr.streams().len()];
                for slots in [&slots[..], &[]] {
                    let inputs = Inputs { slots, event: &event, site: "plant", now_ms: 1_000 };
                    assert_eq!(expr.eval(&inputs), expr.clone().eval(&inputs));
                }
                assert!(!expr.explain().is_empty());
                // What was accepted once is accepted as it is kept.
                assert!(Expr::compile(expr.text(), &schema).is_ok());
            }
            Err(error) => assert!(error.offset <= text.chars().count() || text.chars().count() > grey_expr::TEXT_MAX),
        }
    }
});
