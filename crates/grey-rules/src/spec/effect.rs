//! What a firing alert does outside of the engine, as a template that is
//! filled in from the alert's event.

use std::fmt::Write as _;

use grey_config::{Decoder, Json, Node, Setting, json};
use grey_model::{Event, Value};

use super::action::{Action, Command, Method, Publish, Webhook};

/// Longest template in bytes.
const TEMPLATE_BYTES_MAX: usize = 1024;

const WORDS: [&str; 13] = [
    "device",
    "stream",
    "value",
    "limit",
    "unit",
    "rule",
    "condition",
    "severity",
    "state",
    "since",
    "alert",
    "site",
    "time",
];
const ALLOWED: &str = "{device}, {stream}, {value}, {limit}, {unit}, {rule}, {condition}, {severity}, {state}, \
    {since}, {alert}, {site}, {time} or {tags.NAME}";

/// Text with words in braces that stand for parts of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {}", offset + 1)]
pub struct TemplateError {
    /// Characters before the mistake.
    pub offset: usize,
    /// What is wrong.
    pub problem: String,
}

/// The word in braces that a text starts with, if it does. Other braces are text, so that JSON needs no escapes.
fn placeholder(text: &str) -> Option<&str> {
    let inner = text.strip_prefix('{')?;
    let word = &inner[..inner.find('}')?];
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    (!word.is_empty() && word.starts_with(|c: char| c.is_ascii_alphabetic()) && word.chars().all(plain)).then_some(word)
}

impl Template {
    /// Reads a template.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut rest = text;
        while let Some(open) = rest.find('{') {
            rest = &rest[open..];
            if let Some(word) = placeholder(rest)
                && !WORDS.contains(&word)
                && word.strip_prefix("tags.").is_none_or(str::is_empty)
            {
                let offset = text[..text.len() - rest.len()].chars().count();
                return Err(TemplateError { offset, problem: format!("{{{word}}} is unknown") });
            }
            rest = &rest[1..];
        }
        Ok(Self { text: text.into() })
    }

    /// A template whose words are known to be right.
    pub(crate) fn literal(text: &str) -> Self {
        Self { text: text.into() }
    }

    /// The template as written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text with its words replaced. What the event does not have becomes nothing.
    pub fn render(&self, event: &Event, site: &str) -> String {
        let mut out = String::with_capacity(self.text.len() + 32);
        let mut rest = self.text.as_str();
        while let Some(open) = rest.find('{') {
            out.push_str(&rest[..open]);
            rest = &rest[open..];
            match placeholder(rest) {
                Some(word) => {
                    push_word(word, event, site, &mut out);
                    rest = &rest[word.len() + 2..];
                }
                None => {
                    out.push('{');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }
}

fn push_word(word: &str, event: &Event, site: &str, out: &mut String) {
    let attribute = |name: &str| event.attributes.iter().find(|(n, _)| &**n == name).map(|(_, value)| value.as_str());
    let number = |name: &str| match &event.value {
        Value::Fields(fields) => fields.iter().find(|(n, _)| &**n == name).map(|(_, value)| *value),
        value if name == "value" => value.as_f64(),
        _ => None,
    };
    match word {
        "device" => out.push_str(&event.device),
        "stream" => out.push_str(&event.stream),
        "unit" => out.push_str(event.unit.as_deref().unwrap_or_default()),
        "site" => out.push_str(site),
        "time" => _ = write!(out, "{}", event.device_time_ms),
        "value" | "limit" => _ = number(word).map(|n| write!(out, "{n}")),
        name => out.push_str(attribute(name.strip_prefix("tags.").unwrap_or(name)).unwrap_or_default()),
    }
}

impl Setting for Template {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let text = String::decode(node, decoder)?;
        match Self::parse(&text) {
            Ok(template) => Some(template),
            Err(error) => {
                decoder.reject_within(node, error.offset, format!("in {text:?} {}", error.problem), ALLOWED);
                None
            }
        }
    }

    fn render(&self) -> Node {
        Node::text(&self.text)
    }

    fn schema() -> Json {
        json!({ "type": "string", "title": "template", "minLength": 1, "maxLength": TEMPLATE_BYTES_MAX })
    }
}

/// Something to do outside of the engine when an alert begins, or ends.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// A message to devices.
    Publish(Publish),
    /// A request.
    Webhook(Webhook),
    /// A device's command.
    Command(Command),
}

/// An effect with the event's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderedEffect {
    /// A message to devices.
    Publish {
        /// Where.
        topic: String,
        /// What.
        payload: String,
        /// Quality of service, 0 to 2.
        qos: u8,
        /// Kept by the server.
        retain: bool,
    },
    /// A request.
    Webhook {
        /// Where to.
        url: String,
        /// How.
        method: Method,
        /// Headers besides the content's type.
        headers: Vec<(String, String)>,
        /// What; `None`: the event as JSON.
        body: Option<String>,
    },
    /// A device's command.
    Command {
        /// The device.
        device: String,
        /// The command.
        name: String,
        /// Its arguments.
        args: Vec<(String, String)>,
    },
}

impl Effect {
    /// The effect of an action, if it has one outside of the engine.
    pub(crate) fn of(action: &Action) -> Option<Self> {
        match action {
            Action::Publish(publish) => Some(Self::Publish(publish.as_ref().clone())),
            Action::Webhook(webhook) => Some(Self::Webhook(webhook.as_ref().clone())),
            Action::Command(command) => Some(Self::Command(command.as_ref().clone())),
            _ => None,
        }
    }

    /// True when it is also done as the alert ends.
    pub fn on_clear(&self) -> bool {
        match self {
            Self::Publish(publish) => publish.on_clear,
            Self::Webhook(webhook) => webhook.on_clear,
            Self::Command(command) => command.on_clear,
        }
    }

    /// The effect for an alert's event.
    pub fn render(&self, event: &Event, site: &str) -> RenderedEffect {
        let fill = |text: &str| Template::literal(text).render(event, site);
        match self {
            Self::Publish(publish) => RenderedEffect::Publish {
                topic: publish.topic.render(event, site),
                payload: publish.payload.render(event, site),
                qos: publish.qos.min(2) as u8,
                retain: publish.retain,
            },
            Self::Webhook(webhook) => RenderedEffect::Webhook {
                url: webhook.url.render(event, site),
                method: webhook.method,
                headers: webhook.headers.0.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
                body: webhook.body.as_ref().map(|body| body.render(event, site)),
            },
            Self::Command(command) => RenderedEffect::Command {
                device: command.device.as_ref().map_or_else(|| event.device.to_string(), |d| d.render(event, site)),
                name: command.name.clone(),
                args: command.args.0.iter().map(|(name, value)| (name.clone(), fill(value))).collect(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_braces_are_filled_in_and_others_named() {
        let mut event = Event::reading("press-7", "temperature", 91.5, 1_000);
        event.unit = Some("°C".into());
        event.attributes = vec![("rule".into(), "hot".into()), ("team".into(), "a".into())];
        let filled = |text: &str| Template::parse(text).unwrap().render(&event, "site-1");
        assert_eq!(filled("plant/{device}/{stream}"), "plant/press-7/temperature");
        assert_eq!(filled("{\"v\": {value}, \"u\": \"{unit}\"}"), "{\"v\": 91.5, \"u\": \"°C\"}");
        assert_eq!(filled("{rule}@{site} {tags.team}{tags.none}{severity} {time} { }{"), "hot@site-1 a 1000 { }{");
        let error = Template::parse("é{device}{devise}").unwrap_err();
        assert_eq!(error.to_string(), "{devise} is unknown at character 10");
    }

    proptest::proptest! {
        #[test]
        fn hostile_templates_never_panic(text in "[{}a-z.é\" -]{0,40}") {
            if let Ok(template) = Template::parse(&text) {
                template.render(&Event::reading("d", "s", 1.0, 0), "x");
            }
        }
    }
}
