//! What must hold in every run, whatever the faults.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

/// What all members together have shown so far.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    /// Every committed entry that any member gave out: index to term and data.
    pub(crate) log: BTreeMap<u64, (u64, Bytes)>,
    /// Terms and who led them.
    leaders: BTreeMap<u64, u64>,
    /// Accepted proposals and where they were accepted: token to member and data.
    open: BTreeMap<u64, (u64, Bytes)>,
    /// Open reads and the highest index that was committed anywhere before each.
    reads: BTreeMap<u64, u64>,
    /// Tokens whose commit was reported to the caller.
    pub(crate) acknowledged: BTreeSet<u64>,
    pub(crate) dropped: u64,
    pub(crate) reads_served: u64,
}

impl Checker {
    pub(crate) fn proposed(&mut self, member: u64, token: u64, data: Bytes) {
        self.open.insert(token, (member, data));
    }

    pub(crate) fn asked(&mut self, token: u64) {
        let committed = self.log.last_key_value().map_or(0, |(index, _)| *index);
        self.reads.insert(token, committed);
    }

    /// A crash leaves nobody to tell the fate of these.
    pub(crate) fn crashed(&mut self, member: u64) {
        self.open.retain(|_, (at, _)| *at != member);
    }

    pub(crate) fn committed(
        &mut self,
        member: u64,
        index: u64,
        term: u64,
        data: &Bytes,
        token: Option<u64>,
    ) -> Result<(), String> {
        let known = self.log.entry(index).or_insert_with(|| (term, data.clone()));
        if *known != (term, data.clone()) {
            return Err(format!(
                "unsafe: member {member} committed another entry at {index}: terms {} and {term}",
                known.0
            ));
        }
        let Some(token) = token else { return Ok(()) };
        match self.open.remove(&token) {
            Some((at, proposed)) if at == member && proposed == *data => {
                self.acknowledged.insert(token);
                Ok(())
            }
            found => Err(format!("unsafe: member {member} committed token {token} as its own, which was {found:?}")),
        }
    }

    pub(crate) fn dropped(&mut self, member: u64, token: u64) -> Result<(), String> {
        self.dropped += 1;
        if self.reads.remove(&token).is_some() || self.open.remove(&token).is_some_and(|(at, _)| at == member) {
            return Ok(());
        }
        Err(format!("unsafe: member {member} dropped token {token}, which was not open there"))
    }

    pub(crate) fn read(&mut self, member: u64, token: u64, index: u64, applied: u64) -> Result<(), String> {
        self.reads_served += 1;
        match self.reads.remove(&token) {
            Some(needed) if index >= needed && applied >= index => Ok(()),
            found => {
                Err(format!("unsafe: member {member} may serve read {token} at {index}, applied {applied}: {found:?}"))
            }
        }
    }

    pub(crate) fn leads(&mut self, member: u64, term: u64) -> Result<(), String> {
        let leader = *self.leaders.entry(term).or_insert(member);
        if leader == member {
            Ok(())
        } else {
            Err(format!("unsafe: members {leader} and {member} both led term {term}"))
        }
    }

    /// A member's whole history must be what the group committed up to there.
    pub(crate) fn history(&self, member: u64, applied: u64, history: &[(u64, Bytes)]) -> Result<(), String> {
        let expected: Vec<(u64, Bytes)> =
            self.log.range(..=applied).map(|(index, (_, data))| (*index, data.clone())).collect();
        if expected == history {
            return Ok(());
        }
        let at = expected.iter().zip(history).take_while(|(a, b)| a == b).count();
        Err(format!(
            "unsafe: member {member} applied {} entries up to {applied} where {} were committed; they differ from {:?} on",
            history.len(),
            expected.len(),
            expected.get(at).map(|(index, _)| index)
        ))
    }

    /// At the end nothing that a caller was told of may be missing, and nothing may be open.
    pub(crate) fn end(&self) -> Result<(), String> {
        if let Some((token, (member, _))) = self.open.first_key_value() {
            return Err(format!("unsafe: token {token} of member {member} never ended"));
        }
        let kept: BTreeSet<u64> = self.log.values().filter_map(|(_, data)| super::world::token_of(data)).collect();
        match self.acknowledged.difference(&kept).next() {
            Some(token) => Err(format!("unsafe: token {token} was acknowledged and is lost")),
            None => Ok(()),
        }
    }

    pub(crate) fn terms(&self) -> usize {
        self.leaders.len()
    }
}
