//! Conditions over streams: `temperature > 85°C && (pressure < 2 bar || device.startsWith("press-"))`.
//!
//! A text is parsed as CEL (with quantities, which CEL lacks), checked against
//! the known streams and units, and lowered to a small tree over slots that is
//! evaluated without allocation. Errors name the character of the user's text.
//!
//! This crate knows no rules, windows or alerts, and reads no clock.

mod check;
mod error;
mod expr;
mod node;
mod operator;
mod parse;
mod scan;
mod schema;
mod simple;
mod suggest;
mod truth;
mod unit;
mod words;

#[cfg(test)]
mod tests;

pub use error::ExprError;
pub use expr::{Comparison, Expr, Inputs, Slot};
pub use operator::Operator;
pub use schema::Schema;
pub use truth::Truth;
pub use unit::{Conversion, Unit};

/// Longest text of a condition, in characters. A longer one is no condition that a person can review.
pub const TEXT_MAX: usize = 4096;

/// Deepest nesting, of brackets in the text and of nodes in the tree: what checking and evaluation recurse.
pub const DEPTH_MAX: usize = 64;

/// Most streams of one condition: the slots that each of its groups keeps.
pub const SLOTS_MAX: usize = 32;

/// Most operators, calls, brackets and dots of one condition. The CEL parser recurses once for each in a chain;
/// twice as many overflow a stack of 256 KiB.
pub const OPERATORS_MAX: usize = 256;
