//! What a rule does when it triggers: words, or one key with its settings.

use grey_config::{Decoder, Json, Node, Setting, Value, choice, json, section};
use grey_model::Lane;

use super::effect::Template;
use super::syntax::{Sample, Texts};

choice! {
    /// The method of a request.
    #[derive(Default)]
    pub enum Method {
        /// POST.
        #[default]
        Post = "post",
        /// PUT.
        Put = "put",
    }
}

section! {
    /// Publishes a message to the site's devices.
    pub struct Publish {
        /// The topic; {device}, {stream}, {value} and other words in braces stand for the alert's own.
        pub topic: Template,
        /// The payload.
        pub payload: Template = Template::literal("{value}"),
        /// Quality of service, 0 to 2.
        pub qos: u16 = 0,
        /// Kept by the server for later subscribers.
        pub retain: bool = false,
        /// Also when the alert ends.
        pub on_clear: bool = false,
    }
}

section! {
    /// Sends a request.
    pub struct Webhook {
        /// Where to.
        pub url: Template,
        /// How.
        pub method: Method = Method::Post,
        /// Headers besides the content's type.
        pub headers: Texts = Texts::default(),
        /// What. Default: the alert as JSON.
        pub body: Option<Template> = None,
        /// Also when the alert ends.
        pub on_clear: bool = false,
    }
}

section! {
    /// Gives a device a command, over the topic that devices listen at for commands.
    pub struct Command {
        /// The command's name.
        pub name: String,
        /// The device. Default: the alert's.
        pub device: Option<Template> = None,
        /// Arguments; words in braces stand for the alert's own.
        pub args: Texts = Texts::default(),
        /// Also when the alert ends.
        pub on_clear: bool = false,
    }
}

/// What a rule does when it triggers.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Raises an alert.
    LocalAlert,
    /// Raises an alert and forwards the readings that violate the rule.
    FlagAndUpload,
    /// Leaves the readings at the site.
    Drop,
    /// Forwards some of the readings.
    Sample(Sample),
    /// Forwards the readings in this lane.
    SetLane(Lane),
    /// Publishes to devices when an alert begins.
    Publish(Box<Publish>),
    /// Sends a request when an alert begins.
    Webhook(Box<Webhook>),
    /// Commands a device when an alert begins.
    Command(Box<Command>),
}

const WORDS: [&str; 3] = ["local_alert", "flag_and_upload", "drop"];
const KEYS: [&str; 5] = ["sample", "set_lane", "publish", "webhook", "command"];
const ALLOWED: &str =
    "local_alert, flag_and_upload, drop, {sample: …}, {set_lane: …}, {publish: …}, {webhook: …}, {command: …}";

impl Setting for Action {
    fn decode(node: &Node, decoder: &mut Decoder) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            if let Value::Scalar(scalar) = &node.value
                && KEYS.contains(&scalar.text.as_str())
            {
                let problem = format!("{:?} needs its settings", scalar.text);
                decoder.reject(node, problem, format!("{{{}: …}}", scalar.text));
                return None;
            }
            return match decoder.word(node, &WORDS)? {
                "flag_and_upload" => Some(Self::FlagAndUpload),
                "drop" => Some(Self::Drop),
                _ => Some(Self::LocalAlert),
            };
        };
        if entries.len() != 1 {
            decoder.reject(node, format!("found {} keys", entries.len()), ALLOWED);
            return None;
        }
        // Names an unknown key, with the nearest one.
        let section = decoder.section(node, &KEYS)?;
        match entries[0].key.as_str() {
            "sample" => section.required("sample", decoder).map(Self::Sample),
            "set_lane" => section.required("set_lane", decoder).map(Self::SetLane),
            "publish" => section.required("publish", decoder).map(|p| Self::Publish(Box::new(p))),
            "webhook" => section.required("webhook", decoder).map(|w| Self::Webhook(Box::new(w))),
            "command" => section.required("command", decoder).map(|c| Self::Command(Box::new(c))),
            _ => None,
        }
    }

    fn render(&self) -> Node {
        let one = |key: &str, value: Node| {
            let origin = grey_config::Origin::Absent;
            Node::new(Value::Map(vec![grey_config::Entry { key: key.into(), origin, value }]))
        };
        match self {
            Self::LocalAlert => Node::plain("local_alert"),
            Self::FlagAndUpload => Node::plain("flag_and_upload"),
            Self::Drop => Node::plain("drop"),
            Self::Sample(sample) => one("sample", sample.render()),
            Self::SetLane(lane) => one("set_lane", lane.render()),
            Self::Publish(publish) => one("publish", publish.render()),
            Self::Webhook(webhook) => one("webhook", webhook.render()),
            Self::Command(command) => one("command", command.render()),
        }
    }

    fn schema() -> Json {
        let one = |key: &str, schema: Json| json!({ "type": "object", "properties": { key: schema }, "required": [key], "additionalProperties": false });
        json!({ "title": "action", "description": ALLOWED, "oneOf": [
            { "type": "string", "enum": WORDS },
            one("sample", Sample::schema()),
            one("set_lane", Lane::schema()),
            one("publish", Publish::schema()),
            one("webhook", Webhook::schema()),
            one("command", Command::schema()),
        ] })
    }
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::LocalAlert => f.write_str("local_alert"),
            Self::FlagAndUpload => f.write_str("flag_and_upload"),
            Self::Drop => f.write_str("drop"),
            Self::Sample(Sample::Share(share)) => write!(f, "sample {}%", share * 100.0),
            Self::Sample(Sample::Every(every)) => write!(f, "sample one in {every}"),
            Self::SetLane(lane) => write!(f, "set_lane {lane}"),
            Self::Publish(publish) => write!(f, "publish to {}", publish.topic.text()),
            Self::Webhook(webhook) => write!(f, "webhook {}", webhook.url.text()),
            Self::Command(command) => write!(f, "command {}", command.name),
        }
    }
}
