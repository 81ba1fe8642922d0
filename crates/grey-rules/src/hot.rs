//! Hot spots: devices and streams that get far more than their share of the
//! site's events, found over short windows of the site's time.
//!
//! One event of about [`SAMPLE`] is counted, at uneven distances so that devices
//! that take turns are not mistaken for one, by the Space-Saving algorithm (Metwally,
//! Agrawal, El Abbadi 2005) over [`COUNTERS_MAX`] counters: a name whose share
//! is over 1/`COUNTERS_MAX` is always among them. What is found holds for the
//! window after, so that a replay finds the same at the same event.

use grey_model::limits::TEXT_BYTES_MAX;
use grey_model::{Name, Reader, WireError, Writer};

/// Length of a window of counting, ms of the site's time.
const WINDOW_MS: i64 = 10_000;
/// One event of so many is counted, on average.
const SAMPLE: u32 = 16;
/// Counters kept for devices, and for streams.
const COUNTERS_MAX: usize = 64;
/// Counted events below which a window says nothing.
const COUNTED_MIN: u64 = 64;
/// A device is hot from this share of the events on.
const DEVICE_SHARE: f64 = 0.1;
/// And from this many times the share that each of the devices would have if they were equal.
const DEVICE_EXCESS: f64 = 3.0;
/// A stream is hot from this many times the mean rate on.
const STREAM_EXCESS: f64 = 5.0;
/// Hot names of one kind that are handled; a tenth of the events leaves room for no more devices.
const HOT_MAX: usize = 10;

/// Which names are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HotKind {
    Device,
    Stream,
}

impl HotKind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Stream => "stream",
        }
    }
}

/// A name that is hot.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Hot {
    pub(crate) kind: HotKind,
    pub(crate) name: Name,
    pub(crate) share: f64,
    /// Readings that something was done about.
    pub(crate) mitigated: u64,
}

#[derive(Debug, Clone, PartialEq)]
struct Counter {
    name: Name,
    count: u64,
}

/// Counts of the most frequent names.
#[derive(Debug, Clone, Default, PartialEq)]
struct Counters(Vec<Counter>);

impl Counters {
    fn count(&mut self, name: &Name) {
        // The most frequent stand near the front: a hot name is found at once.
        if let Some(at) = self.0.iter().position(|counter| counter.name == *name) {
            self.0[at].count += 1;
            if at > 0 && self.0[at].count > self.0[at - 1].count {
                self.0.swap(at, at - 1);
            }
            return;
        }
        if self.0.len() < COUNTERS_MAX {
            self.0.push(Counter { name: name.clone(), count: 1 });
        } else if let Some(last) = self.0.iter_mut().min_by_key(|counter| counter.count) {
            // The newcomer inherits the count, so that no frequent name is underrated.
            *last = Counter { name: name.clone(), count: last.count + 1 };
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.put_varint(self.0.len() as u64);
        for counter in &self.0 {
            out.put_blob(counter.name.as_bytes());
            out.put_varint(counter.count);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let mut counters = Self::default();
        for _ in 0..reader.count("hot counters", COUNTERS_MAX as u64)? {
            let name = Name::from(reader.text("counted name", TEXT_BYTES_MAX)?);
            counters.0.push(Counter { name, count: reader.count("count", u64::MAX >> 8)? });
        }
        Ok(counters)
    }
}

/// Watches the events of a site.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HotWatch {
    window_ms: i64,
    /// Events until one is counted.
    left: u32,
    /// Where the next distance comes from.
    state: u32,
    counted: u64,
    devices: Counters,
    streams: Counters,
    found: Vec<Hot>,
}

impl HotWatch {
    /// Notes an event.
    #[inline]
    pub(crate) fn note(&mut self, device: &Name, stream: &Name) {
        match self.left.checked_sub(1) {
            Some(left) => self.left = left,
            None => self.count(device, stream),
        }
    }

    #[cold]
    fn count(&mut self, device: &Name, stream: &Name) {
        // A linear congruential generator (Numerical Recipes); its upper bits are good enough for distances.
        self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.left = (self.state >> 16) % (2 * SAMPLE - 1);
        self.counted += 1;
        self.devices.count(device);
        self.streams.count(stream);
    }

    /// Moves on to the window of a time. What was found in the last one holds from here on.
    #[inline]
    pub(crate) fn turn(&mut self, now_ms: i64) {
        let window_ms = now_ms.div_euclid(WINDOW_MS) * WINDOW_MS;
        if window_ms != self.window_ms {
            self.judge(window_ms);
        }
    }

    #[cold]
    fn judge(&mut self, window_ms: i64) {
        let before = std::mem::take(&mut self.found);
        if self.counted >= COUNTED_MIN {
            let total = self.counted as f64;
            let devices = self.devices.0.len() as f64;
            let device_share = DEVICE_SHARE.max(DEVICE_EXCESS / devices.max(1.0));
            let stream_share = STREAM_EXCESS / (self.streams.0.len() as f64).max(1.0);
            for (kind, counters, least) in
                [(HotKind::Device, &self.devices, device_share), (HotKind::Stream, &self.streams, stream_share)]
            {
                let mut hot: Vec<(u64, &Name)> = counters.0.iter().map(|c| (c.count, &c.name)).collect();
                hot.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
                let hot = hot.into_iter().map(|(count, name)| (count as f64 / total, name));
                for (share, name) in hot.take_while(|(share, _)| *share > least).take(HOT_MAX) {
                    let known = before.iter().find(|known| known.kind == kind && known.name == *name);
                    let mitigated = known.map_or(0, |known| known.mitigated);
                    self.found.push(Hot { kind, name: name.clone(), share, mitigated });
                }
            }
        }
        *self = Self {
            window_ms,
            found: std::mem::take(&mut self.found),
            left: self.left,
            state: self.state,
            ..Self::default()
        };
    }

    /// What is hot.
    pub(crate) fn found(&self) -> &[Hot] {
        &self.found
    }

    /// The position in [`HotWatch::found`] of what makes a reading hot, its stream first.
    #[inline]
    pub(crate) fn heat(&self, device: &str, stream: &str) -> Option<usize> {
        if self.found.is_empty() {
            return None;
        }
        let is = |kind, name: &str| self.found.iter().position(|hot| hot.kind == kind && *hot.name == *name);
        is(HotKind::Stream, stream).or_else(|| is(HotKind::Device, device))
    }

    /// Something was done about a reading because of what stands at a position.
    pub(crate) fn mitigated(&mut self, at: Option<usize>) {
        if let Some(hot) = at.and_then(|at| self.found.get_mut(at)) {
            hot.mitigated += 1;
        }
    }

    /// A reading that its device's rate limit kept here.
    pub(crate) fn limited(&mut self, device: &str) {
        let at = self.found.iter().position(|hot| hot.kind == HotKind::Device && *hot.name == *device);
        self.mitigated(at);
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_varint_signed(self.window_ms);
        out.put_varint(u64::from(self.left));
        out.put_varint(u64::from(self.state));
        out.put_varint(self.counted);
        self.devices.write(out);
        self.streams.write(out);
        out.put_varint(self.found.len() as u64);
        for hot in &self.found {
            out.push(u8::from(hot.kind == HotKind::Stream));
            out.put_blob(hot.name.as_bytes());
            out.extend_from_slice(&hot.share.to_le_bytes());
            out.put_varint(hot.mitigated);
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        let window_ms = reader.varint_signed()?;
        let left = reader.count("events until one is counted", u64::from(2 * SAMPLE))? as u32;
        let state = reader.count("state of the distances", u64::from(u32::MAX))? as u32;
        let counted = reader.count("events counted", u64::MAX >> 8)?;
        let (devices, streams) = (Counters::read(reader)?, Counters::read(reader)?);
        let mut found = Vec::new();
        for _ in 0..reader.count("hot spots", 2 * HOT_MAX as u64)? {
            let kind = match reader.u8()? {
                0 => HotKind::Device,
                1 => HotKind::Stream,
                _ => return Err(reader.invalid("kind of a hot spot")),
            };
            let name = Name::from(reader.text("hot name", TEXT_BYTES_MAX)?);
            let share = reader.f64()?;
            if !(0.0..=1.0).contains(&share) {
                return Err(reader.invalid("share of a hot spot"));
            }
            found.push(Hot { kind, name, share, mitigated: reader.count("mitigated", u64::MAX >> 8)? });
        }
        Ok(Self { window_ms, left, state, counted, devices, streams, found })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(prefix: &str, n: u64) -> Name {
        format!("{prefix}-{n}").into()
    }

    /// Four windows of events; every `of`-th is of the hot device, and as many of the hot stream.
    fn watch(devices: u64, streams: u64, of: u64) -> HotWatch {
        let mut watch = HotWatch::default();
        let mut state = 7_u64;
        for n in 0..40_000_i64 {
            watch.turn(n);
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = state >> 33;
            let is_hot = of > 0 && draw.is_multiple_of(of);
            let device = if is_hot { name("hot", 0) } else { name("device", draw / 7 % devices) };
            let stream = if is_hot { name("hot-stream", 0) } else { name("stream", draw / 11 % streams) };
            watch.note(&device, &stream);
        }
        watch.turn(40_000);
        watch
    }

    #[test]
    fn a_device_with_a_fifth_of_the_events_and_its_stream_are_found() {
        let watch = watch(500, 50, 5);
        let found: Vec<_> = watch.found().iter().map(|hot| (hot.kind, hot.name.as_str())).collect();
        assert_eq!(found, [(HotKind::Device, "hot-0"), (HotKind::Stream, "hot-stream-0")]);
        assert!((0.15..0.25).contains(&watch.found()[0].share), "{:?}", watch.found());
    }

    #[test]
    fn devices_that_take_turns_are_not_hot() {
        let mut watch = HotWatch::default();
        for n in 0..40_000_i64 {
            watch.turn(n);
            watch.note(&name("device", n as u64 % 32), &name("stream", n as u64 % 16));
        }
        watch.turn(40_000);
        assert_eq!(watch.found(), []);
    }

    #[test]
    fn equal_shares_are_not_hot_however_few_share() {
        for devices in [1, 2, 5, 20, 1_000] {
            assert_eq!(watch(devices, 4, 0).found(), [], "{devices} devices");
        }
    }

    #[test]
    fn a_name_that_cools_down_is_forgotten_and_few_events_say_nothing() {
        let mut watch = watch(500, 50, 5);
        watch.limited("hot-0");
        watch.limited("device-1");
        assert_eq!(watch.heat("hot-0", "stream-1"), Some(0));
        watch.mitigated(watch.heat("device-1", "hot-stream-0"));
        assert_eq!([watch.found()[0].mitigated, watch.found()[1].mitigated], [1, 1]);
        watch.turn(1_000_000);
        assert_eq!(watch.found(), []);
    }

    #[test]
    fn the_state_is_read_back_and_damage_is_refused() {
        let mut watch = watch(500, 50, 5);
        watch.note(&"a".into(), &"b".into());
        let mut bytes = Vec::new();
        watch.write(&mut bytes);
        assert_eq!(HotWatch::read(&mut Reader::new(&bytes)).unwrap(), watch);
        for len in 0..bytes.len() {
            assert!(HotWatch::read(&mut Reader::new(&bytes[..len])).is_err(), "{len}");
        }
    }
}
