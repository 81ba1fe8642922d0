//! A bounded table of what is known of one key each: found by one hash
//! lookup, ordered by last use. Keys are a scope and two names: a device and
//! its stream, or a group and nothing.
//!
//! Slots are places in memory; they differ after a restore, so that nothing
//! that leaves the engine may depend on them.

use std::hash::BuildHasher;

use grey_model::Name;
use hashbrown::{DefaultHashBuilder, HashTable};

/// No slot.
const NONE: u32 = u32::MAX;
/// Slots looked at, from the least recently used, for one that nothing depends on.
const VICTIMS_MAX: usize = 64;

/// One key and what is known of it.
#[derive(Debug)]
pub(crate) struct Slot<T> {
    /// Which set of groups, a position in the rule set's scopes.
    pub(crate) scope: u16,
    /// The device, or the group.
    pub(crate) key: Name,
    /// The stream, or empty.
    pub(crate) stream: Name,
    /// Counts how often the slot was given to another key.
    pub(crate) generation: u32,
    older: u32,
    newer: u32,
    pub(crate) item: T,
}

/// The bounded table.
#[derive(Debug)]
pub(crate) struct Table<T> {
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
    slots: Vec<Slot<T>>,
    /// Slots that were given back.
    free: Vec<u32>,
    oldest: u32,
    newest: u32,
    max: usize,
}

impl<T> Table<T> {
    pub(crate) fn new(max: usize) -> Self {
        Self {
            index: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            slots: Vec::new(),
            free: Vec::new(),
            oldest: NONE,
            newest: NONE,
            max: max.clamp(1, NONE as usize - 1),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(crate) fn max(&self) -> usize {
        self.max
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() >= self.max
    }

    #[inline]
    pub(crate) fn get(&self, at: u32) -> &Slot<T> {
        &self.slots[at as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, at: u32) -> &mut Slot<T> {
        &mut self.slots[at as usize]
    }

    /// The slot, if it still belongs to the key that it was taken for.
    pub(crate) fn current(&self, at: u32, generation: u32) -> Option<&Slot<T>> {
        self.slots.get(at as usize).filter(|slot| slot.generation == generation)
    }

    #[inline]
    fn hash(&self, scope: u16, key: &str, stream: &str) -> u64 {
        self.hasher.hash_one((scope, key, stream))
    }

    /// The key's slot, now the most recently used.
    #[inline]
    pub(crate) fn find(&mut self, scope: u16, key: &str, stream: &str) -> Option<u32> {
        let hash = self.hash(scope, key, stream);
        let slots = &self.slots;
        let at = *self.index.find(hash, |&at| {
            let slot = &slots[at as usize];
            *slot.key == *key && *slot.stream == *stream && slot.scope == scope
        })?;
        if at != self.newest {
            self.unlink(at);
            self.link_newest(at);
        }
        Some(at)
    }

    /// Adds a key that is not in the table, as the most recently used. There must be room.
    pub(crate) fn insert(&mut self, scope: u16, key: &Name, stream: &Name, item: T) -> u32 {
        let (key, stream) = (key.clone(), stream.clone());
        let at = match self.free.pop() {
            Some(at) => {
                let slot = &mut self.slots[at as usize];
                let generation = slot.generation.wrapping_add(1);
                *slot = Slot { scope, key, stream, generation, older: NONE, newer: NONE, item };
                at
            }
            None => {
                self.slots.push(Slot { scope, key, stream, generation: 0, older: NONE, newer: NONE, item });
                self.slots.len() as u32 - 1
            }
        };
        let (hasher, slots) = (&self.hasher, &self.slots);
        let hash = |&at: &u32| {
            let slot = &slots[at as usize];
            hasher.hash_one((slot.scope, &*slot.key, &*slot.stream))
        };
        self.index.insert_unique(hash(&at), at, hash);
        self.link_newest(at);
        at
    }

    /// Takes a key out; its item is replaced by another that is never looked at.
    pub(crate) fn remove(&mut self, at: u32, empty: T) -> T {
        let slot = &self.slots[at as usize];
        let hash = self.hash(slot.scope, &slot.key, &slot.stream);
        if let Ok(entry) = self.index.find_entry(hash, |&other| other == at) {
            entry.remove();
        }
        self.unlink(at);
        self.free.push(at);
        let slot = &mut self.slots[at as usize];
        slot.generation = slot.generation.wrapping_add(1);
        std::mem::replace(&mut slot.item, empty)
    }

    /// The key to give up for a new one: the least recently used that is idle, or else the least recently used.
    pub(crate) fn victim(&self, is_idle: impl Fn(&T) -> bool) -> u32 {
        self.by_age().take(VICTIMS_MAX).find(|&at| is_idle(&self.get(at).item)).unwrap_or(self.oldest)
    }

    /// Slots, least recently used first.
    pub(crate) fn by_age(&self) -> impl Iterator<Item = u32> + '_ {
        let next = |at: u32| (at != NONE).then_some(at);
        std::iter::successors(next(self.oldest), move |&at| next(self.get(at).newer))
    }

    /// Slots in the order of their keys.
    pub(crate) fn by_key(&self) -> Vec<u32> {
        let mut slots: Vec<u32> = self.by_age().collect();
        let key = |at: &u32| {
            let slot = self.get(*at);
            (slot.scope, slot.key.as_str(), slot.stream.as_str())
        };
        slots.sort_by(|a, b| key(a).cmp(&key(b)));
        slots
    }

    /// Takes everything out, least recently used first.
    pub(crate) fn drain(&mut self) -> Vec<(u16, Name, Name, T)> {
        let order: Vec<u32> = self.by_age().collect();
        let mut slots: Vec<Option<Slot<T>>> = std::mem::take(&mut self.slots).into_iter().map(Some).collect();
        let taken = order.into_iter().filter_map(|at| slots.get_mut(at as usize)?.take());
        let items = taken.map(|slot| (slot.scope, slot.key, slot.stream, slot.item)).collect();
        *self = Self { hasher: self.hasher.clone(), ..Self::new(self.max) };
        items
    }

    fn unlink(&mut self, at: u32) {
        let Slot { older, newer, .. } = self.slots[at as usize];
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
        let slot = &mut self.slots[at as usize];
        (slot.older, slot.newer) = (before, NONE);
        match before {
            NONE => self.oldest = at,
            before => self.slots[before as usize].newer = at,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_ordered_by_use_and_given_up() {
        let mut table = Table::new(2);
        let a = table.insert(0, &"a".into(), &"x".into(), 1);
        let b = table.insert(0, &"b".into(), &"x".into(), 2);
        assert!(table.is_full() && table.find(1, "a", "x").is_none());
        assert_eq!(table.find(0, "a", "x"), Some(a));
        assert_eq!((table.victim(|_| false), table.victim(|item| *item == 1)), (b, a));
        let generation = table.get(b).generation;
        assert_eq!(table.remove(b, 0), 2);
        assert!(table.current(b, generation).is_none() && table.len() == 1);
        assert_eq!(table.insert(7, &"c".into(), &"".into(), 3), b);
        assert_eq!(table.by_key(), [a, b]);
        let items: Vec<_> =
            table.drain().into_iter().map(|(scope, key, _, item)| (scope, key.to_string(), item)).collect();
        assert_eq!(items, [(0, "a".to_owned(), 1), (7, "c".to_owned(), 3)]);
        assert_eq!((table.len(), table.find(0, "a", "x")), (0, None));
    }
}
