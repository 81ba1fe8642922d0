//! One event as a payload describes it, before it meets its topic and the clock.

use grey_model::{Event, Kind, Lane, Name, Quality, Stamp, Value};

/// Shares the names that repeat from payload to payload (units, attribute names
/// and values, devices and streams), so that an event costs no allocation for them.
/// Remembers a few; a name that it does not know is simply made anew.
#[derive(Debug, Clone, Default)]
pub struct NameMemo {
    recent: Vec<Name>,
    oldest: usize,
}

impl NameMemo {
    /// Names remembered: the label set of an ordinary device.
    const CAPACITY: usize = 16;
    /// Longest name worth remembering, in bytes.
    const NAME_BYTES_MAX: usize = 64;

    /// The name of a text.
    pub fn name(&mut self, text: &str) -> Name {
        if let Some(name) = self.recent.iter().find(|name| name.as_str() == text) {
            return name.clone();
        }
        let name = Name::from(text);
        if text.len() <= Self::NAME_BYTES_MAX {
            if self.recent.len() < Self::CAPACITY {
                self.recent.push(name.clone());
            } else {
                self.recent[self.oldest] = name.clone();
                self.oldest = (self.oldest + 1) % Self::CAPACITY;
            }
        }
        name
    }
}

/// Which keys an object may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// Device and stream come from the topic.
    Topic,
    /// Device and stream stand in the object.
    Whole,
}

impl Scope {
    pub(super) fn keys(self) -> &'static str {
        match self {
            Self::Topic => "value, ts, unit, id, quality, priority and attributes",
            Self::Whole => "device, stream, value, ts, unit, id, quality, priority and attributes",
        }
    }
}

/// What an object, or a bare number, says.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Item {
    pub(super) value: Value,
    pub(super) ts: Option<i64>,
    pub(super) unit: Option<Name>,
    pub(super) id: Option<Name>,
    pub(super) quality: Quality,
    pub(super) lane: Option<Lane>,
    pub(super) attributes: Vec<(Name, Name)>,
    pub(super) device: Option<Name>,
    pub(super) stream: Option<Name>,
}

impl Item {
    pub(super) fn of(value: Value) -> Self {
        Self {
            value,
            ts: None,
            unit: None,
            id: None,
            quality: Quality::Good,
            lane: None,
            attributes: Vec::new(),
            device: None,
            stream: None,
        }
    }

    pub(super) fn into_event(self, device: Name, stream: Name, now_ms: i64) -> (Event, Option<Lane>) {
        let event = Event {
            device,
            stream,
            kind: Kind::Reading,
            value: self.value,
            device_time_ms: self.ts.unwrap_or(now_ms),
            stamp: Stamp::default(),
            quality: self.quality,
            unit: self.unit,
            id: self.id,
            attributes: self.attributes,
        };
        (event, self.lane)
    }
}

pub(super) fn quality_of(text: &str) -> Option<Quality> {
    [Quality::Good, Quality::Uncertain, Quality::Bad].into_iter().find(|quality| quality.as_str() == text)
}

pub(super) fn lane_of(text: &str) -> Option<Lane> {
    Lane::ALL.into_iter().find(|lane| lane.as_str() == text)
}
