//! A compiled condition.

use std::sync::Arc;

use grey_model::{Event, Name};

use crate::check::check;
use crate::node::Bool;
use crate::parse::parse;
use crate::words::words;
use crate::{ExprError, Operator, Schema, Truth};

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
    words: String,
    streams: Vec<Name>,
    units: Vec<Option<String>>,
    needs_event: bool,
    root: Bool,
}

impl Expr {
    /// Reads a condition, checks it against a schema and lowers it.
    ///
    /// # Errors
    ///
    /// The first mistake, at its character of `text`.
    pub fn compile(text: &str, schema: &Schema) -> Result<Self, ExprError> {
        let ast = parse(text, schema)?;
        let checked = check(&ast, schema, text.chars().count())?;
        let (names, units): (Vec<_>, Vec<_>) =
            checked.slots.into_iter().map(|slot| (slot.name, slot.unit.map(|unit| unit.name))).unzip();
        Ok(Self(Arc::new(Compiled {
            text: text.trim().into(),
            words: words(&ast),
            streams: names.into_iter().map(Name::from).collect(),
            units,
            needs_event: checked.needs_event,
            root: checked.root,
        })))
    }

    /// The condition as written, without the white space around it.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The streams it refers to (`temperature`, `vibration.velocity_rms`), at most [`crate::SLOTS_MAX`];
    /// slot `i` holds the latest values of the `i`-th.
    pub fn streams(&self) -> &[Name] {
        &self.0.streams
    }

    /// The unit that a slot's values must be converted to before they are put into it; `None`: as they come.
    pub fn unit_of(&self, slot: usize) -> Option<&str> {
        self.0.units.get(slot)?.as_deref()
    }

    /// The condition as `stream operator constant`, if it is nothing else.
    pub fn as_comparison(&self) -> Option<Comparison> {
        match self.0.root {
            Bool::Compare { slot, operator, limit } => Some(Comparison { slot: usize::from(slot), operator, limit }),
            _ => None,
        }
    }

    /// Whether it refers to the event at hand (`value`, `device`, `quality`, attributes …), so that it says
    /// something about each event and not only about the latest values.
    pub fn needs_event(&self) -> bool {
        self.0.needs_event
    }

    /// Evaluates it; allocates nothing. Slots that are missing in `inputs` count as not seen.
    #[inline]
    pub fn eval(&self, inputs: &Inputs<'_>) -> Truth {
        self.0.root.eval(inputs)
    }

    /// The condition in words: `temperature is above 85 °C and pressure is below 2 bar`.
    pub fn explain(&self) -> String {
        self.0.words.clone()
    }
}
