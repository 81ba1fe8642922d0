//! Types, names and units of a condition, and its lowering.
//!
//! Three passes over the tree: which streams it names (they become slots),
//! which unit each slot has (the schema's, else that of the first quantity it is
//! compared with, else that of a stream it is compared with), and the lowering
//! proper, which converts constants and refuses what does not fit.

mod infer;
mod unify;

use crate::error::ExprError;
use crate::node::{Bool, NamedUnit, Num, Rounding, Text};
use crate::operator::Operator;
use crate::parse::{Arithmetic, Ast, EventText, Function, Kind};
use crate::schema::Schema;
use crate::unit::Unit;
use crate::{SLOTS_MAX, scan};

/// The unit of a number's expression.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Tag {
    /// A pure number, or readings whose unit nothing says.
    Plain,
    /// In a unit. `difference`: of two values, so that a temperature's offset does not apply.
    Of { unit: NamedUnit, difference: bool },
    /// A product or quotient of units.
    Compound,
}

/// A lowered number.
#[derive(Debug, Clone)]
pub(crate) struct Number {
    num: Num,
    tag: Tag,
    at: usize,
}

enum Typed {
    Number(Number),
    Text(Text),
    Bool(Bool),
    /// The event's own value: a number, a text or a truth value, as the other side wants it.
    Value,
}

/// A stream that the condition names.
#[derive(Debug, Clone)]
pub(crate) struct SlotOf {
    pub(crate) name: String,
    pub(crate) unit: Option<NamedUnit>,
}

/// The checked condition.
pub(crate) struct Checked {
    pub(crate) root: Bool,
    pub(crate) slots: Vec<SlotOf>,
    pub(crate) needs_event: bool,
}

struct Checker<'a> {
    schema: &'a Schema,
    slots: Vec<SlotOf>,
    value_unit: Option<NamedUnit>,
    needs_event: bool,
}

/// Checks and lowers a condition of `end` characters.
pub(crate) fn check(ast: &Ast, schema: &Schema, end: usize) -> Result<Checked, ExprError> {
    let mut checker = Checker { schema, slots: Vec::new(), value_unit: None, needs_event: false };
    checker.collect(ast)?;
    checker.infer(ast);
    let root = match checker.lower(ast)? {
        Typed::Bool(root) => root,
        Typed::Value => Bool::Value,
        Typed::Number(_) | Typed::Text(_) => {
            return Err(match ast.kind {
                Kind::Stream(_) | Kind::Number(_) | Kind::Event(_) | Kind::Attribute(_) | Kind::ValueField(_) => {
                    ExprError::new(end, "the comparison is missing", scan::OPERATORS_ALLOWED)
                }
                _ => ExprError::new(ast.at, "the condition is neither true nor false", scan::OPERATORS_ALLOWED),
            });
        }
    };
    Ok(Checked { root, slots: checker.slots, needs_event: checker.needs_event })
}

fn fail<T>(at: usize, problem: impl Into<String>, allowed: impl Into<String>) -> Result<T, ExprError> {
    Err(ExprError::new(at, problem, allowed))
}

/// What an operand is called in an error.
fn called(ast: &Ast) -> String {
    match &ast.kind {
        Kind::Stream(name) => name.clone(),
        Kind::Number(_) | Kind::Text(_) | Kind::Bool(_) => crate::words::words(ast),
        Kind::Event(_) | Kind::Attribute(_) | Kind::Value | Kind::ValueField(_) => crate::words::words(ast),
        Kind::Call(function, _) => format!("{}()", function.as_str()),
        _ => "this".into(),
    }
}

impl Checker<'_> {
    /// Gives every stream a slot, in the order of the text.
    fn collect(&mut self, ast: &Ast) -> Result<(), ExprError> {
        if let Kind::Stream(name) | Kind::HasStream(name) = &ast.kind {
            self.slot(name, ast.at)?;
        }
        children(ast).into_iter().try_for_each(|child| self.collect(child))
    }

    fn slot(&mut self, name: &str, at: usize) -> Result<u16, ExprError> {
        if let Some(index) = self.slots.iter().position(|s| s.name == name) {
            return Ok(index as u16);
        }
        if !self.schema.allows(name) {
            let allowed = match self.schema.nearest(name) {
                Some(near) => format!("did you mean {near}?"),
                None => "a stream that the configuration names".into(),
            };
            return fail(at, format!("the stream {name:?} is unknown"), allowed);
        }
        if self.slots.len() >= SLOTS_MAX {
            return fail(at, "the condition names too many streams", format!("at most {SLOTS_MAX}"));
        }
        let unit = match self.schema.unit_of(name) {
            None => None,
            Some(unit) => match Unit::parse(unit) {
                Some(known) => Some(NamedUnit { unit: known, name: unit.into() }),
                None => {
                    return fail(at, format!("the unit {unit:?} of {name} is unknown"), "a unit such as °C, bar, mm/s");
                }
            },
        };
        self.slots.push(SlotOf { name: name.into(), unit });
        Ok((self.slots.len() - 1) as u16)
    }

    fn lower(&mut self, ast: &Ast) -> Result<Typed, ExprError> {
        let number = |num, tag| Ok(Typed::Number(Number { num, tag, at: ast.at }));
        match &ast.kind {
            Kind::Number(quantity) => {
                let tag = match &quantity.unit {
                    Some((unit, name)) => {
                        Tag::Of { unit: NamedUnit { unit: *unit, name: name.clone() }, difference: false }
                    }
                    None => Tag::Plain,
                };
                number(Num::Const(quantity.value), tag)
            }
            Kind::Text(text) => Ok(Typed::Text(Text::Const(text.as_str().into()))),
            Kind::Bool(truth) => Ok(Typed::Bool(Bool::Const(*truth))),
            Kind::Stream(name) => {
                let slot = self.slot(name, ast.at)?;
                number(Num::Slot(slot), self.tag_of(slot, false))
            }
            Kind::HasStream(name) => Ok(Typed::Bool(Bool::HasSlot(self.slot(name, ast.at)?))),
            Kind::Value => {
                self.needs_event = true;
                Ok(Typed::Value)
            }
            Kind::ValueField(name) => {
                self.needs_event = true;
                number(Num::ValueField(name.as_str().into()), Tag::Plain)
            }
            Kind::Event(text) => {
                self.needs_event = true;
                Ok(Typed::Text(Text::Event(*text)))
            }
            Kind::Attribute(name) => {
                self.needs_event = true;
                Ok(Typed::Text(Text::Attribute(name.as_str().into())))
            }
            Kind::HasAttribute(name) => {
                self.needs_event = true;
                Ok(Typed::Bool(Bool::HasAttribute(name.as_str().into())))
            }
            Kind::Attributes => {
                fail(ast.at, "attributes by itself is no value", "attributes.line, attributes[\"line\"]")
            }
            Kind::List(_) => fail(ast.at, "a list stands only behind in", "device in [\"press-1\", \"press-2\"]"),
            Kind::Call(function, args) => self.call(*function, args, ast),
            Kind::Method(method, target, arg) => {
                let sides = (self.text(target)?, self.text(arg)?);
                Ok(Typed::Bool(Bool::Method(*method, Box::new(sides))))
            }
            Kind::Not(of) => Ok(Typed::Bool(match self.truth(of)? {
                Bool::Const(truth) => Bool::Const(!truth),
                of => Bool::Not(Box::new(of)),
            })),
            Kind::Negate(of) => {
                let of = self.number(of)?;
                match of.num {
                    Num::Const(value) => number(Num::Const(-value), of.tag),
                    num => number(Num::Negate(Box::new(num)), of.tag),
                }
            }
            Kind::Arithmetic(op, left, right) => {
                let (left, right) = (self.number(left)?, self.number(right)?);
                let (num, tag) = self.arithmetic(*op, left, right, ast.sign_at)?;
                number(num, tag)
            }
            Kind::Compare(op, left, right) => self.compare(*op, left, right, ast.sign_at).map(Typed::Bool),
            Kind::In(left, right) => self.within(left, right).map(Typed::Bool),
            Kind::All(terms) => Ok(Typed::Bool(Bool::All(self.truths(terms)?))),
            Kind::Any(terms) => Ok(Typed::Bool(Bool::Any(self.truths(terms)?))),
            Kind::If(condition, then, otherwise) => {
                let condition = self.truth(condition)?;
                match (self.lower(then)?, self.lower(otherwise)?) {
                    (Typed::Text(_), _) | (_, Typed::Text(_)) => fail(
                        then.at,
                        "? : chooses between numbers or conditions, not texts",
                        "two conditions joined by ||",
                    ),
                    (Typed::Bool(then), Typed::Bool(otherwise)) => {
                        Ok(Typed::Bool(Bool::If(Box::new((condition, then, otherwise)))))
                    }
                    (a, b) => {
                        let sides = vec![self.as_number(a, then)?, self.as_number(b, otherwise)?];
                        let (nums, tag) = unify::unify(sides)?;
                        let [a, b] = two(nums, ast.sign_at)?;
                        number(Num::If(Box::new((condition, a, b))), tag)
                    }
                }
            }
        }
    }

    fn tag_of(&self, slot: u16, difference: bool) -> Tag {
        match self.slots.get(usize::from(slot)).and_then(|s| s.unit.clone()) {
            Some(unit) => Tag::Of { unit, difference },
            None => Tag::Plain,
        }
    }

    fn number(&mut self, ast: &Ast) -> Result<Number, ExprError> {
        let typed = self.lower(ast)?;
        self.as_number(typed, ast)
    }

    fn as_number(&self, typed: Typed, ast: &Ast) -> Result<Number, ExprError> {
        match typed {
            Typed::Number(number) => Ok(number),
            Typed::Value => {
                let tag = match &self.value_unit {
                    Some(unit) => Tag::Of { unit: unit.clone(), difference: false },
                    None => Tag::Plain,
                };
                Ok(Number { num: Num::Value(self.value_unit.clone().map(Box::new)), tag, at: ast.at })
            }
            Typed::Text(_) => fail(
                ast.at,
                format!("{} is a text, not a number", called(ast)),
                "a number; double(attributes.limit) reads one from a label, `unit` is the stream of that name",
            ),
            Typed::Bool(_) => fail(ast.at, "a condition is no number", "condition ? 1 : 0"),
        }
    }

    fn text(&mut self, ast: &Ast) -> Result<Text, ExprError> {
        match self.lower(ast)? {
            Typed::Text(text) => Ok(text),
            Typed::Value => Ok(Text::Value),
            Typed::Number(_) => fail(
                ast.at,
                format!("{} is a number, not a text", called(ast)),
                "a text such as \"on\", device, attributes.line",
            ),
            Typed::Bool(_) => fail(ast.at, "a condition is no text", "a text such as \"on\", device, attributes.line"),
        }
    }

    fn truth(&mut self, ast: &Ast) -> Result<Bool, ExprError> {
        match self.lower(ast)? {
            Typed::Bool(truth) => Ok(truth),
            Typed::Value => Ok(Bool::Value),
            Typed::Number(_) | Typed::Text(_) => fail(
                ast.at,
                format!("{} is neither true nor false", called(ast)),
                "a comparison such as temperature > 85°C, or running == true",
            ),
        }
    }

    fn truths(&mut self, terms: &[Ast]) -> Result<Box<[Bool]>, ExprError> {
        terms.iter().map(|term| self.truth(term)).collect()
    }

    fn compare(&mut self, op: Operator, left: &Ast, right: &Ast, sign_at: usize) -> Result<Bool, ExprError> {
        let equality = matches!(op, Operator::Equal | Operator::NotEqual);
        let chained = [left, right].into_iter().any(|side| matches!(side.kind, Kind::Compare(..)));
        let sides = (self.lower(left)?, self.lower(right)?);
        if chained && !(equality && matches!(sides, (Typed::Bool(_), Typed::Bool(_)))) {
            return fail(sign_at, "comparisons do not chain", "two conditions: 1 < x && x < 5");
        }
        match sides {
            (Typed::Text(a), Typed::Text(b)) => Ok(Bool::CompareText(op, Box::new((a, b)))),
            (Typed::Text(a), Typed::Value) => Ok(Bool::CompareText(op, Box::new((a, Text::Value)))),
            (Typed::Value, Typed::Text(b)) => Ok(Bool::CompareText(op, Box::new((Text::Value, b)))),
            (Typed::Text(_), Typed::Number(_)) | (Typed::Number(_), Typed::Text(_)) => {
                let stream = [left, right].into_iter().find(|side| matches!(side.kind, Kind::Stream(_)));
                let allowed = match stream {
                    Some(_) => "a stream's name stands for its number; for a text compare value, as in value == \"on\"",
                    None => {
                        "texts with texts (attributes.line == \"1\"), numbers with numbers (double(attributes.line) > 1)"
                    }
                };
                fail(sign_at, format!("{} and {} do not compare: one is a text", called(left), called(right)), allowed)
            }
            (Typed::Bool(_), _) | (_, Typed::Bool(_)) if !equality => {
                fail(sign_at, format!("conditions have no order for {}", op.as_str()), "== or !=")
            }
            (Typed::Bool(a), Typed::Bool(b)) => Ok(compare_bools(op, a, b)),
            (Typed::Bool(a), Typed::Value) | (Typed::Value, Typed::Bool(a)) => Ok(compare_bools(op, Bool::Value, a)),
            // A device's truth values are kept as 1 and 0.
            (Typed::Number(Number { num, tag: Tag::Plain, .. }), Typed::Bool(Bool::Const(truth)))
            | (Typed::Bool(Bool::Const(truth)), Typed::Number(Number { num, tag: Tag::Plain, .. })) => {
                Ok(compare_numbers(op, num, Num::Const(f64::from(u8::from(truth)))))
            }
            (Typed::Bool(_), _) | (_, Typed::Bool(_)) => fail(
                sign_at,
                format!("{} and {} do not compare: one is a condition", called(left), called(right)),
                "conditions with conditions, joined by && or ||",
            ),
            (a, b) => {
                let sides = vec![self.as_number(a, left)?, self.as_number(b, right)?];
                let [a, b] = two(unify::unify(sides)?.0, sign_at)?;
                Ok(compare_numbers(op, a, b))
            }
        }
    }

    /// `left in right`.
    fn within(&mut self, left: &Ast, right: &Ast) -> Result<Bool, ExprError> {
        let items = match (&left.kind, &right.kind) {
            (Kind::Text(name), Kind::Attributes) => {
                self.needs_event = true;
                return Ok(Bool::HasAttribute(name.as_str().into()));
            }
            (_, Kind::List(items)) if !items.is_empty() => items,
            _ => return fail(right.at, "in asks a list of constants", "device in [\"press-1\", \"press-2\"]"),
        };
        let left_typed = self.lower(left)?;
        let texts = matches!(left_typed, Typed::Text(_))
            || matches!(left_typed, Typed::Value) && matches!(items[0].kind, Kind::Text(_));
        if texts {
            let text = self.text(left)?;
            let list = items.iter().map(|item| match self.text(item)? {
                Text::Const(text) => Ok(text),
                _ => fail(item.at, "the list holds something that is no constant", "texts such as \"press-1\""),
            });
            return Ok(Bool::TextIn(text, list.collect::<Result<_, _>>()?));
        }
        let mut sides = vec![self.as_number(left_typed, left)?];
        for item in items {
            let number = self.number(item)?;
            if !number.is_constant() {
                return fail(item.at, "the list holds something that is no constant", "numbers such as 1 or 85°C");
            }
            sides.push(number);
        }
        let mut nums = unify::unify(sides)?.0.into_iter();
        let left = nums.next().unwrap_or(Num::Const(f64::NAN));
        let list = nums.filter_map(|num| match num {
            Num::Const(value) => Some(value),
            _ => None,
        });
        Ok(Bool::NumIn(Box::new(left), list.collect()))
    }

    fn call(&mut self, function: Function, args: &[Ast], ast: &Ast) -> Result<Typed, ExprError> {
        let name = function.as_str();
        let number = |num, tag| Ok(Typed::Number(Number { num, tag, at: ast.at }));
        let (fewest, most) = if matches!(function, Function::Min | Function::Max) { (2, usize::MAX) } else { (1, 1) };
        if args.len() < fewest || args.len() > most {
            let wanted = if most == 1 { "one value" } else { "two values or more" };
            return fail(ast.sign_at, format!("{name}() takes {wanted}"), format!("{name}(temperature)"));
        }
        let first = &args[0];
        let rounding = match function {
            Function::Min | Function::Max => {
                let sides = args.iter().map(|arg| self.number(arg)).collect::<Result<Vec<_>, _>>()?;
                let (nums, tag) = unify::unify(sides)?;
                let all: Box<[Num]> = nums.into();
                return number(if function == Function::Min { Num::Min(all) } else { Num::Max(all) }, tag);
            }
            Function::Previous | Function::Delta | Function::Age => {
                let Kind::Stream(stream) = &first.kind else {
                    return fail(
                        first.at,
                        format!("{name}() asks for a stream by its name"),
                        format!("{name}(temperature)"),
                    );
                };
                let slot = self.slot(stream, first.at)?;
                let seconds = || Unit::parse("s").map(|unit| NamedUnit { unit, name: "s".into() });
                return match function {
                    Function::Previous => number(Num::Previous(slot), self.tag_of(slot, false)),
                    Function::Delta => number(Num::Delta(slot), self.tag_of(slot, true)),
                    _ => {
                        let tag = seconds().map_or(Tag::Plain, |unit| Tag::Of { unit, difference: false });
                        number(Num::Age(slot), tag)
                    }
                };
            }
            Function::Double => return number(Num::Parse(self.text(first)?), Tag::Plain),
            Function::Size => return number(Num::Size(self.text(first)?), Tag::Plain),
            Function::Abs => Rounding::Abs,
            Function::Sqrt => Rounding::Sqrt,
            Function::Round => Rounding::Round,
            Function::Floor => Rounding::Floor,
            Function::Ceil => Rounding::Ceil,
        };
        let of = self.number(first)?;
        let tag = match (rounding, of.tag) {
            (Rounding::Sqrt, Tag::Of { .. }) => Tag::Compound,
            (_, tag) => tag,
        };
        match of.num {
            Num::Const(value) if rounding.of(value).is_nan() => {
                fail(first.at, format!("{name}() of {} is no number", called(first)), "a number of zero or more")
            }
            Num::Const(value) => number(Num::Const(rounding.of(value)), tag),
            num => number(Num::Apply(rounding, Box::new(num)), tag),
        }
    }

    fn arithmetic(&self, op: Arithmetic, left: Number, right: Number, at: usize) -> Result<(Num, Tag), ExprError> {
        let (a, b, tag) = match op {
            Arithmetic::Add | Arithmetic::Subtract => unify::sum(op, left, right)?,
            Arithmetic::Remainder => {
                let (nums, tag) = unify::unify(vec![left, right])?;
                let [a, b] = two(nums, at)?;
                (a, b, tag)
            }
            Arithmetic::Multiply | Arithmetic::Divide => unify::product(op, left, right),
        };
        if let (Num::Const(a), Num::Const(b)) = (&a, &b) {
            let value = op.of(*a, *b);
            if value.is_nan() {
                return fail(at, format!("{a} {} {b} is no finite number", op.as_str()), "a divisor other than 0");
            }
            return Ok((Num::Const(value), tag));
        }
        Ok((Num::Arithmetic(op, Box::new((a, b))), tag))
    }
}

impl Number {
    fn is_constant(&self) -> bool {
        matches!(self.num, Num::Const(_))
    }
}

fn two(nums: Vec<Num>, at: usize) -> Result<[Num; 2], ExprError> {
    <[Num; 2]>::try_from(nums).or_else(|_| fail(at, "the operator takes two sides", scan::OPERATORS_ALLOWED))
}

fn compare_bools(op: Operator, a: Bool, b: Bool) -> Bool {
    Bool::Agree { equal: op == Operator::Equal, sides: Box::new((a, b)) }
}

/// The stream to the left, if it is one of both.
fn compare_numbers(op: Operator, a: Num, b: Num) -> Bool {
    match (a, b) {
        (Num::Slot(slot), Num::Const(limit)) => Bool::Compare { slot, operator: op, limit },
        (Num::Const(limit), Num::Slot(slot)) => Bool::Compare { slot, operator: op.mirrored(), limit },
        (Num::Const(a), Num::Const(b)) => Bool::Const(op.holds(a, b)),
        sides => Bool::CompareNum(op, Box::new(sides)),
    }
}

/// The operands of a node, in the order of the text.
pub(crate) fn children(ast: &Ast) -> Vec<&Ast> {
    match &ast.kind {
        Kind::List(all) | Kind::Call(_, all) | Kind::All(all) | Kind::Any(all) => all.iter().collect(),
        Kind::Not(of) | Kind::Negate(of) => vec![of],
        Kind::Method(_, a, b) | Kind::Arithmetic(_, a, b) | Kind::Compare(_, a, b) | Kind::In(a, b) => vec![a, b],
        Kind::If(a, b, c) => vec![a, b, c],
        Kind::Number(_)
        | Kind::Text(_)
        | Kind::Bool(_)
        | Kind::Stream(_)
        | Kind::Value
        | Kind::ValueField(_)
        | Kind::Event(_)
        | Kind::Attribute(_)
        | Kind::HasAttribute(_)
        | Kind::HasStream(_)
        | Kind::Attributes => Vec::new(),
    }
}

impl EventText {
    /// Its name in the language.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Stream => "stream",
            Self::Site => "site",
            Self::Quality => "quality",
            Self::Unit => "unit",
            Self::Kind => "kind",
        }
    }
}
