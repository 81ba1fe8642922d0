//! From the topic of a message to its device and stream.
//!
//! A pattern is an MQTT topic filter in which two levels are the placeholders
//! `{device}` and `{stream}`: `grey/{device}/{stream}`,
//! `plant/+/{device}/out/{stream}`, `{device}/{stream}/#`. The first pattern
//! that matches wins. A topic that none matches is not an event; local
//! subscribers get it all the same.

use grey_model::limits::NAME_BYTES_MAX;

use crate::mqtt::codec::{Fault, check_filter};

/// The pattern that holds unless the configuration names others.
pub const DEFAULT_PATTERN: &str = "grey/{device}/{stream}";
/// Most patterns of a map: each is tried for a topic that is new to its connection.
pub const PATTERNS_MAX: usize = 64;

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicMapError {
    /// There is no pattern.
    #[error("no topic pattern is given; leave the setting out for {DEFAULT_PATTERN:?}")]
    Empty,
    /// There are too many.
    #[error("{0} topic patterns are over the limit of {PATTERNS_MAX}")]
    TooMany(usize),
    /// The pattern lacks a placeholder or has it twice.
    #[error("topic pattern {pattern:?} must hold {placeholder} exactly once, as a level of its own")]
    Placeholder {
        /// The pattern.
        pattern: String,
        /// The placeholder.
        placeholder: &'static str,
    },
    /// The pattern is not a legal filter.
    #[error("topic pattern {0:?} is not a legal topic filter: '+' stands alone in a level, '#' alone in the last")]
    Filter(String),
}

/// Why a device or stream name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("{0} is empty: allowed are 1 to {NAME_BYTES_MAX} bytes")]
    Empty(&'static str),
    /// It is too long.
    #[error("{0} has {1} bytes: allowed are 1 to {NAME_BYTES_MAX}")]
    TooLong(&'static str, usize),
    /// It holds a control character.
    #[error("{0} holds a control character, which is not allowed")]
    Control(&'static str),
}

/// Checks a name that becomes a device, stream, label or field.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty(what));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::TooLong(what, name.len()));
    }
    if name.bytes().any(|b| b < 0x20 || b == 0x7f) {
        return Err(NameError::Control(what));
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    Literal(Box<str>),
    Any,
    Rest,
    Device,
    Stream,
}

/// The patterns of a site, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMap {
    patterns: Vec<Vec<Level>>,
}

impl Default for TopicMap {
    fn default() -> Self {
        let literal = Level::Literal("grey".into());
        Self { patterns: vec![vec![literal, Level::Device, Level::Stream]] }
    }
}

impl TopicMap {
    /// Checks patterns; they are tried in the order given.
    pub fn new<S: AsRef<str>>(patterns: &[S]) -> Result<Self, TopicMapError> {
        match patterns.len() {
            0 => return Err(TopicMapError::Empty),
            n if n > PATTERNS_MAX => return Err(TopicMapError::TooMany(n)),
            _ => {}
        }
        let patterns = patterns.iter().map(|p| parse(p.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// The device and stream of a topic, as the first matching pattern sees
    /// them. The names are not checked yet.
    pub fn resolve<'t>(&self, topic: &'t str) -> Option<(&'t str, &'t str)> {
        self.patterns.iter().find_map(|pattern| resolve(pattern, topic))
    }
}

fn parse(pattern: &str) -> Result<Vec<Level>, TopicMapError> {
    check_filter(pattern).map_err(|_: Fault| TopicMapError::Filter(pattern.into()))?;
    let levels: Vec<Level> = pattern
        .split('/')
        .map(|level| match level {
            "{device}" => Level::Device,
            "{stream}" => Level::Stream,
            "+" => Level::Any,
            "#" => Level::Rest,
            literal => Level::Literal(literal.into()),
        })
        .collect();
    for (level, placeholder) in [(Level::Device, "{device}"), (Level::Stream, "{stream}")] {
        let own_levels = levels.iter().filter(|l| **l == level).count();
        if own_levels != 1 || pattern.matches(placeholder).count() != 1 {
            return Err(TopicMapError::Placeholder { pattern: pattern.into(), placeholder });
        }
    }
    Ok(levels)
}

fn resolve<'t>(pattern: &[Level], topic: &'t str) -> Option<(&'t str, &'t str)> {
    if topic.starts_with('$') && !matches!(pattern.first(), Some(Level::Literal(_))) {
        return None;
    }
    let (mut device, mut stream) = (None, None);
    let mut levels = topic.split('/');
    for level in pattern {
        if *level == Level::Rest {
            return device.zip(stream);
        }
        let found = levels.next()?;
        match level {
            Level::Literal(wanted) if **wanted != *found => return None,
            Level::Device => device = Some(found),
            Level::Stream => stream = Some(found),
            _ => {}
        }
    }
    if levels.next().is_some() { None } else { device.zip(stream) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_takes_exactly_three_levels() {
        let map = TopicMap::default();
        assert_eq!(map, TopicMap::new(&[DEFAULT_PATTERN]).unwrap());
        assert_eq!(map.resolve("grey/pump-7/temp"), Some(("pump-7", "temp")));
        assert_eq!(map.resolve("grey//temp"), Some(("", "temp")));
        for other in ["grey/pump-7", "grey/pump-7/temp/x", "gray/pump-7/temp", "", "/grey/a/b"] {
            assert_eq!(map.resolve(other), None, "{other}");
        }
    }

    #[test]
    fn the_first_matching_pattern_wins() {
        let map = TopicMap::new(&["plant/+/{device}/out/{stream}", "{stream}/of/{device}/#", "+/{device}/{stream}"]);
        let map = map.unwrap();
        assert_eq!(map.resolve("plant/3/pump/out/temp"), Some(("pump", "temp")));
        assert_eq!(map.resolve("temp/of/pump"), Some(("pump", "temp")));
        assert_eq!(map.resolve("temp/of/pump/a/b"), Some(("pump", "temp")));
        assert_eq!(map.resolve("x/pump/temp"), Some(("pump", "temp")));
        assert_eq!(map.resolve("$SYS/pump/temp"), None);
        assert_eq!(map.resolve("$SYS/of/pump"), None);
    }

    #[test]
    fn bad_patterns_say_what_is_wrong() {
        let refused = |pattern: &str| TopicMap::new(&[pattern]).unwrap_err().to_string();
        assert!(refused("grey/{device}").contains("{stream} exactly once"));
        assert!(refused("{device}/{device}/{stream}").contains("{device} exactly once"));
        assert!(refused("a/dev-{device}/{stream}").contains("level of its own"));
        assert!(refused("a/#/{device}/{stream}").contains("legal topic filter"));
        assert!(refused("").contains("legal topic filter"));
        assert_eq!(TopicMap::new::<&str>(&[]), Err(TopicMapError::Empty));
        assert_eq!(TopicMap::new(&[DEFAULT_PATTERN; 65]), Err(TopicMapError::TooMany(65)));
    }

    #[test]
    fn names_are_bounded_and_printable() {
        assert_eq!(check_name("device", "päumpe 7"), Ok(()));
        assert_eq!(check_name("device", ""), Err(NameError::Empty("device")));
        assert_eq!(check_name("device", &"x".repeat(257)), Err(NameError::TooLong("device", 257)));
        assert_eq!(check_name("device", "a\nb"), Err(NameError::Control("device")));
    }
}
