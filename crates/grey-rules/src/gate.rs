//! Between the rules and the outside: silences, the site's bound on alerts,
//! effects, and the last alerts that ended. One for the whole site.

use std::collections::{BTreeSet, VecDeque};

use grey_model::limits::TEXT_BYTES_MAX;
use grey_model::{Event, Kind, Lane, Name, Quality, Reader, Stamp, Value, WireError, Writer};

use crate::alert::{Entry, Stage, fnv_id, id_text};
use crate::operation::{OperationError, SILENCES_MAX};
use crate::partition::{Ended, Raw, RawEvent};
use crate::set::{AlertRule, RuleSet, glob};
use crate::view::{AlertState, AlertView, Derived, DerivedEvent, SilenceView};

/// Alerts that ended and are still listed.
pub(crate) const RECENT_MAX: usize = 200;
/// Longest silence.
const SILENCE_MS_MAX: i64 = 366 * 86_400_000;
const MINUTE_MS: i64 = 60_000;

/// Between the rules and the outside.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    silences: Vec<SilenceView>,
    /// Alerts that fired over the site's bound, without an event.
    muted: BTreeSet<u64>,
    /// The minute that is counted, Unix ms, and its alert events.
    minute_ms: i64,
    sent: u32,
    /// Firings of this minute without an event.
    suppressed: u64,
    /// All of them.
    pub(crate) suppressed_total: u64,
    recent: VecDeque<AlertView>,
}

impl Gate {
    /// Lets pass what partitions made.
    pub(crate) fn pass(
        &mut self,
        set: &RuleSet,
        site: &Name,
        now: Stamp,
        now_ms: i64,
        raw: &mut Raw,
        out: &mut Derived,
    ) {
        for RawEvent { lane, mut event, mark } in raw.events.drain(..) {
            let Some(mark) = mark else {
                out.events.push(DerivedEvent { lane, event, effects: None });
                continue;
            };
            let Some(rule) = set.alert(mark.ended.entry.alert) else { continue };
            self.turn(set, site, now, now_ms, out);
            let id = mark.ended.entry.id;
            let is_silenced = self.is_silenced(&rule.name, &mark.ended.key, now_ms);
            if mark.fired {
                if self.sent >= set.limits.alerts_per_minute {
                    self.muted.insert(id);
                    self.suppressed += 1;
                    self.suppressed_total += 1;
                    continue;
                }
            } else {
                let was_muted = self.muted.remove(&id);
                self.remember(rule, &mark.ended, now_ms, was_muted);
                if was_muted {
                    continue;
                }
            }
            self.sent = self.sent.saturating_add(1);
            let mut effects = if mark.fired { rule.effects.clone() } else { rule.clear_effects.clone() };
            if is_silenced {
                event.attributes.push((set.words.silenced.clone(), set.words.yes.clone()));
                effects = None;
            }
            out.events.push(DerivedEvent { lane, event, effects });
        }
        for ended in raw.ended.drain(..) {
            self.muted.remove(&ended.entry.id);
            if let Some(rule) = set.alert(ended.entry.alert) {
                self.remember(rule, &ended, now_ms, true);
            }
        }
    }

    /// Moves on to the minute of a time; sums up what the last one suppressed.
    pub(crate) fn turn(&mut self, set: &RuleSet, site: &Name, now: Stamp, now_ms: i64, out: &mut Derived) {
        let minute_ms = now_ms.div_euclid(MINUTE_MS) * MINUTE_MS;
        if minute_ms == self.minute_ms {
            return;
        }
        let (suppressed, since_ms) = (std::mem::take(&mut self.suppressed), self.minute_ms);
        (self.minute_ms, self.sent) = (minute_ms, 0);
        if suppressed == 0 {
            return;
        }
        let words = &set.words;
        let limit = set.limits.alerts_per_minute;
        let reason = format!("{suppressed} alerts began over the limit of {limit} a minute and were not sent");
        let fields = [(words.suppressed.clone(), suppressed as f64), (words.limit.clone(), f64::from(limit))];
        let event = Event {
            device: site.clone(),
            stream: words.alerts.clone(),
            kind: Kind::Alert,
            value: Value::Fields(fields.into()),
            device_time_ms: now_ms,
            stamp: now,
            quality: Quality::Good,
            unit: None,
            id: None,
            attributes: vec![
                (words.state.clone(), words.summary.clone()),
                (words.rule.clone(), words.alerts_per_minute.clone()),
                (words.severity.clone(), words.warning.clone()),
                (words.since.clone(), since_ms.to_string().into()),
                (words.suppressed.clone(), suppressed.to_string().into()),
                (words.reason.clone(), reason.into()),
            ],
        };
        self.sent += 1;
        out.events.push(DerivedEvent { lane: Lane::Critical, event, effects: None });
    }

    /// Does what is due by time.
    pub(crate) fn advance(&mut self, set: &RuleSet, site: &Name, now: Stamp, now_ms: i64, out: &mut Derived) {
        self.silences.retain(|silence| silence.until_ms > now_ms);
        self.turn(set, site, now, now_ms, out);
    }

    /// When there is something to do, Unix ms.
    pub(crate) fn next_due_ms(&self) -> Option<i64> {
        let summary = (self.suppressed > 0).then(|| self.minute_ms.saturating_add(MINUTE_MS));
        self.silences.iter().map(|silence| silence.until_ms).chain(summary).min()
    }

    pub(crate) fn is_silenced(&self, rule: &str, device: &str, now_ms: i64) -> bool {
        self.silences.iter().any(|silence| {
            silence.until_ms > now_ms
                && silence.rule.as_ref().is_none_or(|name| **name == *rule)
                && silence.device.as_ref().is_none_or(|pattern| glob(pattern, device))
        })
    }

    pub(crate) fn is_muted(&self, id: u64) -> bool {
        self.muted.contains(&id)
    }

    /// The site's clock was set back.
    pub(crate) fn shift(&mut self, by_ms: i64) {
        for silence in &mut self.silences {
            silence.until_ms = silence.until_ms.saturating_sub(by_ms);
        }
    }

    pub(crate) fn silence(
        &mut self,
        rule: Option<&str>,
        device: Option<&str>,
        until_ms: i64,
        by: &str,
        note: &str,
        now_ms: i64,
    ) -> Result<(), OperationError> {
        if rule.is_none() && device.is_none() {
            return Err(OperationError::Silence("covers everything: name a rule, or devices such as press-*".into()));
        }
        if until_ms <= now_ms {
            return Err(OperationError::Silence("ends before now".into()));
        }
        if until_ms.saturating_sub(now_ms) > SILENCE_MS_MAX {
            return Err(OperationError::Silence("is longer than a year".into()));
        }
        let id = id_text(fnv_id(&[rule.unwrap_or("*"), device.unwrap_or("*")], &[now_ms, until_ms]));
        self.silences.retain(|silence| silence.until_ms > now_ms && silence.id != id);
        if self.silences.len() >= SILENCES_MAX {
            return Err(OperationError::TooMany);
        }
        self.silences.push(SilenceView {
            id,
            rule: rule.map(Name::from),
            device: device.map(Name::from),
            until_ms,
            by: by.into(),
            note: note.into(),
        });
        Ok(())
    }

    pub(crate) fn unsilence(&mut self, id: &str) -> Result<(), OperationError> {
        let before = self.silences.len();
        self.silences.retain(|silence| *silence.id != *id);
        if self.silences.len() < before { Ok(()) } else { Err(OperationError::NoSilence(id.into())) }
    }

    pub(crate) fn silences(&self) -> Vec<SilenceView> {
        self.silences.clone()
    }

    /// The last alerts that ended, newest first.
    pub(crate) fn recent(&self) -> impl Iterator<Item = AlertView> + '_ {
        self.recent.iter().rev().cloned()
    }

    fn remember(&mut self, rule: &AlertRule, ended: &Ended, now_ms: i64, was_muted: bool) {
        let mut view = view_of(rule, &ended.entry, &ended.key);
        view.state = AlertState::Cleared;
        view.cleared_ms = Some(now_ms);
        view.suppressed |= was_muted;
        view.silenced = self.is_silenced(&rule.name, &ended.key, now_ms);
        if self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(view);
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_varint(self.silences.len() as u64);
        for silence in &self.silences {
            out.put_blob(silence.id.as_bytes());
            put_optional(out, silence.rule.as_ref());
            put_optional(out, silence.device.as_ref());
            out.put_varint_signed(silence.until_ms);
            out.put_blob(silence.by.as_bytes());
            out.put_blob(silence.note.as_bytes());
        }
        out.put_varint(self.muted.len() as u64);
        self.muted.iter().for_each(|id| out.extend_from_slice(&id.to_le_bytes()));
        out.put_varint_signed(self.minute_ms);
        out.put_varint(u64::from(self.sent));
        out.put_varint(self.suppressed);
        out.put_varint(self.suppressed_total);
        out.put_varint(self.recent.len() as u64);
        self.recent.iter().for_each(|view| write_view(view, out));
    }

    pub(crate) fn read(reader: &mut Reader<'_>, alerts_max: usize) -> Result<Self, WireError> {
        let mut gate = Self::default();
        for _ in 0..reader.count("silences", SILENCES_MAX as u64)? {
            gate.silences.push(SilenceView {
                id: name(reader, "id of a silence")?,
                rule: optional(reader)?,
                device: optional(reader)?,
                until_ms: reader.varint_signed()?,
                by: name(reader, "silenced by")?,
                note: name(reader, "note")?,
            });
        }
        for _ in 0..reader.count("muted alerts", alerts_max as u64)? {
            if !gate.muted.insert(reader.u64()?) {
                return Err(reader.invalid("muted alert, it is there twice"));
            }
        }
        gate.minute_ms = reader.varint_signed()?;
        gate.sent = reader.count("alerts sent", u64::from(u32::MAX))? as u32;
        gate.suppressed = reader.varint()?;
        gate.suppressed_total = reader.varint()?;
        for _ in 0..reader.count("ended alerts", RECENT_MAX as u64)? {
            gate.recent.push_back(read_view(reader)?);
        }
        Ok(gate)
    }
}

/// An alert as it is shown.
pub(crate) fn view_of(rule: &AlertRule, entry: &Entry, key: &Name) -> AlertView {
    let state = match entry.stage {
        Stage::Firing => AlertState::Firing,
        Stage::Pending => AlertState::Pending,
        Stage::Idle | Stage::Cooldown => AlertState::Cleared,
    };
    AlertView {
        id: id_text(entry.id),
        state,
        rule: rule.name.clone(),
        condition: rule.condition.clone(),
        severity: rule.severity.clone(),
        tags: rule.tags.to_vec(),
        device: key.clone(),
        stream: entry.stream.clone(),
        value: entry.value,
        unit: rule.unit.clone(),
        since_ms: entry.since_ms,
        fired_ms: (state == AlertState::Firing).then_some(entry.fired_ms),
        cleared_ms: None,
        acknowledged: entry.acknowledged.as_deref().cloned(),
        silenced: false,
        suppressed: entry.muted,
    }
}

fn put_optional(out: &mut Vec<u8>, text: Option<&Name>) {
    out.push(u8::from(text.is_some()));
    if let Some(text) = text {
        out.put_blob(text.as_bytes());
    }
}

fn name(reader: &mut Reader<'_>, what: &'static str) -> Result<Name, WireError> {
    reader.text(what, TEXT_BYTES_MAX).map(Name::from)
}

fn optional(reader: &mut Reader<'_>) -> Result<Option<Name>, WireError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => name(reader, "text").map(Some),
        _ => Err(reader.invalid("flag of a text")),
    }
}

fn optional_time(reader: &mut Reader<'_>) -> Result<Option<i64>, WireError> {
    match reader.u8()? {
        0 => Ok(None),
        1 => reader.varint_signed().map(Some),
        _ => Err(reader.invalid("flag of a time")),
    }
}

fn write_view(view: &AlertView, out: &mut Vec<u8>) {
    for text in [&view.id, &view.rule, &view.condition, &view.severity, &view.device, &view.stream] {
        out.put_blob(text.as_bytes());
    }
    out.put_varint(view.tags.len() as u64);
    for (tag, value) in &view.tags {
        out.put_blob(tag.as_bytes());
        out.put_blob(value.as_bytes());
    }
    out.extend_from_slice(&view.value.to_le_bytes());
    put_optional(out, view.unit.as_ref());
    out.put_varint_signed(view.since_ms);
    for time in [view.fired_ms, view.cleared_ms] {
        out.push(u8::from(time.is_some()));
        if let Some(time) = time {
            out.put_varint_signed(time);
        }
    }
    out.push(u8::from(view.silenced) | u8::from(view.suppressed) << 1 | u8::from(view.acknowledged.is_some()) << 2);
    if let Some(acknowledged) = &view.acknowledged {
        out.put_blob(acknowledged.by.as_bytes());
        out.put_varint_signed(acknowledged.at_ms);
        out.put_blob(acknowledged.note.as_bytes());
    }
}

fn read_view(reader: &mut Reader<'_>) -> Result<AlertView, WireError> {
    let mut text = || name(reader, "text of an alert");
    let (id, rule, condition, severity, device, stream) = (text()?, text()?, text()?, text()?, text()?, text()?);
    let mut tags = Vec::new();
    for _ in 0..reader.count("tags", 64)? {
        tags.push((name(reader, "tag")?, name(reader, "tag")?));
    }
    let value = reader.f64()?;
    let unit = optional(reader)?;
    let since_ms = reader.varint_signed()?;
    let (fired_ms, cleared_ms) = (optional_time(reader)?, optional_time(reader)?);
    let flags = reader.u8()?;
    if flags >> 3 != 0 {
        return Err(reader.invalid("flags of an alert"));
    }
    let acknowledged = if flags & 4 != 0 {
        Some(crate::view::Acknowledged {
            by: name(reader, "acknowledged by")?,
            at_ms: reader.varint_signed()?,
            note: name(reader, "note")?,
        })
    } else {
        None
    };
    Ok(AlertView {
        id,
        state: AlertState::Cleared,
        rule,
        condition,
        severity,
        tags,
        device,
        stream,
        value,
        unit,
        since_ms,
        fired_ms,
        cleared_ms,
        acknowledged,
        silenced: flags & 1 != 0,
        suppressed: flags & 2 != 0,
    })
}
