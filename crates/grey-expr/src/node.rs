//! What a condition is lowered to, and its evaluation.
//!
//! Names are resolved to slots, units are converted and types are settled, so
//! that evaluation is a walk over a small tree without allocation. A number that
//! is not known is NaN: readings never are. The tree is at most [`crate::DEPTH_MAX`] deep.

use grey_model::{Event, Value};

use crate::expr::{Inputs, Slot};
use crate::operator::Operator;
use crate::parse::{Arithmetic, EventText, Method};
use crate::truth::Truth;
use crate::unit::{Conversion, Unit};

/// A unit with the spelling that it was written with.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct NamedUnit {
    pub(crate) unit: Unit,
    pub(crate) name: String,
}

/// A number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Num {
    Const(f64),
    Slot(u16),
    Previous(u16),
    Delta(u16),
    /// Seconds since the slot's value.
    Age(u16),
    /// The event's own value, converted from the event's unit to this one.
    Value(Option<Box<NamedUnit>>),
    /// One of the named numbers of the event's value.
    ValueField(Box<str>),
    Negate(Box<Num>),
    Arithmetic(Arithmetic, Box<(Num, Num)>),
    Apply(Rounding, Box<Num>),
    Min(Box<[Num]>),
    Max(Box<[Num]>),
    If(Box<(Bool, Num, Num)>),
    Convert(Conversion, Box<Num>),
    /// A text that is a number.
    Parse(Text),
    /// Characters of a text.
    Size(Text),
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    Abs,
    Sqrt,
    Round,
    Floor,
    Ceil,
}

/// A text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Text {
    Const(Box<str>),
    Event(EventText),
    Attribute(Box<str>),
    /// The event's own value.
    Value,
}

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bool {
    Const(bool),
    /// The commonest condition, without indirection.
    Compare {
        slot: u16,
        operator: Operator,
        limit: f64,
    },
    CompareNum(Operator, Box<(Num, Num)>),
    CompareText(Operator, Box<(Text, Text)>),
    Agree {
        equal: bool,
        sides: Box<(Bool, Bool)>,
    },
    /// The event's own value, as a truth value.
    Value,
    Method(Method, Box<(Text, Text)>),
    NumIn(Box<Num>, Box<[f64]>),
    TextIn(Text, Box<[Box<str>]>),
    HasAttribute(Box<str>),
    HasSlot(u16),
    Not(Box<Bool>),
    All(Box<[Bool]>),
    Any(Box<[Bool]>),
    If(Box<(Bool, Bool, Bool)>),
}

fn seen<'a>(inputs: &Inputs<'a>, slot: u16, values: u8) -> Option<&'a Slot> {
    inputs.slots.get(usize::from(slot)).filter(|s| s.seen >= values)
}

fn attribute<'a>(event: &'a Event, name: &str) -> Option<&'a str> {
    event.attributes.iter().find(|(n, _)| n.as_str() == name).map(|(_, v)| v.as_str())
}

/// NaN for what is not finite: an overflow is as unknown as a division by zero.
fn finite(value: f64) -> f64 {
    if value.is_finite() { value } else { f64::NAN }
}

impl Num {
    /// The number; NaN when it is unknown.
    pub(crate) fn eval(&self, inputs: &Inputs<'_>) -> f64 {
        match self {
            Self::Const(value) => *value,
            Self::Slot(slot) => seen(inputs, *slot, 1).map_or(f64::NAN, |s| s.value),
            Self::Previous(slot) => seen(inputs, *slot, 2).map_or(f64::NAN, |s| s.previous),
            Self::Delta(slot) => seen(inputs, *slot, 2).map_or(f64::NAN, |s| finite(s.value - s.previous)),
            Self::Age(slot) => {
                seen(inputs, *slot, 1).map_or(f64::NAN, |s| inputs.now_ms.saturating_sub(s.time_ms) as f64 / 1e3)
            }
            Self::Value(unit) => value_in(inputs.event, unit.as_deref()),
            Self::ValueField(name) => match &inputs.event.value {
                Value::Fields(fields) => fields.iter().find(|(n, _)| n.as_str() == &**name).map_or(f64::NAN, |f| f.1),
                _ => f64::NAN,
            },
            Self::Negate(of) => -of.eval(inputs),
            Self::Arithmetic(op, sides) => op.of(sides.0.eval(inputs), sides.1.eval(inputs)),
            Self::Apply(function, of) => function.of(of.eval(inputs)),
            Self::Min(all) => extreme(all, inputs, f64::min),
            Self::Max(all) => extreme(all, inputs, f64::max),
            Self::If(parts) => match parts.0.eval(inputs) {
                Truth::True => parts.1.eval(inputs),
                Truth::False => parts.2.eval(inputs),
                Truth::Unknown => f64::NAN,
            },
            Self::Convert(conversion, of) => finite(conversion.apply(of.eval(inputs))),
            Self::Parse(text) => text.eval(inputs).and_then(|t| t.trim().parse().ok()).map_or(f64::NAN, finite),
            Self::Size(text) => text.eval(inputs).map_or(f64::NAN, |t| t.chars().count() as f64),
        }
    }
}

/// The smallest or largest; unknown as soon as one is, which `f64::min` would hide.
fn extreme(all: &[Num], inputs: &Inputs<'_>, of: fn(f64, f64) -> f64) -> f64 {
    let mut found: Option<f64> = None;
    for num in all {
        let value = num.eval(inputs);
        if value.is_nan() {
            return f64::NAN;
        }
        found = Some(found.map_or(value, |f| of(f, value)));
    }
    found.unwrap_or(f64::NAN)
}

/// The event's value in a unit; as it comes when either unit is not known.
fn value_in(event: &Event, unit: Option<&NamedUnit>) -> f64 {
    let Some(value) = event.value.as_f64() else { return f64::NAN };
    let (Some(from), Some(to)) = (event.unit.as_deref(), unit) else { return value };
    if from == to.name {
        return value;
    }
    let conversion = Unit::parse(from).and_then(|from| from.conversion_to(to.unit));
    conversion.map_or(f64::NAN, |c| finite(c.apply(value)))
}

impl Rounding {
    pub(crate) fn of(self, value: f64) -> f64 {
        match self {
            Self::Abs => value.abs(),
            // Of a negative number there is none: NaN, unknown.
            Self::Sqrt => value.sqrt(),
            Self::Round => value.round(),
            Self::Floor => value.floor(),
            Self::Ceil => value.ceil(),
        }
    }
}

impl Text {
    fn eval<'a>(&'a self, inputs: &Inputs<'a>) -> Option<&'a str> {
        let event = inputs.event;
        match self {
            Self::Const(text) => Some(text),
            Self::Attribute(name) => attribute(event, name),
            Self::Value => match &event.value {
                Value::Text(text) => Some(text),
                _ => None,
            },
            Self::Event(EventText::Device) => Some(&event.device),
            Self::Event(EventText::Stream) => Some(&event.stream),
            Self::Event(EventText::Site) => Some(inputs.site),
            Self::Event(EventText::Quality) => Some(event.quality.as_str()),
            Self::Event(EventText::Kind) => Some(event.kind.as_str()),
            Self::Event(EventText::Unit) => event.unit.as_deref(),
        }
    }
}

impl Bool {
    /// Whether it holds.
    pub(crate) fn eval(&self, inputs: &Inputs<'_>) -> Truth {
        match self {
            Self::Compare { slot, operator, limit } => match inputs.slots.get(usize::from(*slot)) {
                Some(s) if s.seen > 0 && !s.value.is_nan() => operator.holds(s.value, *limit).into(),
                _ => Truth::Unknown,
            },
            Self::All(terms) => {
                let mut truth = Truth::True;
                for term in terms {
                    match term.eval(inputs) {
                        Truth::False => return Truth::False,
                        Truth::Unknown => truth = Truth::Unknown,
                        Truth::True => {}
                    }
                }
                truth
            }
            Self::Any(terms) => {
                let mut truth = Truth::False;
                for term in terms {
                    match term.eval(inputs) {
                        Truth::True => return Truth::True,
                        Truth::Unknown => truth = Truth::Unknown,
                        Truth::False => {}
                    }
                }
                truth
            }
            Self::Not(of) => !of.eval(inputs),
            Self::CompareNum(operator, sides) => {
                let (a, b) = (sides.0.eval(inputs), sides.1.eval(inputs));
                if a.is_nan() || b.is_nan() { Truth::Unknown } else { operator.holds(a, b).into() }
            }
            Self::CompareText(operator, sides) => match (sides.0.eval(inputs), sides.1.eval(inputs)) {
                (Some(a), Some(b)) => operator.orders(a.cmp(b)).into(),
                _ => Truth::Unknown,
            },
            Self::Agree { equal, sides } => match (sides.0.eval(inputs), sides.1.eval(inputs)) {
                (Truth::Unknown, _) | (_, Truth::Unknown) => Truth::Unknown,
                (a, b) => ((a == b) == *equal).into(),
            },
            Self::Method(method, sides) => match (sides.0.eval(inputs), sides.1.eval(inputs)) {
                (Some(text), Some(part)) => match method {
                    Method::StartsWith => text.starts_with(part),
                    Method::EndsWith => text.ends_with(part),
                    Method::Contains => text.contains(part),
                }
                .into(),
                _ => Truth::Unknown,
            },
            Self::NumIn(num, list) => {
                let value = num.eval(inputs);
                if value.is_nan() { Truth::Unknown } else { list.contains(&value).into() }
            }
            Self::TextIn(text, list) => {
                text.eval(inputs).map_or(Truth::Unknown, |text| list.iter().any(|l| &**l == text).into())
            }
            Self::HasAttribute(name) => attribute(inputs.event, name).is_some().into(),
            Self::HasSlot(slot) => seen(inputs, *slot, 1).is_some().into(),
            Self::Value => match &inputs.event.value {
                Value::Bool(truth) => (*truth).into(),
                _ => Truth::Unknown,
            },
            Self::If(parts) => match parts.0.eval(inputs) {
                Truth::True => parts.1.eval(inputs),
                Truth::False => parts.2.eval(inputs),
                Truth::Unknown => Truth::Unknown,
            },
            Self::Const(truth) => (*truth).into(),
        }
    }
}
