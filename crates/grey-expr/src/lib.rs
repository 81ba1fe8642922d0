//! Conditions over streams: `temperature > 85°C && (pressure < 2 bar || device.startsWith("press-"))`.
//!
//! A text is parsed as CEL (with quantities, which CEL lacks), checked against
//! the known streams and units, and lowered to a small tree over slots that is
//! evaluated without allocation. Errors name the character of the user's text.
//!
//! This crate knows no rules, windows or alerts, and reads no clock.

mod error;
mod expr;
mod operator;
mod schema;
mod truth;
mod unit;

pub use error::ExprError;
pub use expr::{Comparison, Expr, Inputs, Slot};
pub use operator::Operator;
pub use schema::Schema;
pub use truth::Truth;
pub use unit::{Conversion, Unit};
