//! What folds do to readings: thinning and rolling up.
//!
//! Both keep the sequences: of those that carried readings the first carry what is left
//! of them, the rest are accounted for. Other kinds of events are not touched.

use std::collections::{BTreeMap, HashMap};

use grey_model::limits::ATTRIBUTES_MAX;
use grey_model::{Event, Kind, Name, Quality, Value};

/// Intervals that readings are rolled up over, in ms: the first that folds enough is taken.
const INTERVALS_MS: [i64; 3] = [60_000, 600_000, 3_600_000];
/// Readings that an aggregate should stand for, on average.
const RATIO: usize = 10;
/// Value of the attribute `rule`, which says who made an aggregate.
const RULE: &str = "rolled-up";
/// Attributes of an aggregate of its own; the rest are what its readings had in common.
const OWN: [&str; 3] = ["window", "rule", "count"];

/// Every second reading of each series: the first, the third and so on.
pub(super) fn thin(readings: Vec<Event>) -> Vec<Event> {
    let mut counts: HashMap<(Name, Name, Option<Name>), usize> = HashMap::new();
    let mut is_kept = |event: &Event| {
        let series = (event.device.clone(), event.stream.clone(), event.unit.clone());
        let count = counts.entry(series).or_default();
        *count += 1;
        *count % 2 == 1
    };
    readings.into_iter().filter(|event| is_kept(event)).collect()
}

/// Aggregates by series and interval, in the order of the intervals.
pub(super) fn roll_up(readings: &[Event]) -> Vec<Event> {
    let mut rolled = Vec::new();
    for interval_ms in INTERVALS_MS {
        rolled = roll_up_over(readings, interval_ms);
        if rolled.len() * RATIO <= readings.len() {
            break;
        }
    }
    rolled
}

/// One aggregate in the making. Numbers are described; of what is no number (truth values,
/// text, samples, named numbers) the last and how many there were remain.
struct Group<'a> {
    last: &'a Event,
    count: u64,
    min: f64,
    max: f64,
    sum: f64,
    quality: Quality,
    attributes: Vec<(Name, Name)>,
}

fn roll_up_over(readings: &[Event], interval_ms: i64) -> Vec<Event> {
    let mut groups: BTreeMap<_, Group<'_>> = BTreeMap::new();
    for event in readings {
        let number = match event.value {
            Value::Number(n) => Some(n),
            Value::Integer(n) => Some(n as f64),
            _ => None,
        };
        let start_ms = event.device_time_ms.saturating_sub(event.device_time_ms.rem_euclid(interval_ms));
        let key = (start_ms, &event.device, &event.stream, event.unit.as_ref(), number.is_some());
        let group = groups.entry(key).or_insert_with(|| Group {
            last: event,
            count: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: 0.0,
            quality: Quality::Good,
            attributes: event.attributes.iter().filter(|(name, _)| !OWN.contains(&name.as_str())).cloned().collect(),
        });
        group.last = event;
        group.count += 1;
        group.quality = group.quality.max(event.quality);
        group.attributes.retain(|attribute| event.attributes.contains(attribute));
        if let Some(n) = number {
            group.min = group.min.min(n);
            group.max = group.max.max(n);
            group.sum += n;
        }
    }
    let event = |((start_ms, device, stream, unit, is_number), group): (
        (i64, &Name, &Name, Option<&Name>, bool),
        Group<'_>,
    )| {
        let mut attributes =
            vec![(Name::from(OWN[0]), Name::from(interval_ms.to_string())), (Name::from(OWN[1]), Name::from(RULE))];
        let value = if is_number {
            let count = group.count as f64;
            let fields = [("avg", group.sum / count), ("min", group.min), ("max", group.max), ("count", count)];
            // A mean that overflowed is left out, as rules do.
            let finite = fields.into_iter().filter(|(_, value)| value.is_finite());
            Value::Fields(finite.map(|(name, value)| (Name::from(name), value)).collect())
        } else {
            attributes.push((Name::from(OWN[2]), Name::from(group.count.to_string())));
            group.last.value.clone()
        };
        let room = ATTRIBUTES_MAX - attributes.len();
        attributes.extend(group.attributes.into_iter().take(room));
        Event {
            device: device.clone(),
            stream: stream.clone(),
            kind: Kind::Aggregate,
            value,
            device_time_ms: start_ms,
            stamp: group.last.stamp,
            quality: group.quality,
            unit: unit.cloned(),
            id: None,
            attributes,
        }
    };
    groups.into_iter().map(event).collect()
}
