//! What a device was acknowledged for.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A set of reading numbers, dense from 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct NumberSet {
    words: Vec<u64>,
    len: u64,
}

impl NumberSet {
    /// Adds a number; false if it was there.
    pub(crate) fn insert(&mut self, n: u64) -> bool {
        let (word, bit) = ((n / 64) as usize, 1 << (n % 64));
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        let fresh = self.words[word] & bit == 0;
        self.words[word] |= bit;
        self.len += u64::from(fresh);
        fresh
    }

    /// True if the number is in the set.
    pub(crate) fn contains(&self, n: u64) -> bool {
        self.words.get((n / 64) as usize).is_some_and(|word| word & (1 << (n % 64)) != 0)
    }

    /// How many numbers are in the set.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The numbers, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u64> {
        (0..self.words.len() as u64 * 64).filter(|n| self.contains(*n))
    }
}

/// The numbers of the readings that one device was acknowledged for.
#[derive(Debug)]
pub(crate) struct Record {
    prefix: String,
    numbers: Mutex<NumberSet>,
}

impl Record {
    /// An empty record.
    pub(crate) fn new(site: &str, device: &str) -> Self {
        Self { prefix: format!("{site}.{device}"), numbers: Mutex::default() }
    }

    /// The unique id of a reading, which makes a resend idempotent.
    pub(crate) fn id(&self, n: u64) -> String {
        format!("{}.{n}", self.prefix)
    }

    /// The device's part of the ids.
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Takes an id apart: the device's part and the number.
    pub(crate) fn split_id(id: &str) -> Option<(&str, u64)> {
        let (prefix, n) = id.rsplit_once('.')?;
        Some((prefix, n.parse().ok()?))
    }

    /// Notes an acknowledgement; false if it was noted before.
    pub(crate) fn acknowledge(&self, n: u64) -> bool {
        self.lock().insert(n)
    }

    /// The numbers acknowledged so far.
    pub(crate) fn numbers(&self) -> NumberSet {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, NumberSet> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_once() {
        let mut set = NumberSet::default();
        for n in [0, 63, 64, 1000, 63] {
            set.insert(n);
        }
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, 1000]);
        assert!(set.len() == 4 && !set.contains(1) && !set.contains(100_000));
    }

    #[test]
    fn ids_come_apart_again() {
        let record = Record::new("north", "vib-03");
        assert_eq!(Record::split_id(&record.id(17)), Some(("north.vib-03", 17)));
        assert_eq!(Record::split_id("aggregate"), None);
    }
}
