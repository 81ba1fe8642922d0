//! The `alerts:` document: alerting rules of a fleet over Grey's metrics, as
//! the monitoring system evaluates them.

use std::path::Path;

use serde_json::Value as Json;

use crate::decode::{Check, Decoder, Setting};
use crate::document::{self, Loaded};
use crate::environment::Environment;
use crate::error::ConfigErrors;
use crate::quantity::Duration;
use crate::tree::{Node, quote};
use crate::{choice, scalar_setting, section};

choice! {
    /// How urgent an alert is.
    pub enum Severity {
        /// To know.
        Info = "info",
        /// To look at in working hours.
        Warning = "warning",
        /// To act on now.
        Critical = "critical",
    }
}

section! {
    /// One alert over the fleet's metrics.
    pub struct FleetAlert {
        /// Its name: letters, digits and `_`, not starting with a digit.
        pub name: String,
        /// When it holds: a comparison in PromQL.
        pub condition: Expression,
        /// How long the condition holds before the alert fires.
        pub hold as "for": Duration = Duration::default(),
        /// How urgent it is.
        pub severity: Severity,
        /// Where the reader learns what to do.
        pub runbook: Option<String> = None,
    }
}

/// A PromQL comparison. Its form is checked (words, operators, brackets), not
/// its types: the monitoring system evaluates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expression(String);

impl Expression {
    /// The expression as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The metric names that it reads, in order, each once.
    pub fn metrics(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for token in tokens(&self.0).into_iter().flatten() {
            if let Token::Metric(name) = token
                && !names.contains(&name)
            {
                names.push(name);
            }
        }
        names
    }
}

impl std::fmt::Display for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Expression {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_expression(text.trim())?;
        Ok(Self(text.trim().into()))
    }
}

scalar_setting!(Expression, "PromQL", "a comparison of metrics, such as grey_edge_site_online == 0");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    Metric(&'a str),
    /// A word that takes brackets: a function, an aggregation, or its `by (...)`.
    Call,
    Operand,
    Compare,
    Operator,
    Open,
    Close,
}

const COMPARISONS: [&str; 6] = ["==", "!=", ">=", "<=", ">", "<"];
/// Words between two operands.
const WORD_OPERATORS: [&str; 3] = ["and", "or", "unless"];
/// Words that a list of labels follows.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

fn tokens(text: &str) -> Result<Vec<Token<'_>>, String> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after = |len: usize| rest[len..].trim_start();
        let word =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':' | '.')).unwrap_or(rest.len());
        if first.is_ascii_digit() {
            rest[..word].parse::<f64>().map_err(|_| format!("has the number {}", quote(&rest[..word])))?;
            found.push(Token::Operand);
            rest = after(word);
        } else if first.is_ascii_alphabetic() || matches!(first, '_' | ':') {
            let (name, behind) = (&rest[..word], after(word));
            if WORD_OPERATORS.contains(&name) {
                found.push(Token::Operator);
            } else if GROUPINGS.contains(&name) && behind.starts_with('(') {
                let end = behind.find(')').ok_or("has a bracket that is not closed")?;
                rest = behind[end + 1..].trim_start();
                continue;
            } else if behind.starts_with('(')
                || GROUPINGS
                    .iter()
                    .any(|g| behind.starts_with(&format!("{g} (")) || behind.starts_with(&format!("{g}(")))
            {
                found.push(Token::Call);
            } else if matches!(name, "bool" | "offset") {
                // Modifiers of what stands before.
            } else {
                found.push(Token::Metric(name));
            }
            rest = behind;
        } else if matches!(first, '{' | '[') {
            let close = if first == '{' { '}' } else { ']' };
            let end = rest.find(close).ok_or("has a bracket that is not closed")?;
            rest = after(end + 1);
        } else if let Some(op) = COMPARISONS.iter().find(|op| rest.starts_with(**op)) {
            found.push(Token::Compare);
            rest = after(op.len());
        } else if matches!(first, '+' | '-' | '*' | '/' | '%' | '^' | ',') {
            found.push(Token::Operator);
            rest = after(1);
        } else if matches!(first, '(' | ')') {
            found.push(if first == '(' { Token::Open } else { Token::Close });
            rest = after(1);
        } else if first.is_whitespace() {
            rest = rest.trim_start();
        } else {
            return Err(format!("has the character {}", quote(&first.to_string())));
        }
    }
    Ok(found)
}

fn check_expression(text: &str) -> Result<(), String> {
    let tokens = tokens(text)?;
    let (mut depth, mut compared, mut want_operand) = (0_u32, false, true);
    for (n, token) in tokens.iter().enumerate() {
        match token {
            // `time()`: a call without arguments is a value.
            Token::Close if n >= 2 && tokens[n - 2..n] == [Token::Call, Token::Open] => {
                depth -= 1;
                want_operand = false;
            }
            Token::Metric(_) | Token::Operand if want_operand => want_operand = false,
            Token::Call if want_operand => {}
            Token::Open if want_operand => depth += 1,
            Token::Close if !want_operand && depth > 0 => depth -= 1,
            Token::Operator | Token::Compare if !want_operand => {
                compared |= *token == Token::Compare;
                want_operand = true;
            }
            Token::Close if depth == 0 => return Err("closes a bracket that is not open".into()),
            _ if want_operand => return Err("lacks a metric or number beside an operator".into()),
            _ => return Err("lacks an operator between two values".into()),
        }
    }
    if depth > 0 {
        return Err("has a bracket that is not closed".into());
    }
    if want_operand {
        return Err(if tokens.is_empty() { "is empty" } else { "ends with an operator" }.into());
    }
    if !compared {
        return Err("compares nothing".into());
    }
    Ok(())
}

/// The alerts of a fleet.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct FleetAlerts {
    /// In the order written; names are unique.
    pub alerts: Vec<FleetAlert>,
}

impl FleetAlerts {
    const ROOT: &'static str = "alerts";
    /// Alerts of one document.
    const ALERTS_MAX: usize = 1_000;

    /// Reads an `alerts:` document.
    pub fn load(path: &Path, environment: &Environment) -> Result<Loaded<Self>, ConfigErrors> {
        let (text, format) = document::read(path)?;
        Self::load_text(path, &text, format, environment)
    }

    /// Reads the text of an `alerts:` document; does no I/O.
    pub fn load_text(
        path: &Path,
        text: &str,
        format: document::Format,
        environment: &Environment,
    ) -> Result<Loaded<Self>, ConfigErrors> {
        let (root, overrides) = document::parse(path, text, format, Self::ROOT, environment)?;
        let list = root.get(Self::ROOT).cloned().unwrap_or_else(Node::null);
        let mut decoder = Decoder::new(Self::ROOT);
        let alerts: Option<Vec<FleetAlert>> = Setting::decode(&list, &mut decoder);
        let mut errors = decoder.into_errors();
        let alerts = alerts.unwrap_or_default();
        let mut check = Check::new(&root);
        if alerts.len() > Self::ALERTS_MAX {
            check.reject(Self::ROOT, format!("{} alerts", alerts.len()), format!("at most {}", Self::ALERTS_MAX));
        }
        for (n, alert) in alerts.iter().enumerate() {
            let key = format!("{}[{n}].name", Self::ROOT);
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if !alert.name.chars().all(word) || alert.name.starts_with(|c: char| c.is_ascii_digit()) {
                check.reject(
                    &key,
                    format!("found {}", quote(&alert.name)),
                    "letters, digits and '_', not a digit first",
                );
            }
            if alerts[..n].iter().any(|a| a.name == alert.name) {
                check.reject(&key, format!("{} is already the name of an alert", quote(&alert.name)), "each name once");
            }
        }
        errors.extend(check.into_errors());
        if errors.is_empty() {
            Ok(Loaded { config: Self { alerts }, path: path.to_owned(), overrides })
        } else {
            Err(ConfigErrors::new(path, errors))
        }
    }

    /// The JSON Schema of the document.
    pub fn document_schema() -> Json {
        document::document_schema(Self::ROOT, Vec::<FleetAlert>::schema())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::Format;
    use proptest::prelude::*;

    fn load(text: &str) -> Result<FleetAlerts, String> {
        let loaded = FleetAlerts::load_text(Path::new("alerts.yaml"), text, Format::Yaml, &Environment::empty());
        loaded.map(|l| l.config).map_err(|e| e.to_string())
    }

    #[test]
    fn the_reference_alerts_load() {
        let text = include_str!("../../../examples/config/alerts.yaml");
        let alerts = load(text).unwrap().alerts;
        let shown: Vec<_> = alerts.iter().map(|a| (a.name.as_str(), a.hold.as_millis(), a.severity)).collect();
        assert_eq!(
            shown,
            [
                ("EdgeSiteOffline", 600_000, Severity::Warning),
                ("EdgeSiteOfflineCritical", 3_600_000, Severity::Critical),
                ("EdgeBufferNearFull", 0, Severity::Warning),
                ("HubSyncBacklog", 0, Severity::Warning),
                ("FleetConnectivityDegraded", 0, Severity::Critical),
            ]
        );
        assert_eq!(alerts[1].runbook.as_deref(), Some("/runbooks/edge-offline.md"));
        assert_eq!(alerts[4].condition.metrics(), ["grey_edge_site_online", "grey_edge_site_status"]);
    }

    #[test]
    fn mistakes_are_named() {
        let one = |alert: &str| load(&format!("alerts:\n  - {alert}\n")).unwrap_err();
        assert!(one("{name: A, condition: x > 1}").contains("severity: is missing; allowed: info, warning, critical"));
        assert!(one("{name: A, condition: x > 1, severity: urgent}").contains("info, warning, critical"));
        assert!(one("{name: 1A, condition: x > 1, severity: info}").contains("not a digit first"));
        let twice = "alerts:\n  - {name: A, condition: x > 1, severity: info}\n  - {name: A, condition: y > 1, severity: info}\n";
        assert!(load(twice).unwrap_err().starts_with("alerts.yaml:3:12: alerts[1].name: \"A\" is already"));
        assert!(load("alerts: {}").unwrap_err().contains("a list"));
    }

    #[test]
    fn conditions_must_be_comparisons() {
        for good in [
            "grey_edge_site_online == 0",
            "a / b > 0.8",
            "sum(a) / count(b) < 0.9",
            "sum by (region) (rate(a_total{site=\"x\"}[5m])) * 100 >= 1e3",
            "time() - a > 300 and b == 1",
        ] {
            assert_eq!(good.parse::<Expression>().map(|e| e.to_string()), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("", "is empty"),
            ("a", "compares nothing"),
            ("a >", "ends with an operator"),
            ("a b > 1", "lacks an operator"),
            ("(a > 1", "not closed"),
            ("a > 1)", "not open"),
            ("f(a, ) > 1", "lacks a metric"),
            ("> 1", "lacks a metric"),
            ("a > $1", "the character \"$\""),
            ("a > 1.2.3", "the number \"1.2.3\""),
            ("a{x=\"1\" > 1", "not closed"),
        ] {
            assert!(bad.parse::<Expression>().unwrap_err().contains(why), "{bad}: {:?}", bad.parse::<Expression>());
        }
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in "[a-c0-9 ()\\[\\]{}<>=!+*/,.\"é-]{0,40}") {
            let _ = text.parse::<Expression>();
        }
    }
}
