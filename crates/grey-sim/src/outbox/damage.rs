//! Damage to files while the site is down, and what may be lost by it.

use std::collections::BTreeSet;
use std::path::Path;

use super::count::{Counts, Happening};
use super::site::Site;
use crate::random::Random;

/// What was damaged in a history: how much the checks may ask for.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// Anything at all.
    pub(crate) is_any: bool,
    /// Readings that were acknowledged, and in no block when the intake was damaged.
    pub(crate) may_be_lost: BTreeSet<u64>,
    /// Ids may have been forgotten: what is sent again may count again.
    pub(crate) forgot_ids: bool,
    /// A checkpoint was damaged, and on a full outbox there is but one.
    pub(crate) forgot_books: bool,
}

impl Damage {
    /// Damages a file; returns what was done.
    pub(crate) fn strike(&mut self, site: &Site, random: &mut Random, counts: &mut Counts) -> String {
        let disk = &site.disk;
        let files: Vec<(String, u64)> =
            disk.files().into_iter().filter(|(path, len)| *len > 0 && !path.contains("quarantine")).collect();
        let Some((path, len)) = files.get(random.below(files.len().max(1) as u64) as usize) else {
            return "nothing to damage".into();
        };
        let (name, at) = (Path::new(path), random.below(*len));
        let (what, done) = match random.below(4) {
            0 => (Happening::Flip, disk.flip(name, at, (random.next() % 8) as u8)),
            1 => (Happening::Cut, disk.truncate(name, at)),
            2 => (Happening::Removed, disk.lose(name)),
            _ => (Happening::Zeroed, disk.zero(name, at, random.between(1..=2_000))),
        };
        if let Err(error) = done {
            return format!("{path} could not be damaged: {error}");
        }
        counts.note(what);
        self.is_any = true;
        let within = |folder: &str| path.starts_with(folder);
        if within("intake/") {
            self.may_be_lost.extend(site.exposed());
        }
        self.forgot_ids |= within("intake/") || within("ids/") || within("identity") || within("checkpoints/");
        self.forgot_books |= within("checkpoints/");
        format!("{} at {at} of {path} ({len} bytes)", what.as_str())
    }
}
