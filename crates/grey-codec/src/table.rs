//! Interning: each distinct string or list of strings is stored once per
//! block and named by its place of first appearance.

use hashbrown::HashTable;

/// Distinct strings.
#[derive(Debug, Default)]
pub(crate) struct StringTable {
    bytes: String,
    ends: Vec<u32>,
    index: HashTable<u32>,
}

/// Hashes bytes with fixed keys, so that a run can be replayed. What an
/// attacker gains by choosing colliding names is bounded by one block's events.
pub(crate) fn hash(parts: &[&[u8]]) -> u64 {
    let crc = parts.iter().fold(!0, |crc, part| crc32c::crc32c_append(crc, part));
    // The table takes its tag from the high bits and its slot from the low ones.
    u64::from(crc).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

fn hash_list(items: &[u32]) -> u64 {
    items.iter().fold(items.len() as u64, |hash, item| {
        (hash ^ u64::from(*item)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    })
}

impl StringTable {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Bytes of all strings.
    pub(crate) fn text(&self) -> &str {
        &self.bytes
    }

    pub(crate) fn get(&self, at: u32) -> &str {
        text_at(&self.bytes, &self.ends, at as usize)
    }

    /// Lengths in order.
    pub(crate) fn lengths(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.len() as u32).map(|at| self.get(at).len() as u32)
    }

    pub(crate) fn find(&self, text: &str) -> Option<u32> {
        let (bytes, ends) = (&self.bytes, &self.ends);
        self.index.find(hash(&[text.as_bytes()]), |&at| text_at(bytes, ends, at as usize) == text).copied()
    }

    /// The place of a string, which is added when it is new.
    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        if let Some(at) = self.find(text) {
            return at;
        }
        let at = self.ends.len() as u32;
        self.bytes.push_str(text);
        self.ends.push(self.bytes.len() as u32);
        let (bytes, ends) = (&self.bytes, &self.ends);
        let rehash = |&at: &u32| hash(&[text_at(bytes, ends, at as usize).as_bytes()]);
        self.index.insert_unique(hash(&[text.as_bytes()]), at, rehash);
        at
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.index.clear();
    }
}

fn text_at<'a>(bytes: &'a str, ends: &[u32], at: usize) -> &'a str {
    let start = if at == 0 { 0 } else { ends[at - 1] as usize };
    &bytes[start..ends[at] as usize]
}

/// Distinct lists of string places.
#[derive(Debug, Default)]
pub(crate) struct ListTable {
    items: Vec<u32>,
    ends: Vec<u32>,
    index: HashTable<u32>,
}

impl ListTable {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn get(&self, at: u32) -> &[u32] {
        list_at(&self.items, &self.ends, at as usize)
    }

    /// The place of a list and whether it is new.
    pub(crate) fn intern(&mut self, list: &[u32]) -> (u32, bool) {
        let (items, ends) = (&self.items, &self.ends);
        let hash = hash_list(list);
        if let Some(&at) = self.index.find(hash, |&at| list_at(items, ends, at as usize) == list) {
            return (at, false);
        }
        let at = self.ends.len() as u32;
        self.items.extend_from_slice(list);
        self.ends.push(self.items.len() as u32);
        let (items, ends) = (&self.items, &self.ends);
        self.index.insert_unique(hash, at, |&at| hash_list(list_at(items, ends, at as usize)));
        (at, true)
    }

    pub(crate) fn clear(&mut self) {
        self.items.clear();
        self.ends.clear();
        self.index.clear();
    }
}

fn list_at<'a>(items: &'a [u32], ends: &[u32], at: usize) -> &'a [u32] {
    let start = if at == 0 { 0 } else { ends[at - 1] as usize };
    &items[start..ends[at] as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_appearance_gives_the_place() {
        let mut table = StringTable::default();
        let places: Vec<u32> = ["a", "", "bb", "a", ""].iter().map(|text| table.intern(text)).collect();
        assert_eq!(places, [0, 1, 2, 0, 1]);
        assert_eq!((table.get(0), table.get(1), table.get(2), table.text()), ("a", "", "bb", "abb"));
        assert_eq!((table.find("bb"), table.find("c")), (Some(2), None));
        assert_eq!(table.lengths().collect::<Vec<_>>(), [1, 0, 2]);

        let mut lists = ListTable::default();
        assert_eq!(lists.intern(&[1, 2]), (0, true));
        assert_eq!(lists.intern(&[]), (1, true));
        assert_eq!(lists.intern(&[1, 2]), (0, false));
        assert_eq!(lists.get(0), [1, 2]);
    }
}
