//! The table of series: one slot per (device, stream), found by one hash
//! lookup, ordered by last use, bounded.

use std::sync::Arc;

use grey_model::Name;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use crate::set::RuleSet;
use crate::unit::Conversion;
use crate::window::Window;

/// No slot.
pub(crate) const NONE: u32 = u32::MAX;
/// Slots looked at, from the least recently used, for one that nothing depends on.
const VICTIMS_MAX: usize = 64;

/// A threshold's state for one series.
#[derive(Debug, Clone, Default)]
pub(crate) struct AlertState {
    /// Since when it fires, Unix ms, and with which value.
    pub(crate) firing: Option<(i64, f64)>,
    /// The last foreign unit seen and how it converts: a cache, no state.
    pub(crate) converted: Option<(Name, Option<Conversion>)>,
}

/// Everything that is known of one device's stream.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) device: Name,
    pub(crate) stream: Name,
    /// The thresholds that watch the stream, and the state of each in the same order.
    pub(crate) watching: Option<Arc<[u16]>>,
    pub(crate) alerts: Box<[AlertState]>,
    /// One window per aggregate of the rule set.
    pub(crate) windows: Box<[Window]>,
    older: u32,
    newer: u32,
}

impl Series {
    fn is_idle(&self) -> bool {
        self.windows.iter().all(|w| w.count == 0) && self.alerts.iter().all(|a| a.firing.is_none())
    }
}

/// The bounded table.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Series>,
    /// Least and most recently used.
    oldest: u32,
    newest: u32,
    max: usize,
}

impl SeriesTable {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            oldest: NONE,
            newest: NONE,
            max: max.clamp(1, NONE as usize - 1),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= self.max
    }

    pub(crate) fn get(&self, at: u32) -> &Series {
        &self.slots[at as usize]
    }

    pub(crate) fn get_mut(&mut self, at: u32) -> &mut Series {
        &mut self.slots[at as usize]
    }

    fn hash(&self, device: &str, stream: &str) -> u64 {
        self.hasher.hash_one((device, stream))
    }

    /// The series' slot, now the most recently used.
    pub(crate) fn find(&mut self, device: &str, stream: &str) -> Option<u32> {
        let hash = self.hash(device, stream);
        let slots = &self.slots;
        let at = *self.index.find(hash, |&at| {
            let series = &slots[at as usize];
            &*series.device == device && &*series.stream == stream
        })?;
        if at != self.newest {
            self.unlink(at);
            self.link_newest(at);
        }
        Some(at)
    }

    /// Adds a series that is not in the table, as the most recently used. There must be room.
    pub(crate) fn insert(&mut self, rules: &RuleSet, device: &Name, stream: &Name) -> u32 {
        let at = self.slots.len() as u32;
        self.slots.push(new_series(rules, device, stream));
        self.index_slot(at);
        self.link_newest(at);
        at
    }

    /// Puts a new series into the slot of another, as the most recently used.
    pub(crate) fn replace(&mut self, at: u32, rules: &RuleSet, device: &Name, stream: &Name) {
        let old = &self.slots[at as usize];
        let hash = self.hash(&old.device, &old.stream);
        if let Ok(entry) = self.index.find_entry(hash, |&slot| slot == at) {
            entry.remove();
        }
        self.unlink(at);
        self.slots[at as usize] = new_series(rules, device, stream);
        self.index_slot(at);
        self.link_newest(at);
    }

    /// The series to give up for a new one: the least recently used that has no
    /// open window and no firing alert, or else the least recently used.
    pub(crate) fn victim(&self) -> u32 {
        self.by_age().take(VICTIMS_MAX).find(|&at| self.get(at).is_idle()).unwrap_or(self.oldest)
    }

    /// Slots, least recently used first.
    pub(crate) fn by_age(&self) -> impl Iterator<Item = u32> + '_ {
        let next = |at: u32| (at != NONE).then_some(at);
        std::iter::successors(next(self.oldest), move |&at| next(self.get(at).newer))
    }

    fn index_slot(&mut self, at: u32) {
        let (hasher, slots) = (&self.hasher, &self.slots);
        let hash = |&at: &u32| {
            let series = &slots[at as usize];
            hasher.hash_one((&*series.device, &*series.stream))
        };
        self.index.insert_unique(hash(&at), at, hash);
    }

    fn unlink(&mut self, at: u32) {
        let Series { older, newer, .. } = self.slots[at as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.slots[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.slots[newer as usize].older = older,
        }
    }

    fn link_newest(&mut self, at: u32) {
        let before = std::mem::replace(&mut self.newest, at);
        let series = &mut self.slots[at as usize];
        (series.older, series.newer) = (before, NONE);
        match before {
            NONE => self.oldest = at,
            before => self.slots[before as usize].newer = at,
        }
    }
}

fn new_series(rules: &RuleSet, device: &Name, stream: &Name) -> Series {
    let watching = rules.by_stream.get(&**stream).cloned();
    let alerts = vec![AlertState::default(); watching.as_ref().map_or(0, |w| w.len())];
    Series {
        device: device.clone(),
        stream: stream.clone(),
        watching,
        alerts: alerts.into(),
        windows: vec![Window::default(); rules.aggregates.len()].into(),
        older: NONE,
        newer: NONE,
    }
}

/// The series that have an open window of one aggregate, in the order of their
/// first reading in it. Removal leaves a hole; holes are closed when they are
/// as many as entries.
#[derive(Debug, Default)]
pub(crate) struct OpenWindows {
    /// Slots, [`NONE`] for a hole.
    entries: Vec<u32>,
    holes: usize,
    /// Start of the window, Unix ms.
    pub(crate) start_ms: i64,
    /// End of the window, Unix ms, exclusive.
    pub(crate) end_ms: i64,
}

impl OpenWindows {
    /// The window of a time; before any time it has no extent.
    pub(crate) fn at(time_ms: i64, interval_ms: i64) -> Self {
        let mut open = Self::default();
        if time_ms >= 0 {
            open.move_to(time_ms, interval_ms);
        }
        open
    }

    /// Moves on to the window of a time. Windows are aligned to the Unix epoch.
    pub(crate) fn move_to(&mut self, time_ms: i64, interval_ms: i64) {
        self.start_ms = time_ms.div_euclid(interval_ms) * interval_ms;
        self.end_ms = self.start_ms + interval_ms;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.len() == self.holes
    }

    /// Adds a slot; returns its position.
    pub(crate) fn push(&mut self, slot: u32) -> u32 {
        self.entries.push(slot);
        self.entries.len() as u32 - 1
    }

    /// Takes a slot out. `moved` is told the new position of every slot that moves.
    pub(crate) fn remove(&mut self, position: u32, mut moved: impl FnMut(u32, u32)) {
        self.entries[position as usize] = NONE;
        self.holes += 1;
        if self.holes > 16 && self.holes * 2 > self.entries.len() {
            self.entries.retain(|slot| *slot != NONE);
            self.holes = 0;
            for (position, slot) in self.entries.iter().enumerate() {
                moved(*slot, position as u32);
            }
        }
    }

    /// The slots in order.
    pub(crate) fn slots(&self) -> impl Iterator<Item = u32> + '_ {
        self.entries.iter().copied().filter(|slot| *slot != NONE)
    }

    /// All slots in order, leaving none.
    pub(crate) fn take(&mut self) -> Vec<u32> {
        self.holes = 0;
        let mut slots = std::mem::take(&mut self.entries);
        slots.retain(|slot| *slot != NONE);
        slots
    }

    /// Gives the memory of a list that was taken back for reuse.
    pub(crate) fn reuse(&mut self, mut list: Vec<u32>) {
        if self.entries.is_empty() {
            list.clear();
            self.entries = list;
        }
    }
}
