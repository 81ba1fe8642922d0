//! One alert of one group: when it begins, fires and ends.
//!
//! A state machine that is told what holds and what time it is. It exists only
//! while there is something to remember; `docs/design/rules.md` has the table
//! of its transitions. Knows no condition and makes no event.

use grey_model::{Name, Reader, WireError, Writer};

use crate::set::{AlertRule, fnv1a};
use crate::view::Acknowledged;

/// No time.
pub(crate) const NEVER_MS: i64 = i64::MAX;

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing holds; only how often it fired is remembered.
    Idle,
    /// It holds, but not for long enough.
    Pending,
    /// It fires.
    Firing,
    /// It has ended, and rests until a time.
    Cooldown,
}

/// What a condition says now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Level {
    /// It holds.
    pub(crate) holds: bool,
    /// What fires ends.
    pub(crate) clears: bool,
}

/// Something happened that others must hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It fires; so many firings before went without an event.
    Fired { suppressed: u32 },
    /// It fires over its rate limit, without an event.
    Suppressed,
    /// It ended; an event only if it began with one.
    Cleared { was_suppressed: bool },
}

/// One alert of one group.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Which alert rule.
    pub(crate) alert: u32,
    pub(crate) stage: Stage,
    /// The condition holds, as last seen.
    pub(crate) holds: bool,
    /// It fires without an event.
    pub(crate) muted: bool,
    /// Since when it holds, Unix ms.
    pub(crate) since_ms: i64,
    /// When it fired.
    pub(crate) fired_ms: i64,
    /// Until when it rests.
    pub(crate) until_ms: i64,
    /// The same after a restart.
    pub(crate) id: u64,
    /// The value that it holds with.
    pub(crate) value: f64,
    /// The stream and the device that it began with.
    pub(crate) stream: Name,
    pub(crate) device: Name,
    /// Firings counted since a time.
    pub(crate) counted: u32,
    pub(crate) counted_since_ms: i64,
    /// Firings without an event since the last with one.
    pub(crate) suppressed: u32,
    pub(crate) acknowledged: Option<Box<Acknowledged>>,
    /// The time that the engine looks at it by itself; not part of its state.
    pub(crate) timer_ms: i64,
}

impl Entry {
    pub(crate) fn new(alert: u32) -> Self {
        Self {
            alert,
            stage: Stage::Idle,
            holds: false,
            muted: false,
            since_ms: 0,
            fired_ms: 0,
            until_ms: 0,
            id: 0,
            value: f64::NAN,
            stream: "".into(),
            device: "".into(),
            counted: 0,
            counted_since_ms: 0,
            suppressed: 0,
            acknowledged: None,
            timer_ms: NEVER_MS,
        }
    }

    /// Tells what holds now. `key` names the group, `time_ms` is the event's own time: both make the id.
    pub(crate) fn step(
        &mut self,
        rule: &AlertRule,
        key: (&str, &str),
        level: Level,
        now_ms: i64,
        time_ms: i64,
    ) -> Option<Change> {
        self.holds = level.holds;
        if self.stage == Stage::Cooldown && now_ms >= self.until_ms {
            self.stage = Stage::Idle;
        }
        if self.stage == Stage::Idle && level.holds {
            self.stage = Stage::Pending;
            self.since_ms = now_ms;
            self.id = id_of(rule, key, now_ms, time_ms);
        }
        match self.stage {
            Stage::Pending if !level.holds => {
                self.stage = Stage::Idle;
                None
            }
            Stage::Pending if now_ms.saturating_sub(self.since_ms) >= rule.hold_ms => Some(self.fire(rule, now_ms)),
            Stage::Firing if level.clears => Some(self.clear(rule, now_ms)),
            _ => None,
        }
    }

    fn fire(&mut self, rule: &AlertRule, now_ms: i64) -> Change {
        self.stage = Stage::Firing;
        self.fired_ms = now_ms;
        if let Some((count, window_ms)) = rule.rate {
            if self.counted == 0 || now_ms.saturating_sub(self.counted_since_ms) >= window_ms {
                (self.counted, self.counted_since_ms) = (0, now_ms);
            }
            if self.counted >= count {
                self.muted = true;
                self.suppressed = self.suppressed.saturating_add(1);
                return Change::Suppressed;
            }
            self.counted += 1;
        }
        self.muted = false;
        Change::Fired { suppressed: std::mem::take(&mut self.suppressed) }
    }

    /// Ends what fires.
    pub(crate) fn clear(&mut self, rule: &AlertRule, now_ms: i64) -> Change {
        self.stage = if rule.cooldown_ms > 0 { Stage::Cooldown } else { Stage::Idle };
        self.until_ms = now_ms.saturating_add(rule.cooldown_ms);
        self.acknowledged = None;
        Change::Cleared { was_suppressed: std::mem::take(&mut self.muted) }
    }

    /// When something changes by time alone, Unix ms.
    pub(crate) fn due_ms(&self, rule: &AlertRule) -> i64 {
        match (self.stage, rule.rate) {
            (Stage::Pending, _) => self.since_ms.saturating_add(rule.hold_ms),
            (Stage::Cooldown, _) => self.until_ms,
            (Stage::Idle, Some((_, window_ms))) if self.counted > 0 && self.suppressed == 0 => {
                self.counted_since_ms.saturating_add(window_ms)
            }
            _ => NEVER_MS,
        }
    }

    /// True when there is nothing to remember.
    pub(crate) fn is_over(&self, rule: &AlertRule, now_ms: i64) -> bool {
        let counts = rule
            .rate
            .is_some_and(|(_, window_ms)| self.counted > 0 && now_ms.saturating_sub(self.counted_since_ms) < window_ms);
        self.stage == Stage::Idle && !counts && self.suppressed == 0
    }

    /// The site's clock was set back: what was measured with it moves along.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        for time in [&mut self.since_ms, &mut self.fired_ms, &mut self.until_ms, &mut self.counted_since_ms] {
            *time = time.saturating_sub(by_ms);
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_varint(u64::from(self.alert));
        let stage = match self.stage {
            Stage::Idle => 0,
            Stage::Pending => 1,
            Stage::Firing => 2,
            Stage::Cooldown => 3,
        };
        let flags =
            stage | u8::from(self.holds) << 2 | u8::from(self.muted) << 3 | u8::from(self.acknowledged.is_some()) << 4;
        out.push(flags);
        for time in [self.since_ms, self.fired_ms, self.until_ms, self.counted_since_ms] {
            out.put_varint_signed(time);
        }
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.value.to_le_bytes());
        out.put_blob(self.stream.as_bytes());
        out.put_blob(self.device.as_bytes());
        out.put_varint(u64::from(self.counted));
        out.put_varint(u64::from(self.suppressed));
        if let Some(acknowledged) = &self.acknowledged {
            out.put_blob(acknowledged.by.as_bytes());
            out.put_varint_signed(acknowledged.at_ms);
            out.put_blob(acknowledged.note.as_bytes());
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>, alerts: usize) -> Result<Self, WireError> {
        const TEXT_MAX: usize = grey_model::limits::TEXT_BYTES_MAX;
        let alert = reader.varint()?;
        if alert >= alerts as u64 {
            return Err(reader.invalid("number of an alert"));
        }
        let mut entry = Self::new(alert as u32);
        let flags = reader.u8()?;
        if flags >> 5 != 0 {
            return Err(reader.invalid("flags of an alert"));
        }
        entry.stage = [Stage::Idle, Stage::Pending, Stage::Firing, Stage::Cooldown][usize::from(flags & 3)];
        entry.holds = flags & 4 != 0;
        entry.muted = flags & 8 != 0;
        entry.since_ms = reader.varint_signed()?;
        entry.fired_ms = reader.varint_signed()?;
        entry.until_ms = reader.varint_signed()?;
        entry.counted_since_ms = reader.varint_signed()?;
        entry.id = reader.u64()?;
        entry.value = reader.f64()?;
        entry.stream = reader.text("stream of an alert", TEXT_MAX)?.into();
        entry.device = reader.text("device of an alert", TEXT_MAX)?.into();
        entry.counted = reader.count("firings", u64::from(u32::MAX))? as u32;
        entry.suppressed = reader.count("suppressed firings", u64::from(u32::MAX))? as u32;
        if flags & 16 != 0 {
            entry.acknowledged = Some(Box::new(Acknowledged {
                by: reader.text("acknowledged by", TEXT_MAX)?.into(),
                at_ms: reader.varint_signed()?,
                note: reader.text("note", TEXT_MAX)?.into(),
            }));
        }
        Ok(entry)
    }
}

fn id_of(rule: &AlertRule, key: (&str, &str), now_ms: i64, time_ms: i64) -> u64 {
    fnv_id(&[&rule.name, key.0, key.1], &[now_ms, time_ms])
}

/// A number of texts and times that is the same on every machine and build.
pub(crate) fn fnv_id(texts: &[&str], times: &[i64]) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    for text in texts {
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
    }
    times.iter().for_each(|time| bytes.extend_from_slice(&time.to_le_bytes()));
    mix(fnv1a(&bytes))
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): every bit of the input reaches every bit of the output.
pub(crate) fn mix(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// An id as it is shown.
pub(crate) fn id_text(id: u64) -> Name {
    format!("{id:016x}").into()
}

/// The alerts of one group, sorted by their rules; usually none.
#[derive(Debug, Default)]
pub(crate) struct Entries(pub(crate) Vec<Entry>);

impl Entries {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn position(&self, alert: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&alert, |entry| entry.alert)
    }

    pub(crate) fn get_mut(&mut self, alert: u32) -> Option<&mut Entry> {
        let at = self.position(alert).ok()?;
        self.0.get_mut(at)
    }

    /// True when nothing is lost with them.
    pub(crate) fn are_idle(&self) -> bool {
        self.0.iter().all(|entry| entry.stage != Stage::Firing)
    }
}
