//! From text to a tree of our own: the scan, the CEL parser, and what each CEL node means here.
//!
//! The only module that knows the CEL package. What CEL allows and conditions do
//! not (maps, comprehensions, indexing of anything but labels) is refused here
//! by name; types and units are not looked at yet.

use cel::common::ast::{CallExpr, Expr as Cel, IdedExpr, LiteralValue, SourceInfo};

use crate::DEPTH_MAX;
use crate::error::ExprError;
use crate::operator::Operator;
use crate::scan::{Quantity, Scanned, scan};
use crate::schema::Schema;
use crate::simple::name_chars;

/// A node, with the character of the user's text at which it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ast {
    pub(crate) at: usize,
    /// Where its operator stands; `at` if it has none.
    pub(crate) sign_at: usize,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    Number(Quantity),
    Text(String),
    Bool(bool),
    Stream(String),
    /// The value of the event at hand.
    Value,
    /// One of the named numbers that the event's value holds.
    ValueField(String),
    /// A text of the event at hand.
    Event(EventText),
    Attribute(String),
    HasAttribute(String),
    HasStream(String),
    List(Vec<Ast>),
    Call(Function, Vec<Ast>),
    Method(Method, Box<Ast>, Box<Ast>),
    Not(Box<Ast>),
    Negate(Box<Ast>),
    Arithmetic(Arithmetic, Box<Ast>, Box<Ast>),
    Compare(Operator, Box<Ast>, Box<Ast>),
    In(Box<Ast>, Box<Ast>),
    All(Vec<Ast>),
    Any(Vec<Ast>),
    If(Box<Ast>, Box<Ast>, Box<Ast>),
    /// `attributes` by itself, which only `in` can ask.
    Attributes,
}

/// Texts that every event has or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventText {
    Device,
    Stream,
    Site,
    Quality,
    Unit,
    Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Function {
    Abs,
    Min,
    Max,
    Sqrt,
    Round,
    Floor,
    Ceil,
    Previous,
    Delta,
    Age,
    Double,
    Size,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    StartsWith,
    EndsWith,
    Contains,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// What may be called.
pub(crate) const FUNCTIONS: [&str; 14] = [
    "abs", "min", "max", "sqrt", "round", "floor", "ceil", "previous", "delta", "age", "double", "size", "has",
    "stream",
];

/// What may be called on a text.
pub(crate) const METHODS: [&str; 4] = ["startsWith", "endsWith", "contains", "size"];

/// Names that are no streams unless they stand in backquotes.
pub(crate) const RESERVED: [&str; 9] =
    ["value", "device", "stream", "site", "quality", "unit", "kind", "attributes", "tags"];

impl Function {
    fn parse(name: &str) -> Option<Self> {
        use Function as F;
        const ALL: [Function; 12] = [
            F::Abs,
            F::Min,
            F::Max,
            F::Sqrt,
            F::Round,
            F::Floor,
            F::Ceil,
            F::Previous,
            F::Delta,
            F::Age,
            F::Double,
            F::Size,
        ];
        let index = FUNCTIONS.iter().position(|f| *f == name)?;
        ALL.get(index).copied()
    }

    pub(crate) fn as_str(self) -> &'static str {
        FUNCTIONS[self as usize]
    }
}

impl Arithmetic {
    pub(crate) fn as_str(self) -> &'static str {
        ["+", "-", "*", "/", "%"][self as usize]
    }

    /// The result; NaN when there is none, or none that is finite.
    pub(crate) fn of(self, a: f64, b: f64) -> f64 {
        let result = match self {
            Self::Add => a + b,
            Self::Subtract => a - b,
            Self::Multiply => a * b,
            Self::Divide => a / b,
            Self::Remainder => a % b,
        };
        if result.is_finite() { result } else { f64::NAN }
    }
}

/// Reads a condition's text.
pub(crate) fn parse(text: &str, schema: &Schema) -> Result<Ast, ExprError> {
    let scanned = scan(text, name_chars(text, schema))?;
    let parsed = cel::parser::Parser::new().parse_with_source_info(&scanned.cel);
    let (root, info) = parsed.map_err(|errors| from_cel(&scanned, errors))?;
    Reader { scanned: &scanned, info: &info }.read(root, 0)
}

/// The first error of the CEL parser; the scan leaves it few.
fn from_cel(scanned: &Scanned, errors: cel::ParseErrors) -> ExprError {
    let first = errors.errors.into_iter().next();
    let (column, message) = first.map_or((1, String::new()), |e| (e.pos.1, e.msg));
    let line = message.lines().next().unwrap_or_default();
    let offset = scanned.positions.get((column.max(1) - 1) as usize).map_or(scanned.end, |p| *p as usize);
    let problem = match line {
        "" => "the condition cannot be read".into(),
        line if line.contains("has() macro") => "has() asks for a label or a stream's field".into(),
        line => format!("the condition cannot be read ({})", line.trim_start_matches("Syntax error: ")),
    };
    ExprError::new(offset, problem, "a condition such as temperature > 85°C, has(attributes.line)")
}

struct Reader<'a> {
    scanned: &'a Scanned,
    info: &'a SourceInfo,
}

impl Reader<'_> {
    fn position(&self, id: u64) -> usize {
        let offset = self.info.offset_for(id).map_or(0, |(start, _)| start as usize);
        self.scanned.positions.get(offset).map_or(self.scanned.end, |p| *p as usize)
    }

    /// One node. `depth` counts the levels above it: the recursion's bound.
    fn read(&self, node: IdedExpr, depth: usize) -> Result<Ast, ExprError> {
        let at = self.position(node.id);
        if depth >= DEPTH_MAX {
            return Err(ExprError::new(at, "the condition nests too deeply", format!("at most {DEPTH_MAX} levels")));
        }
        let kind = match node.expr {
            Cel::Literal(literal) => self.literal(literal, at)?,
            Cel::Ident(name) => name_of(name),
            Cel::Select(select) => {
                let operand = self.read(*select.operand, depth + 1)?;
                let kind = member(&operand, &select.field, select.test, at)?;
                return Ok(Ast { at: operand.at, sign_at: at, kind });
            }
            Cel::List(list) => Kind::List(self.all(list.elements, depth)?),
            Cel::Call(call) => return self.call(call, at, depth),
            Cel::Map(_) | Cel::Struct(_) => return unsupported(at, "maps are not supported"),
            Cel::Comprehension(_) => return unsupported(at, "comprehensions are not supported"),
            Cel::Unspecified => return unsupported(at, "the condition cannot be read"),
        };
        Ok(Ast { at, sign_at: at, kind })
    }

    fn all(&self, nodes: Vec<IdedExpr>, depth: usize) -> Result<Vec<Ast>, ExprError> {
        nodes.into_iter().map(|node| self.read(node, depth + 1)).collect()
    }

    fn literal(&self, literal: LiteralValue, at: usize) -> Result<Kind, ExprError> {
        match literal {
            LiteralValue::Boolean(b) => Ok(Kind::Bool(*b.inner())),
            LiteralValue::String(text) => Ok(Kind::Text(text.inner().to_string())),
            LiteralValue::Int(index) => {
                // Numbers are indices into the scan's table; a sign before one was folded into it.
                let index = *index.inner();
                let slot = usize::try_from(index.unsigned_abs()).unwrap_or(0).wrapping_sub(1);
                let Some(quantity) = self.scanned.numbers.get(slot) else {
                    return unsupported(at, "the number cannot be read");
                };
                let mut quantity = quantity.clone();
                if index < 0 {
                    quantity.value = -quantity.value;
                }
                Ok(Kind::Number(quantity))
            }
            LiteralValue::Null | LiteralValue::Bytes(_) | LiteralValue::Double(_) | LiteralValue::UInt(_) => {
                unsupported(at, "this literal is not supported")
            }
        }
    }

    fn call(&self, call: CallExpr, at: usize, depth: usize) -> Result<Ast, ExprError> {
        let CallExpr { func_name, target, args } = call;
        if let Some(target) = target {
            let target = self.read(*target, depth + 1)?;
            let args = self.all(args, depth)?;
            return method(&func_name, target, args, at);
        }
        // CEL balances chains of && and ||, so their depth does not count; ours are flat.
        let deeper = usize::from(!matches!(func_name.as_str(), "_&&_" | "_||_"));
        let mut args: Vec<Ast> =
            args.into_iter().map(|node| self.read(node, depth + deeper)).collect::<Result<_, _>>()?;
        let start = args.first().map_or(at, |first| first.at.min(at));
        let mut take = || args.pop().map(Box::new);
        let joined = |of: fn(Vec<Ast>) -> Kind, flat: Vec<Ast>| Ok(Ast { at: start, sign_at: at, kind: of(flat) });
        let kind = match func_name.as_str() {
            "_&&_" => {
                let flat = args.into_iter().flat_map(|a| match a.kind {
                    Kind::All(terms) => terms,
                    _ => vec![a],
                });
                return joined(Kind::All, flat.collect());
            }
            "_||_" => {
                let flat = args.into_iter().flat_map(|a| match a.kind {
                    Kind::Any(terms) => terms,
                    _ => vec![a],
                });
                return joined(Kind::Any, flat.collect());
            }
            "!_" => take().map(Kind::Not),
            "-_" => take().map(Kind::Negate),
            "_?_:_" => {
                let (otherwise, then, condition) = (take(), take(), take());
                condition.zip(then).zip(otherwise).map(|((c, t), o)| Kind::If(c, t, o))
            }
            "_[_]" => {
                let (key, whole) = (take(), take());
                match (whole.as_ref().map(|w| &w.kind), key.as_ref().map(|k| &k.kind)) {
                    (Some(Kind::Attributes), Some(Kind::Text(key))) => Some(Kind::Attribute(key.clone())),
                    (Some(Kind::Value), Some(Kind::Text(key))) => Some(Kind::ValueField(key.clone())),
                    _ => {
                        return Err(ExprError::new(
                            at,
                            "only attributes and value have [ ]",
                            "attributes[\"line\"], with the label's name as a text",
                        ));
                    }
                }
            }
            "stream" => {
                let Some(Ast { kind: Kind::Text(name), at: name_at, .. }) = args.pop().filter(|_| args.is_empty())
                else {
                    return Err(ExprError::new(at, "stream() takes one name", "stream(\"line-1/pressure\")"));
                };
                if name.is_empty() {
                    return Err(ExprError::new(name_at, "the stream's name is empty", "stream(\"line-1/pressure\")"));
                }
                return Ok(Ast { at: name_at, sign_at: at, kind: Kind::Stream(name) });
            }
            "has" => {
                return Err(ExprError::new(at, "has() asks for a label or a stream's field", "has(attributes.line)"));
            }
            name => match binary(name) {
                Some(make) => {
                    let (right, left) = (take(), take());
                    left.zip(right).map(|(l, r)| make(l, r))
                }
                None => {
                    let Some(function) = Function::parse(name) else {
                        return Err(ExprError::new(
                            at,
                            format!("the function {name:?} is unknown"),
                            FUNCTIONS.join(", "),
                        ));
                    };
                    Some(Kind::Call(function, args))
                }
            },
        };
        match kind {
            Some(kind) => Ok(Ast { at: start, sign_at: at, kind }),
            None => unsupported(at, "the condition cannot be read"),
        }
    }
}

fn unsupported<T>(at: usize, problem: &str) -> Result<T, ExprError> {
    Err(ExprError::new(at, problem, "a condition such as temperature > 85°C && pressure < 2 bar"))
}

/// What an identifier stands for.
fn name_of(name: String) -> Kind {
    match name.as_str() {
        "value" => Kind::Value,
        "device" => Kind::Event(EventText::Device),
        "stream" => Kind::Event(EventText::Stream),
        "site" => Kind::Event(EventText::Site),
        "quality" => Kind::Event(EventText::Quality),
        "unit" => Kind::Event(EventText::Unit),
        "kind" => Kind::Event(EventText::Kind),
        "attributes" | "tags" => Kind::Attributes,
        _ => Kind::Stream(name),
    }
}

/// `operand.field`, or whether there is one.
fn member(operand: &Ast, field: &str, test: bool, at: usize) -> Result<Kind, ExprError> {
    Ok(match (&operand.kind, test) {
        (Kind::Attributes, false) => Kind::Attribute(field.into()),
        (Kind::Attributes, true) => Kind::HasAttribute(field.into()),
        (Kind::Stream(stream), false) => Kind::Stream(format!("{stream}.{field}")),
        (Kind::Stream(stream), true) => Kind::HasStream(format!("{stream}.{field}")),
        (Kind::Value, false) => Kind::ValueField(field.into()),
        // A label's name may hold dots: `attributes.a.b` is the label `a.b`.
        (Kind::Attribute(name), false) => Kind::Attribute(format!("{name}.{field}")),
        (Kind::Attribute(name), true) => Kind::HasAttribute(format!("{name}.{field}")),
        _ => {
            return Err(ExprError::new(
                at,
                format!("there is no field {field:?} of this"),
                "fields of a stream (vibration.velocity_rms), of value, of attributes",
            ));
        }
    })
}

fn method(name: &str, target: Ast, mut args: Vec<Ast>, at: usize) -> Result<Ast, ExprError> {
    let start = target.at;
    let method = match name {
        "startsWith" => Method::StartsWith,
        "endsWith" => Method::EndsWith,
        "contains" => Method::Contains,
        "size" if args.is_empty() => {
            return Ok(Ast { at: start, sign_at: at, kind: Kind::Call(Function::Size, vec![target]) });
        }
        _ => return Err(ExprError::new(at, format!("the function {name:?} is unknown"), METHODS.join(", "))),
    };
    match (args.pop(), args.is_empty()) {
        (Some(arg), true) => {
            Ok(Ast { at: start, sign_at: at, kind: Kind::Method(method, Box::new(target), Box::new(arg)) })
        }
        _ => Err(ExprError::new(at, format!("{name} takes one text"), format!("device.{name}(\"press-\")"))),
    }
}

type Make = Box<dyn Fn(Box<Ast>, Box<Ast>) -> Kind>;

/// A two-sided operator by CEL's name for it.
fn binary(name: &str) -> Option<Make> {
    let arithmetic = |op| -> Option<Make> { Some(Box::new(move |l, r| Kind::Arithmetic(op, l, r))) };
    match name {
        "_+_" => arithmetic(Arithmetic::Add),
        "_-_" => arithmetic(Arithmetic::Subtract),
        "_*_" => arithmetic(Arithmetic::Multiply),
        "_/_" => arithmetic(Arithmetic::Divide),
        "_%_" => arithmetic(Arithmetic::Remainder),
        "@in" => Some(Box::new(Kind::In)),
        _ => {
            let operator = Operator::parse(name.strip_prefix('_')?.strip_suffix('_')?)?;
            Some(Box::new(move |l, r| Kind::Compare(operator, l, r)))
        }
    }
}
