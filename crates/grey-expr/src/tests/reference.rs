//! The lowered tree against a naive evaluator of the same conditions.
//!
//! The reference is written on its own: it knows neither slots nor NaN, only
//! `Option`, and evaluates every operand. Conditions are drawn at random, printed
//! as text with all brackets, compiled and evaluated both ways.

use super::*;
use proptest::prelude::*;

/// A number's expression.
#[derive(Debug, Clone)]
enum N {
    Const(i32),
    Stream(usize),
    Previous(usize),
    Delta(usize),
    Negate(Box<N>),
    Binary(&'static str, Box<N>, Box<N>),
    Abs(Box<N>),
    Min(Vec<N>),
    Max(Vec<N>),
    If(Box<B>, Box<N>, Box<N>),
}

/// A condition.
#[derive(Debug, Clone)]
enum B {
    Const(bool),
    Compare(&'static str, N, N),
    In(N, Vec<i32>),
    Device(&'static str, &'static str),
    Attribute(&'static str, &'static str),
    Has(&'static str),
    Not(Box<B>),
    And(Vec<B>),
    Or(Vec<B>),
    If(Box<B>, Box<B>, Box<B>),
}

const STREAMS: [&str; 4] = ["a", "b", "`line-1/c`", "d.avg"];

fn number() -> impl Strategy<Value = N> {
    let leaf = prop_oneof![
        (-5..6).prop_map(N::Const),
        (0..4_usize).prop_map(N::Stream),
        (0..4_usize).prop_map(N::Previous),
        (0..4_usize).prop_map(N::Delta),
    ];
    leaf.prop_recursive(4, 16, 3, |inner| {
        let op = prop::sample::select(vec!["+", "-", "*", "/", "%"]);
        let boxed = |n: N| Box::new(n);
        prop_oneof![
            inner.clone().prop_map(move |n| N::Negate(boxed(n))),
            (op, inner.clone(), inner.clone()).prop_map(move |(op, a, b)| N::Binary(op, boxed(a), boxed(b))),
            inner.clone().prop_map(move |n| N::Abs(boxed(n))),
            prop::collection::vec(inner.clone(), 2..4).prop_map(N::Min),
            prop::collection::vec(inner.clone(), 2..4).prop_map(N::Max),
            (inner.clone(), inner.clone(), inner)
                .prop_map(move |(c, a, b)| { N::If(Box::new(B::Compare(">", c, N::Const(0))), boxed(a), boxed(b)) }),
        ]
    })
}

fn condition() -> impl Strategy<Value = B> {
    let op = || prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="]);
    let leaf = prop_oneof![
        any::<bool>().prop_map(B::Const),
        (op(), number(), number()).prop_map(|(op, a, b)| B::Compare(op, a, b)),
        (number(), prop::collection::vec(-3..4, 1..4)).prop_map(|(n, list)| B::In(n, list)),
        (
            prop::sample::select(vec!["startsWith", "endsWith", "contains"]),
            prop::sample::select(vec!["press", "7", ""])
        )
            .prop_map(|(method, part)| B::Device(method, part)),
        (prop::sample::select(vec!["line", "gone"]), prop::sample::select(vec!["1", "2"]))
            .prop_map(|(name, text)| B::Attribute(name, text)),
        prop::sample::select(vec!["line", "gone"]).prop_map(B::Has),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(|b| B::Not(Box::new(b))),
            prop::collection::vec(inner.clone(), 2..5).prop_map(B::And),
            prop::collection::vec(inner.clone(), 2..5).prop_map(B::Or),
            (inner.clone(), inner.clone(), inner).prop_map(|(c, a, b)| B::If(Box::new(c), Box::new(a), Box::new(b))),
        ]
    })
}

fn joined<T>(all: &[T], separator: &str, print: impl Fn(&T) -> String) -> String {
    all.iter().map(print).collect::<Vec<_>>().join(separator)
}

fn print_number(n: &N) -> String {
    match n {
        N::Const(c) => format!("({c})"),
        N::Stream(s) => STREAMS[*s].into(),
        N::Previous(s) => format!("previous({})", STREAMS[*s]),
        N::Delta(s) => format!("delta({})", STREAMS[*s]),
        N::Negate(n) => format!("(-{})", print_number(n)),
        N::Binary(op, a, b) => format!("({} {op} {})", print_number(a), print_number(b)),
        N::Abs(n) => format!("abs({})", print_number(n)),
        N::Min(all) => format!("min({})", joined(all, ", ", print_number)),
        N::Max(all) => format!("max({})", joined(all, ", ", print_number)),
        N::If(c, a, b) => format!("({} ? {} : {})", print(c), print_number(a), print_number(b)),
    }
}

fn print(b: &B) -> String {
    match b {
        B::Const(truth) => truth.to_string(),
        B::Compare(op, a, b) => format!("({} {op} {})", print_number(a), print_number(b)),
        B::In(n, list) => format!("({} in [{}])", print_number(n), joined(list, ", ", i32::to_string)),
        B::Device(method, part) => format!("device.{method}(\"{part}\")"),
        B::Attribute(name, text) => format!("(attributes.{name} == '{text}')"),
        B::Has(name) => format!("has(attributes.{name})"),
        B::Not(b) => format!("!{}", print(b)),
        B::And(all) => format!("({})", joined(all, " && ", print)),
        B::Or(all) => format!("({})", joined(all, " || ", print)),
        B::If(c, a, b) => format!("({} ? {} : {})", print(c), print(a), print(b)),
    }
}

/// Value and previous value of each stream.
type Values = [Option<(f64, f64)>; 4];

fn naive_number(n: &N, values: &Values) -> Option<f64> {
    let of = |n: &N| naive_number(n, values);
    let all = |ns: &[N]| ns.iter().map(of).collect::<Option<Vec<f64>>>();
    let result = match n {
        N::Const(c) => f64::from(*c),
        N::Stream(s) => values[*s]?.0,
        N::Previous(s) => values[*s]?.1,
        N::Delta(s) => values[*s]?.0 - values[*s]?.1,
        N::Negate(n) => -of(n)?,
        N::Binary("+", a, b) => of(a)? + of(b)?,
        N::Binary("-", a, b) => of(a)? - of(b)?,
        N::Binary("*", a, b) => of(a)? * of(b)?,
        N::Binary("/", a, b) => of(a)? / of(b)?,
        N::Binary(_, a, b) => of(a)? % of(b)?,
        N::Abs(n) => of(n)?.abs(),
        N::Min(ns) => all(ns)?.into_iter().fold(f64::INFINITY, f64::min),
        N::Max(ns) => all(ns)?.into_iter().fold(f64::NEG_INFINITY, f64::max),
        N::If(c, a, b) => of(if naive(c, values)? { a } else { b })?,
    };
    result.is_finite().then_some(result)
}

/// `None` is unknown.
fn naive(b: &B, values: &Values) -> Option<bool> {
    let device = "press-7";
    match b {
        B::Const(truth) => Some(*truth),
        B::Compare(op, a, b) => {
            let (a, b) = (naive_number(a, values)?, naive_number(b, values)?);
            Some(match *op {
                "<" => a < b,
                "<=" => a <= b,
                ">" => a > b,
                ">=" => a >= b,
                "==" => a == b,
                _ => a != b,
            })
        }
        B::In(n, list) => {
            let n = naive_number(n, values)?;
            Some(list.iter().any(|i| f64::from(*i) == n))
        }
        B::Device("startsWith", part) => Some(device.starts_with(part)),
        B::Device("endsWith", part) => Some(device.ends_with(part)),
        B::Device(_, part) => Some(device.contains(part)),
        B::Attribute(name, text) => (*name == "line").then_some(*text == "1"),
        B::Has(name) => Some(*name == "line"),
        B::Not(b) => naive(b, values).map(|b| !b),
        B::And(all) => {
            let all: Vec<_> = all.iter().map(|b| naive(b, values)).collect();
            if all.contains(&Some(false)) { Some(false) } else { (!all.contains(&None)).then_some(true) }
        }
        B::Or(all) => {
            let all: Vec<_> = all.iter().map(|b| naive(b, values)).collect();
            if all.contains(&Some(true)) { Some(true) } else { (!all.contains(&None)).then_some(false) }
        }
        B::If(c, a, b) => naive(if naive(c, values)? { a } else { b }, values),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn lowered_conditions_are_what_they_say(
        condition in condition(),
        values in prop::array::uniform4(prop::option::of((-4..5, -4..5))),
    ) {
        let text = print(&condition);
        let values: Values = values.map(|v| v.map(|(value, previous)| (f64::from(value), f64::from(previous))));
        match Expr::compile(&text, &Schema::default()) {
            Ok(expr) => {
                let slots: Vec<Slot> = expr.streams().iter().map(|name| {
                    let index = STREAMS.iter().position(|s| s.trim_matches('`') == name.as_str()).unwrap();
                    values[index].map_or_else(Slot::default, |(value, previous)| {
                        Slot { value, previous, time_ms: 0, seen: 2 }
                    })
                }).collect();
                let mut event = event();
                event.attributes.push(("line".into(), "1".into()));
                let truth = expr.eval(&Inputs { slots: &slots, event: &event, site: "s", now_ms: 0 });
                let expected = naive(&condition, &values).map_or(Truth::Unknown, Truth::from);
                prop_assert_eq!(truth, expected, "{}", text);
            }
            // Constants are folded: a division by one that is zero is refused, as is what exceeds the bounds.
            Err(error) => {
                let known = ["no finite number", "do not chain", "too deeply", "too many operators", "too long"];
                prop_assert!(known.iter().any(|k| error.problem.contains(k)), "{}: {}", text, error);
            }
        }
    }
}
