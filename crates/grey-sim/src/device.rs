//! Simulated publishers. Each sends its readings in order and repeats what was
//! not acknowledged: with an event id (QoS 1), or with a packet id that it
//! releases afterwards (QoS 2).

use std::sync::Arc;

use grey_ingest::{Op, Qos2Key};
use grey_model::{Event, Lane, Name};

use crate::random::Random;

/// How a device makes its resends recognisable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Every event has an id.
    Ids,
    /// QoS 2: the packet id tells a resend until the packet is released.
    Packets,
}

/// Names an event for the checks: device and the device's own time.
pub(crate) type EventKey = (String, i64);

/// What waits for its acknowledgement.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) number: u64,
    pub(crate) ops: Arc<Vec<Op>>,
    /// The events in it; none in a release.
    pub(crate) events: Vec<EventKey>,
}

/// A publisher.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: String,
    style: Style,
    client: u64,
    /// Events still to send.
    left: u64,
    serial: i64,
    packet_id: u16,
    to_release: Option<Qos2Key>,
    /// It begins a clean session before it publishes more.
    starts_clean: bool,
    next_number: u64,
    pub(crate) flight: Option<Flight>,
    pub(crate) tries: u32,
    /// Only the newest wake-up counts.
    pub(crate) wake: u64,
    /// Its connection to the site; a new one with every resend.
    pub(crate) connection: u64,
}

impl Device {
    pub(crate) fn new(site: usize, number: usize, style: Style, events: u64) -> Self {
        Self {
            name: format!("dev-{site}-{number}"),
            style,
            client: (site * 100 + number) as u64,
            left: events,
            serial: 0,
            packet_id: 0,
            to_release: None,
            starts_clean: false,
            next_number: 0,
            flight: None,
            tries: 0,
            wake: 0,
            connection: 0,
        }
    }

    /// True once everything was sent and acknowledged.
    pub(crate) fn is_done(&self) -> bool {
        self.left == 0 && self.flight.is_none() && self.to_release.is_none()
    }

    /// Gives it more to send, in a clean session: a site that was restored from an old copy
    /// holds packet ids that the device has long used again.
    pub(crate) fn prolong(&mut self, events: u64) {
        self.left += events;
        self.starts_clean = true;
    }

    /// What to send now: the same again, or the next; `None` when all is done.
    pub(crate) fn act(&mut self, random: &mut Random, start_ms: i64) -> Option<Flight> {
        if let Some(flight) = &self.flight {
            return Some(flight.clone());
        }
        let (ops, events) = match self.to_release {
            _ if std::mem::take(&mut self.starts_clean) => (vec![Op::Reset { client: self.client }], Vec::new()),
            Some(key) => (vec![Op::Release(key)], Vec::new()),
            None => self.publish(random, start_ms)?,
        };
        self.next_number += 1;
        let flight = Flight { number: self.next_number, ops: Arc::new(ops), events };
        self.flight = Some(flight.clone());
        Some(flight)
    }

    fn publish(&mut self, random: &mut Random, start_ms: i64) -> Option<(Vec<Op>, Vec<EventKey>)> {
        let count = random.between(1..=6).min(self.left);
        if count == 0 {
            return None;
        }
        self.left -= count;
        let mut readings: Vec<(Event, Option<Lane>)> = Vec::new();
        for _ in 0..count {
            readings.push(self.reading(random, start_ms));
        }
        let events = readings.iter().map(|(event, _)| (self.name.clone(), event.device_time_ms)).collect();
        let ops = match self.style {
            Style::Ids => readings.into_iter().map(|(event, lane)| Op::Event { event, lane, qos2: None }).collect(),
            Style::Packets => {
                self.packet_id = self.packet_id % 2 + 1;
                let key = Qos2Key { client: self.client, packet_id: self.packet_id };
                self.to_release = Some(key);
                match readings.len() {
                    1 => readings.into_iter().map(|(event, lane)| Op::Event { event, lane, qos2: Some(key) }).collect(),
                    _ => vec![Op::Events { events: readings, qos2: key }],
                }
            }
        };
        Some((ops, events))
    }

    fn reading(&mut self, random: &mut Random, start_ms: i64) -> (Event, Option<Lane>) {
        self.serial += 1;
        let time_ms = start_ms + self.serial * 10;
        let stream = if random.percent(70) { "temperature" } else { "pressure" };
        let value = 60.0 + random.below(400) as f64 / 10.0;
        let mut event = Event::reading(self.name.as_str(), stream, value, time_ms);
        if stream == "temperature" {
            event.unit = Some(Name::from("°C"));
        }
        if self.style == Style::Ids {
            event.id = Some(Name::from(format!("e{}", self.serial)));
        }
        let lane = match random.below(10) {
            0 => Some(Lane::Critical),
            1 => Some(Lane::Normal),
            _ => None,
        };
        (event, lane)
    }

    /// The site answered. True when that was what the device waited for.
    pub(crate) fn answered(&mut self, number: u64) -> bool {
        let Some(flight) = self.flight.take_if(|flight| flight.number == number) else { return false };
        if flight.events.is_empty() {
            self.to_release = None;
        }
        self.tries = 0;
        true
    }
}
