//! A compiled condition.

use std::sync::Arc;

use grey_model::{Event, Name};

use crate::{ExprError, Operator, Schema, Truth, Unit};

/// What a condition is evaluated against.
#[derive(Debug, Clone, Copy)]
pub struct Inputs<'a> {
    /// The latest values, in the order of [`Expr::streams`] and in the units of [`Expr::unit_of`].
    pub slots: &'a [Slot],
    /// The event at hand.
    pub event: &'a Event,
    /// The site's name.
    pub site: &'a str,
    /// The site's time, Unix milliseconds.
    pub now_ms: i64,
}

/// The latest values of one stream.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Slot {
    /// The latest value.
    pub value: f64,
    /// The value before it.
    pub previous: f64,
    /// When the latest value was measured, Unix milliseconds.
    pub time_ms: i64,
    /// How many values there are: 0 none, 1 the latest, 2 also the previous.
    pub seen: u8,
}

/// A condition that is nothing but `stream operator constant`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// Index into [`Expr::streams`].
    pub slot: usize,
    /// How the value compares to the limit.
    pub operator: Operator,
    /// The limit, in the unit of the slot.
    pub limit: f64,
}

/// A compiled condition. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Expr(Arc<Compiled>);

#[derive(Debug)]
struct Compiled {
    text: String,
    streams: Vec<Name>,
    units: Vec<Option<String>>,
    comparison: Comparison,
}

impl Expr {
    /// Reads and checks a condition.
    pub fn compile(text: &str, schema: &Schema) -> Result<Self, ExprError> {
        let fail = |rest: &str, problem: &str| {
            let offset = text[..text.len() - rest.len()].chars().count();
            Err(ExprError { offset, problem: problem.into(), allowed: "a condition such as temperature > 85°C".into() })
        };
        let start = text.trim_start();
        let name_len = start.find(|c: char| c.is_whitespace() || "<>=!".contains(c)).unwrap_or(start.len());
        let (name, rest) = start.split_at(name_len);
        if name.is_empty() {
            return fail(start, "the stream's name is missing");
        }
        let rest = rest.trim_start();
        let Some(operator) = Operator::ALL.into_iter().find(|o| rest.starts_with(o.as_str())) else {
            return fail(rest, "the comparison is missing");
        };
        let rest = rest[operator.as_str().len()..].trim();
        let len = (1..=rest.len())
            .rev()
            .find(|n| rest.is_char_boundary(*n) && rest[..*n].parse::<f64>().is_ok_and(f64::is_finite));
        let Some(len) = len else { return fail(rest, "the limit is not a number") };
        let Ok(limit) = rest[..len].parse::<f64>() else { return fail(rest, "the limit is not a number") };
        let unit = rest[len..].trim();
        if !unit.is_empty() && Unit::parse(unit).is_none() {
            return fail(unit, "the unit is unknown");
        }
        if schema.streams.as_ref().is_some_and(|s| !s.contains_key(name)) && !schema.fields.contains_key(name) {
            return fail(start, "the stream is unknown");
        }
        Ok(Self(Arc::new(Compiled {
            text: text.trim().into(),
            streams: vec![name.into()],
            units: vec![(!unit.is_empty()).then(|| unit.into())],
            comparison: Comparison { slot: 0, operator, limit },
        })))
    }

    /// The condition as written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The streams it refers to; slot `i` holds the latest value of the `i`-th.
    pub fn streams(&self) -> &[Name] {
        &self.0.streams
    }

    /// The unit that a slot's values must be converted to; `None`: as they come.
    pub fn unit_of(&self, slot: usize) -> Option<&str> {
        self.0.units.get(slot)?.as_deref()
    }

    /// The condition as `stream operator constant`, if it is nothing else.
    pub fn as_comparison(&self) -> Option<Comparison> {
        Some(self.0.comparison)
    }

    /// Whether it refers to the event at hand (`value`, `device`, `quality`, attributes …).
    pub fn needs_event(&self) -> bool {
        false
    }

    /// Evaluates it; allocates nothing.
    pub fn eval(&self, inputs: &Inputs<'_>) -> Truth {
        let comparison = self.0.comparison;
        match inputs.slots.get(comparison.slot) {
            Some(slot) if slot.seen > 0 => comparison.operator.holds(slot.value, comparison.limit).into(),
            _ => Truth::Unknown,
        }
    }

    /// The condition in words.
    pub fn explain(&self) -> String {
        self.0.text.clone()
    }
}
