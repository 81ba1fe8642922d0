//! Declaring settings: one list of keys gives the struct, its reader, its
//! printer, its JSON Schema and its default.

use serde_json::Value as Json;

use crate::tree::{Entry, Node, Origin, Value};

/// Declares a section of the configuration.
///
/// A key with `= default` may be left out, one without is required; where all
/// have one the section has a `Default`. `as "type"` names a key that is no
/// Rust name. The doc comments become the descriptions of the schema.
///
/// ```
/// grey_config::section! {
///     /// How blocks wait.
///     pub struct Waiting {
///         /// Bytes that may wait.
///         pub max_bytes: grey_config::Size = grey_config::Size::from_mb(1_000),
///         /// What to do when they are used up.
///         pub kind as "type": Option<String> = None,
///     }
/// }
/// assert_eq!(Waiting::default().max_bytes.bytes(), 1_000_000_000);
/// ```
#[macro_export]
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                pub $field:ident $(as $key:literal)? : $type:ty = $default:expr
            ),* $(,)?
        }
    ) => {
        $crate::section! { @struct [$($doc)*] $name { $([$($field_doc)*] $field [$($key)?] $type [$default])* } }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }
    };
    (
        $(#[doc = $doc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $field_doc:literal])*
                pub $field:ident $(as $key:literal)? : $type:ty $(= $default:expr)?
            ),* $(,)?
        }
    ) => {
        $crate::section! { @struct [$($doc)*] $name { $([$($field_doc)*] $field [$($key)?] $type [$($default)?])* } }
    };
    (@struct [$($doc:literal)*] $name:ident {
        $([$($field_doc:literal)*] $field:ident [$($key:literal)?] $type:ty [$($default:expr)?])*
    }) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl $name {
            /// The keys of the section.
            pub const KEYS: &'static [&'static str] = &[$($crate::section!(@key $field $($key)?)),*];
        }

        impl $crate::Setting for $name {
            fn decode(node: &$crate::Node, decoder: &mut $crate::Decoder) -> Option<Self> {
                let section = decoder.section(node, Self::KEYS)?;
                $(let $field: Option<$type> = $crate::section!(
                    @read section decoder ($crate::section!(@key $field $($key)?)) $($default)?
                );)*
                Some(Self { $($field: $field?),* })
            }

            fn render(&self) -> $crate::Node {
                $crate::rendered_section(vec![
                    $(($crate::section!(@key $field $($key)?), $crate::Setting::render(&self.$field))),*
                ])
            }

            fn schema() -> $crate::Json {
                $crate::schema_of_section(&[$($doc),*], vec![
                    $($crate::SchemaField {
                        key: $crate::section!(@key $field $($key)?),
                        doc: &[$($field_doc),*],
                        schema: <$type as $crate::Setting>::schema(),
                        default: $crate::section!(@default $type; $($default)?),
                    }),*
                ])
            }
        }
    };
    (@key $field:ident) => { stringify!($field) };
    (@key $field:ident $key:literal) => { $key };
    (@read $section:ident $decoder:ident ($key:expr) $default:expr) => {
        Some($section.optional($key, $decoder, || $default))
    };
    (@read $section:ident $decoder:ident ($key:expr)) => {
        $section.required($key, $decoder)
    };
    (@default $type:ty; $default:expr) => {{
        let default: $type = $default;
        Some($crate::Setting::render(&default))
    }};
    (@default $type:ty;) => { None };
}

/// Declares a setting that is one of several words; the first word of each is
/// printed, and an unknown word is answered with the nearest one.
#[macro_export]
macro_rules! choice {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $word:literal),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_meta])* $variant),*
        }

        impl $name {
            /// Every word, in the order declared.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word that is written in a configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl $crate::Setting for $name {
            fn decode(node: &$crate::Node, decoder: &mut $crate::Decoder) -> Option<Self> {
                let word = decoder.word(node, Self::WORDS)?;
                match word { $($word => Some(Self::$variant),)* _ => None }
            }

            fn render(&self) -> $crate::Node {
                $crate::Node::plain(self)
            }

            fn schema() -> $crate::Json {
                $crate::json!({ "type": "string", "enum": Self::WORDS })
            }
        }
    };
}

/// Declares a section whose key `type` says which of several sections it is.
#[macro_export]
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $($(#[$variant_meta:meta])* $variant:ident($type:ty) = $word:literal),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq)]
        pub enum $name {
            $($(#[$variant_meta])* $variant($type)),*
        }

        impl $name {
            /// What `type` may say.
            pub const TYPES: &'static [&'static str] = &[$($word),*];

            /// What `type` says.
            pub fn type_name(&self) -> &'static str {
                match self { $(Self::$variant(_) => $word),* }
            }
        }

        impl $crate::Setting for $name {
            fn decode(node: &$crate::Node, decoder: &mut $crate::Decoder) -> Option<Self> {
                let (word, rest) = decoder.tag(node, "type", Self::TYPES)?;
                match word {
                    $($word => <$type as $crate::Setting>::decode(&rest, decoder).map(Self::$variant),)*
                    _ => None,
                }
            }

            fn render(&self) -> $crate::Node {
                match self {
                    $(Self::$variant(inner) => $crate::rendered_tag("type", $word, $crate::Setting::render(inner))),*
                }
            }

            fn schema() -> $crate::Json {
                $crate::json!({ "oneOf": [
                    $($crate::schema_of_tag("type", $word, <$type as $crate::Setting>::schema())),*
                ] })
            }
        }
    };
}

/// One key of a section, for its schema.
#[doc(hidden)]
#[derive(Debug)]
pub struct SchemaField {
    pub key: &'static str,
    pub doc: &'static [&'static str],
    pub schema: Json,
    pub default: Option<Node>,
}

fn prose(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

#[doc(hidden)]
pub fn schema_of_section(doc: &[&str], fields: Vec<SchemaField>) -> Json {
    let mut properties = serde_json::Map::new();
    let mut required = Vec::new();
    for field in fields {
        let mut schema = field.schema;
        if let Some(object) = schema.as_object_mut() {
            object.insert("description".into(), prose(field.doc).into());
        }
        match &field.default {
            Some(default) => set_default(&mut schema, default),
            None => required.push(field.key),
        }
        properties.insert(field.key.into(), schema);
    }
    crate::json!({
        "type": ["object", "null"],
        "description": prose(doc),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// A section's default is that of its keys.
fn set_default(schema: &mut Json, default: &Node) {
    match &default.value {
        Value::Map(entries) => {
            for entry in entries {
                if let Some(property) = schema["properties"].get_mut(&entry.key) {
                    set_default(property, &entry.value);
                }
            }
        }
        _ if default.is_null() => {}
        _ => schema["default"] = default.to_json(),
    }
}

#[doc(hidden)]
pub fn schema_of_tag(tag: &str, word: &str, mut section: Json) -> Json {
    section["type"] = "object".into();
    section["properties"][tag] = crate::json!({ "const": word });
    if let Some(required) = section["required"].as_array_mut() {
        required.insert(0, tag.into());
    }
    section
}

#[doc(hidden)]
pub fn rendered_section(fields: Vec<(&'static str, Node)>) -> Node {
    let entries = fields.into_iter().filter(|(_, value)| !value.is_null());
    let entries = entries.map(|(key, value)| Entry { key: key.into(), origin: Origin::Absent, value });
    Node::new(Value::Map(entries.collect()))
}

#[doc(hidden)]
pub fn rendered_tag(tag: &str, word: &str, mut section: Node) -> Node {
    if let Value::Map(entries) = &mut section.value {
        entries.insert(0, Entry { key: tag.into(), origin: Origin::Absent, value: Node::plain(word) });
    }
    section
}

#[cfg(test)]
#[allow(unreachable_pub)]
mod tests {
    use crate::{Decoder, Duration, Node, Setting};

    crate::choice! {
        /// A colour.
        pub enum Colour {
            /// Red.
            Red = "red",
            /// Dark blue.
            DarkBlue = "dark-blue",
        }
    }

    crate::section! {
        /// A lamp.
        pub struct Lamp {
            /// Its colour.
            pub colour: Colour = Colour::Red,
            /// How long it is on.
            pub lit: Option<Duration> = None,
        }
    }

    crate::section! {
        /// A post.
        pub struct Post {
            /// Its name.
            pub name: String,
            /// Metres.
            pub height as "height-m": f64 = 2.5,
            /// On top.
            pub lamps: Vec<Lamp> = Vec::new(),
        }
    }

    crate::tagged! {
        /// Something in the street.
        pub enum Thing {
            /// A lamp.
            Lamp(Lamp) = "lamp",
            /// A post.
            Post(Post) = "post",
        }
    }

    fn read<T: Setting>(yaml: &str) -> Result<T, Vec<String>> {
        let node = crate::yaml::parse(yaml).unwrap().unwrap_or_else(Node::null);
        let mut decoder = Decoder::new("x");
        let value = T::decode(&node, &mut decoder);
        match value {
            Some(value) if decoder.is_clean() => Ok(value),
            _ => Err(decoder.into_errors().iter().map(ToString::to_string).collect()),
        }
    }

    #[test]
    fn defaults_fill_what_is_left_out() {
        assert_eq!(read::<Lamp>("").unwrap(), Lamp::default());
        let post: Post = read("name: no\nlamps: [{}, {colour: dark-blue, lit: 5s}]\n").unwrap();
        assert_eq!((post.name.as_str(), post.height, post.lamps.len()), ("no", 2.5, 2));
        assert_eq!(post.lamps[1], Lamp { colour: Colour::DarkBlue, lit: Some(Duration::from_secs(5)) });
    }

    #[test]
    fn all_errors_come_at_once() {
        let errors = read::<Post>("hight-m: 3\nlamps:\n  - colour: darkblue\n  - lit: 5\n  - 7\n").unwrap_err();
        assert_eq!(
            errors,
            [
                "1:1: x.hight-m: unknown key \"hight-m\"; allowed: name, height-m, lamps; did you mean height-m?",
                "1:1: x.name: is missing; allowed: string",
                "3:13: x.lamps[0].colour: found \"darkblue\"; allowed: red, dark-blue; did you mean dark-blue?",
                "4:10: x.lamps[1].lit: \"5\" has no unit: write for example \"5s\"; allowed: a duration with its unit, such as 100ms, 30s, 5m, 24h, 7d or 7y",
                "5:5: x.lamps[2]: found \"7\"; allowed: a section with the keys colour, lit",
            ]
        );
    }

    #[test]
    fn a_type_key_chooses_the_section() {
        let thing: Thing = read("{type: lamp, lit: 1m}").unwrap();
        assert_eq!(thing.type_name(), "lamp");
        let Thing::Lamp(lamp) = thing else { panic!() };
        assert_eq!(lamp.lit, Some(Duration::from_secs(60)));
        assert_eq!(read::<Thing>("{lit: 1m}").unwrap_err(), ["1:1: x.type: is missing; allowed: lamp, post"]);
        assert_eq!(
            read::<Thing>("{type: lmap}").unwrap_err(),
            ["1:8: x.type: found \"lmap\"; allowed: lamp, post; did you mean lamp?"]
        );
        assert_eq!(read::<Thing>("{type: lamp, name: x}").unwrap_err().len(), 1);
    }

    #[test]
    fn what_is_printed_reads_back() {
        let thing = Thing::Post(Post { name: "a: #b".into(), height: 1.0, lamps: vec![Lamp::default()] });
        assert_eq!(read::<Thing>(&thing.render().to_yaml()).unwrap(), thing);
    }

    #[test]
    fn the_schema_names_keys_defaults_and_choices() {
        let schema = Thing::schema();
        let post = &schema["oneOf"][1];
        assert_eq!(post["required"], crate::json!(["type", "name"]));
        assert_eq!(post["additionalProperties"], false);
        assert_eq!(post["properties"]["height-m"]["default"], 2.5);
        assert_eq!(
            post["properties"]["lamps"]["items"]["properties"]["colour"]["enum"],
            crate::json!(["red", "dark-blue"])
        );
        assert_eq!(post["properties"]["lamps"]["description"], "On top.");
    }
}
