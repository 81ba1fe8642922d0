//! A condition as a configuration writes it. Its syntax is checked where it is
//! read; whether its streams exist is known only when rules are compiled.

use std::fmt;

use grey_config::{Decoder, Json, Node, Setting, json};
use grey_expr::{Expr, ExprError, Operator, Schema};

/// A condition over streams, such as `temperature > 85°C && pressure < 2 bar`.
#[derive(Debug, Clone)]
pub struct Condition {
    expr: Expr,
}

impl Condition {
    /// Reads a condition; any stream may exist.
    pub fn parse(text: &str) -> Result<Self, ExprError> {
        Expr::compile(text, &Schema::default()).map(|expr| Self { expr })
    }

    /// The condition as written.
    pub fn text(&self) -> &str {
        self.expr.text()
    }

    /// The condition, checked for its syntax only.
    pub fn expr(&self) -> &Expr {
        &self.expr
    }

    /// The stream of a condition that compares one with a limit.
    pub fn stream(&self) -> Option<&str> {
        let slot = self.expr.as_comparison()?.slot;
        self.expr.streams().get(slot).map(|stream| stream.as_str())
    }

    /// How such a condition compares.
    pub fn operator(&self) -> Option<Operator> {
        self.expr.as_comparison().map(|comparison| comparison.operator)
    }

    /// The limit of a condition that compares one stream with it.
    pub fn limit(&self) -> Option<f64> {
        self.expr.as_comparison().map(|comparison| comparison.limit)
    }

    /// That limit's unit.
    pub fn unit(&self) -> Option<&str> {
        self.expr.as_comparison().and_then(|comparison| self.expr.unit_of(comparison.slot))
    }
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl Setting for Condition {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = String::decode(node, decoder)?;
        match Self::parse(&text) {
            Ok(condition) => Some(condition),
            Err(error) => {
                decoder.reject_within(node, error.offset, format!("in {text:?} {}", error.problem), error.allowed);
                None
            }
        }
    }

    fn render(&self) -> Node {
        Node::text(self.text())
    }

    fn schema() -> Json {
        json!({ "type": "string", "title": "condition", "description": "a condition such as temperature > 85°C" })
    }
}
