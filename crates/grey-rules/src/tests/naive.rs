//! Thresholds against a model that knows every rule and every device and asks
//! each of them at every step.

use std::collections::BTreeMap;

use grey_expr::Operator;
use proptest::prelude::*;

use super::*;

/// A rule as the model has it.
#[derive(Debug, Clone)]
struct Rule {
    fire: (Operator, f64),
    clear: Option<(Operator, f64)>,
    hold_ms: i64,
    cooldown_ms: i64,
}

/// An alert as the model has it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Idle,
    Pending(i64),
    Firing,
    Resting(i64),
}

impl Rule {
    fn yaml(&self) -> String {
        let clear = self.clear.map_or_else(String::new, |(op, limit)| format!(", clear: t {} {limit}", op.as_str()));
        let (op, limit) = self.fire;
        let (hold, cooldown) = (self.hold_ms, self.cooldown_ms);
        format!(
            "- {{type: threshold, condition: t {} {limit}{clear}, for: {hold}ms, cooldown: {cooldown}ms}}\n",
            op.as_str()
        )
    }

    /// One step of one device; what it sends.
    fn step(&self, state: &mut State, value: f64, now: i64) -> Option<&'static str> {
        let holds = self.fire.0.holds(value, self.fire.1);
        let clears = !holds && self.clear.is_none_or(|(op, limit)| op.holds(value, limit));
        if matches!(*state, State::Resting(until) if now >= until) {
            *state = State::Idle;
        }
        if *state == State::Idle && holds {
            *state = State::Pending(now);
        }
        match *state {
            State::Pending(_) if !holds => *state = State::Idle,
            State::Pending(since) if now - since >= self.hold_ms => {
                *state = State::Firing;
                return Some("firing");
            }
            State::Firing if clears => {
                *state = if self.cooldown_ms > 0 { State::Resting(now + self.cooldown_ms) } else { State::Idle };
                return Some("cleared");
            }
            _ => {}
        }
        None
    }
}

fn rule() -> impl Strategy<Value = Rule> {
    let predicate = || (prop::sample::select(Operator::ALL.to_vec()), (-3_i32..4).prop_map(f64::from));
    (predicate(), prop::option::of(predicate()), 0_i64..4, 0_i64..4).prop_map(|(fire, clear, hold, cooldown)| Rule {
        fire,
        clear,
        hold_ms: hold * 10,
        cooldown_ms: cooldown * 15,
    })
}

proptest! {
    #[test]
    fn thresholds_agree_with_a_plain_model(
        rules in prop::collection::vec(rule(), 1..8),
        readings in prop::collection::vec((0..3_u8, -9_i32..10, 1_i64..25), 1..80),
    ) {
        let yaml: String = rules.iter().map(Rule::yaml).collect();
        let mut engine = engine(&yaml);
        let mut states = BTreeMap::<(usize, u8), State>::new();
        let mut values = BTreeMap::<u8, f64>::new();
        let mut now = 0;
        let mut expected = Vec::new();
        let mut found = Vec::new();
        for (device, value, elapsed) in readings {
            // The model looks at every millisecond; the engine at what is due.
            for ms in now + 1..=now + elapsed {
                for (n, rule) in rules.iter().enumerate() {
                    for (device, value) in &values {
                        let state = states.entry((n, *device)).or_insert(State::Idle);
                        // Time alone moves what waits, and nothing else.
                        if matches!(state, State::Pending(_) | State::Resting(_))
                            && let Some(what) = rule.step(state, *value, ms)
                        {
                            expected.push((ms, n, *device, what));
                        }
                    }
                }
            }
            now += elapsed;
            let value = f64::from(value) / 2.0;
            values.insert(device, value);
            let mut own = Vec::new();
            for (n, rule) in rules.iter().enumerate() {
                let state = states.entry((n, device)).or_insert(State::Idle);
                own.extend(rule.step(state, value, now).map(|what| (now, n, device, what)));
            }
            expected.extend(own);
            let mut derived = Derived::default();
            while let Some(due) = engine.next_due_ms().filter(|due| *due < now) {
                engine.advance(at(due), &mut derived);
            }
            engine.process(&Event::reading(format!("d{device}"), "t", value, now), at(now), &mut derived);
            for (_, event) in pairs(derived) {
                let rule: usize = attribute(&event, "rule").unwrap()["threshold-".len()..].parse().unwrap();
                let device: u8 = event.device[1..].parse().unwrap();
                let what = if attribute(&event, "state") == Some("firing") { "firing" } else { "cleared" };
                found.push((event.stamp.unix_ms(), rule - 1, device, what));
            }
        }
        // Within one millisecond the engine may go by rule, the model by device.
        found.sort_by_key(|(ms, _, _, _)| *ms);
        let sorted = |mut list: Vec<(i64, usize, u8, &'static str)>| { list.sort(); list };
        prop_assert_eq!(sorted(found), sorted(expected));
    }
}
