//! When a member may begin to take part: bootstrap, and the way back after a loss.
//!
//! Pure decisions over what the peers reported since this member booted. The rules
//! and why they are safe stand in `docs/design/consensus.md`, under the same names.

use crate::memory::{Member, Memory};
use crate::session::Report;
use crate::wire::Standing;

/// What a member should become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// The group begins, or has begun, with this life among its founders.
    Found(Vec<(u64, u64)>),
    /// The group has begun without this life: an earlier life's promises are forgotten.
    Withdraw,
    /// Take part without a vote, in terms from `barrier` on.
    Join {
        /// The highest term that any peer reported.
        barrier: u64,
    },
}

/// Decides from the reports of all peers, in any order; `None` for one not heard since boot.
pub(crate) fn decide(member: &Member, reports: &[(u64, Option<&Report>)]) -> Option<Step> {
    match member.memory {
        Memory::Fresh => decide_fresh(member, reports),
        Memory::Apart => decide_apart(member, reports),
        Memory::Joining { .. } | Memory::Full | Memory::Damaged { .. } => None,
    }
}

fn decide_fresh(member: &Member, reports: &[(u64, Option<&Report>)]) -> Option<Step> {
    let me = (member.id, member.life);
    let heard = || reports.iter().filter_map(|(id, report)| Some((*id, (*report)?)));
    // Rule F1: somebody remembers the group's beginning, and not with this life.
    if heard().any(|(_, report)| report.standing != Standing::Fresh && !report.genesis.contains(&me)) {
        return Some(Step::Withdraw);
    }
    // Rule F2: everybody must have spoken, since a silent one might be the one that remembers.
    if heard().count() < reports.len() {
        return None;
    }
    if let Some((_, founder)) = heard().find(|(_, report)| report.standing != Standing::Fresh) {
        return Some(Step::Found(founder.genesis.clone()));
    }
    let mut genesis: Vec<_> = heard().map(|(id, report)| (id, report.life)).chain([me]).collect();
    genesis.sort_unstable();
    Some(Step::Found(genesis))
}

fn decide_apart(member: &Member, reports: &[(u64, Option<&Report>)]) -> Option<Step> {
    let heard: Vec<&Report> = reports.iter().filter_map(|(_, report)| *report).collect();
    // Rule A1: the one candidate that got this member's forgotten vote may be any of them.
    if heard.len() < reports.len() {
        return None;
    }
    // Rule A2: every quorum of the past must have a witness left.
    let forgetful = 1 + heard.iter().filter(|r| matches!(r.standing, Standing::Fresh | Standing::Apart)).count();
    let quorum = member.members.len() / 2 + 1;
    if forgetful >= quorum {
        return None;
    }
    Some(Step::Join { barrier: heard.iter().map(|report| report.term).max()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(memory: Memory) -> Member {
        Member { id: 1, members: vec![1, 2, 3], life: 11, memory, genesis: Vec::new() }
    }

    fn report(standing: Standing, life: u64, term: u64, genesis: &[(u64, u64)]) -> Report {
        Report { standing, life, term, last_index: 0, commit: 0, genesis: genesis.to_vec() }
    }

    fn decide_with(memory: Memory, two: Option<&Report>, three: Option<&Report>) -> Option<Step> {
        decide(&member(memory), &[(2, two), (3, three)])
    }

    #[test]
    fn a_group_begins_only_when_all_are_fresh() {
        let (two, three) = (report(Standing::Fresh, 12, 0, &[]), report(Standing::Fresh, 13, 0, &[]));
        assert_eq!(decide_with(Memory::Fresh, Some(&two), None), None);
        let genesis = vec![(1, 11), (2, 12), (3, 13)];
        assert_eq!(decide_with(Memory::Fresh, Some(&two), Some(&three)), Some(Step::Found(genesis.clone())));
        let founder = report(Standing::Full, 12, 1, &genesis);
        assert_eq!(decide_with(Memory::Fresh, Some(&founder), None), None, "the third might know better");
        assert_eq!(decide_with(Memory::Fresh, Some(&founder), Some(&three)), Some(Step::Found(genesis)));
    }

    #[test]
    fn a_life_that_the_group_does_not_know_withdraws() {
        let founder = report(Standing::Full, 12, 1, &[(1, 10), (2, 12), (3, 13)]);
        let confused = report(Standing::Full, 13, 1, &[(1, 11), (2, 12), (3, 13)]);
        assert_eq!(decide_with(Memory::Fresh, Some(&founder), None), Some(Step::Withdraw));
        assert_eq!(decide_with(Memory::Fresh, Some(&founder), Some(&confused)), Some(Step::Withdraw));
        let lost = report(Standing::Apart, 12, 0, &[]);
        assert_eq!(decide_with(Memory::Fresh, Some(&lost), None), Some(Step::Withdraw));
    }

    #[test]
    fn a_lost_member_waits_for_every_term_and_for_a_quorum_that_remembers() {
        let (two, three) = (report(Standing::Full, 12, 4, &[]), report(Standing::Full, 13, 7, &[]));
        assert_eq!(decide_with(Memory::Apart, Some(&two), None), None);
        assert_eq!(decide_with(Memory::Apart, Some(&two), Some(&three)), Some(Step::Join { barrier: 7 }));
        let lost = report(Standing::Apart, 13, 0, &[]);
        assert_eq!(decide_with(Memory::Apart, Some(&two), Some(&lost)), None);
        let joining = report(Standing::Joining, 13, 7, &[]);
        assert_eq!(decide_with(Memory::Apart, Some(&two), Some(&joining)), Some(Step::Join { barrier: 7 }));
    }
}
