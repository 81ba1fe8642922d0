//! A condition in words, for people who read rules and alerts.

use crate::parse::{Arithmetic, Ast, EventText, Function, Kind, Method};

/// The condition in words, with its numbers and units as they were written.
pub(crate) fn words(ast: &Ast) -> String {
    match &ast.kind {
        Kind::Number(quantity) => match &quantity.unit {
            Some((_, unit)) => format!("{} {unit}", quantity.value),
            None => quantity.value.to_string(),
        },
        Kind::Text(text) => format!("{text:?}"),
        Kind::Bool(truth) => truth.to_string(),
        Kind::Stream(name) => name.clone(),
        Kind::Value => "the value".into(),
        Kind::ValueField(name) => format!("the value's {name}"),
        Kind::Event(text) => match text {
            EventText::Device | EventText::Site => text.as_str().into(),
            _ => format!("the {}", text.as_str()),
        },
        Kind::Attribute(name) => format!("attribute {name}"),
        Kind::HasAttribute(name) => format!("attribute {name} is there"),
        Kind::HasStream(name) => format!("{name} was seen"),
        Kind::Attributes => "the attributes".into(),
        Kind::List(items) => listed(items, ", "),
        Kind::Call(function, args) => call(*function, args),
        Kind::Method(method, target, arg) => {
            let verb = match method {
                Method::StartsWith => "starts with",
                Method::EndsWith => "ends with",
                Method::Contains => "contains",
            };
            format!("{} {verb} {}", words(target), words(arg))
        }
        Kind::Not(of) => format!("not {}", within(of)),
        Kind::Negate(of) => format!("-{}", within(of)),
        Kind::Arithmetic(op, a, b) => format!("{} {} {}", within(a), op.as_str(), within(b)),
        Kind::Compare(op, a, b) => format!("{} {} {}", within(a), op.words(), within(b)),
        Kind::In(a, b) => match (&a.kind, &b.kind) {
            (Kind::Text(name), Kind::Attributes) => format!("attribute {name} is there"),
            _ => format!("{} is one of {}", within(a), words(b)),
        },
        Kind::All(terms) => joined(terms, " and "),
        Kind::Any(terms) => joined(terms, " or "),
        Kind::If(condition, then, otherwise) => {
            format!("if {} then {}, otherwise {}", words(condition), within(then), within(otherwise))
        }
    }
}

fn listed(items: &[Ast], separator: &str) -> String {
    items.iter().map(words).collect::<Vec<_>>().join(separator)
}

/// Terms, in brackets where their own words would be read with the wrong neighbour.
fn joined(terms: &[Ast], separator: &str) -> String {
    let term = |term: &Ast| match term.kind {
        Kind::All(_) | Kind::Any(_) | Kind::If(..) => format!("({})", words(term)),
        _ => words(term),
    };
    terms.iter().map(term).collect::<Vec<_>>().join(separator)
}

fn within(ast: &Ast) -> String {
    let composed = matches!(
        ast.kind,
        Kind::All(_)
            | Kind::Any(_)
            | Kind::If(..)
            | Kind::Compare(..)
            | Kind::In(..)
            | Kind::Not(_)
            | Kind::Method(..)
            | Kind::HasAttribute(_)
            | Kind::HasStream(_)
            | Kind::Arithmetic(Arithmetic::Add | Arithmetic::Subtract, ..)
    );
    if composed { format!("({})", words(ast)) } else { words(ast) }
}

fn call(function: Function, args: &[Ast]) -> String {
    let all = listed(args, ", ");
    let of = |what: &str| format!("{what} {all}");
    match function {
        Function::Abs => of("the magnitude of"),
        Function::Min => of("the smallest of"),
        Function::Max => of("the largest of"),
        Function::Sqrt => of("the square root of"),
        Function::Previous => of("the previous"),
        Function::Delta => of("the change of"),
        Function::Age => of("the time since"),
        Function::Size => of("the length of"),
        Function::Double => of("the number in"),
        Function::Round | Function::Floor | Function::Ceil => format!("{}({all})", function.as_str()),
    }
}
