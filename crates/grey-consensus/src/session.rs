//! Sessions: what ties two boots of two members together.
//!
//! A member that restarts may have forgotten. No message may cross from one of its
//! boots into another, else an acknowledgement of before a loss would count after
//! it. So every message names both boots, and a member believes that a peer is now
//! in another boot only after that boot has answered a challenge that was made up
//! since the previous one was believed. Statuses in order, one boot at a time:
//! everything else in `docs/design/consensus.md` builds on that.
//!
//! This module knows neither Raft nor the disk.

use crate::random::Random;
use crate::wire::{Address, Standing, Status};

/// What a peer last said about itself in the current session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) standing: Standing,
    pub(crate) life: u64,
    pub(crate) term: u64,
    pub(crate) last_index: u64,
    pub(crate) commit: u64,
    pub(crate) genesis: Vec<(u64, u64)>,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: u64,
    /// The boot that the peer is believed to be in; 0: none yet.
    boot: u64,
    /// The boot that last claimed to be the peer, believed or not: whom to answer.
    claimed_boot: u64,
    /// The challenge that a boot must answer to be believed.
    challenge: u64,
    /// What the peer wants answered.
    their_challenge: u64,
    /// Number of the last status taken from `boot`.
    last_number: u64,
    /// Statuses sent to this peer.
    sent: u64,
    /// What it said since this member booted.
    pub(crate) report: Option<Report>,
    /// It is configured with other members.
    pub(crate) other_group: bool,
    /// Ticks since anything came from the session.
    pub(crate) silent_ticks: u32,
}

impl Peer {
    /// True when messages can pass.
    pub(crate) fn is_open(&self) -> bool {
        self.boot != 0
    }
}

/// What a status changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Heard {
    /// A boot was believed that was not before: everything of the old one is void.
    pub(crate) is_new_boot: bool,
    /// The report is news.
    pub(crate) has_report: bool,
    /// The peer needs a status now.
    pub(crate) wants_reply: bool,
}

/// All sessions of one boot of one member.
#[derive(Debug)]
pub(crate) struct Sessions {
    me: u64,
    /// This boot's name.
    boot: u64,
    group: u64,
    peers: Vec<Peer>,
    random: Random,
}

impl Sessions {
    /// `members_sorted` includes `me`.
    pub(crate) fn new(me: u64, boot: u64, group: u64, members_sorted: &[u64], mut random: Random) -> Self {
        let peers = members_sorted
            .iter()
            .filter(|id| **id != me)
            .map(|id| Peer {
                id: *id,
                boot: 0,
                claimed_boot: 0,
                challenge: random.name(),
                their_challenge: 0,
                last_number: 0,
                sent: 0,
                report: None,
                other_group: false,
                silent_ticks: 0,
            })
            .collect();
        Self { me, boot, group, peers, random }
    }

    pub(crate) fn peers(&self) -> &[Peer] {
        &self.peers
    }

    pub(crate) fn peer(&self, id: u64) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.id == id)
    }

    fn peer_mut(&mut self, id: u64) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.id == id)
    }

    pub(crate) fn tick(&mut self) {
        for peer in &mut self.peers {
            peer.silent_ticks = peer.silent_ticks.saturating_add(1);
        }
    }

    /// How to address anything but a status; `None` without a session.
    pub(crate) fn address(&self, to: u64) -> Option<Address> {
        let peer = self.peer(to).filter(|peer| peer.is_open())?;
        Some(Address { from: self.me, to, from_boot: self.boot, to_boot: peer.boot })
    }

    /// True when a message (not a status) passes between the two boots that have the session.
    pub(crate) fn accepts(&mut self, address: Address) -> bool {
        let boot = self.boot;
        let Some(peer) = self.peer_mut(address.from) else { return false };
        let passes = peer.is_open() && address.from_boot == peer.boot && address.to_boot == boot;
        if passes {
            peer.silent_ticks = 0;
        }
        passes
    }

    /// The next status to a peer; `report` and `witness` are about this member.
    pub(crate) fn status(&mut self, to: u64, report: Report, witness: u64) -> Option<(Address, Status)> {
        let (me, boot, group) = (self.me, self.boot, self.group);
        let peer = self.peer_mut(to)?;
        peer.sent += 1;
        let status = Status {
            group,
            number: peer.sent,
            challenge: peer.challenge,
            answer: peer.their_challenge,
            has_session: peer.is_open() && peer.claimed_boot == peer.boot,
            standing: report.standing,
            life: report.life,
            term: report.term,
            last_index: report.last_index,
            commit: report.commit,
            witness,
            genesis: report.genesis,
        };
        Some((Address { from: me, to, from_boot: boot, to_boot: peer.claimed_boot }, status))
    }

    /// Takes a status from a member of the group.
    pub(crate) fn hear(&mut self, address: Address, status: &Status) -> Heard {
        let (boot, group) = (self.boot, self.group);
        let next_challenge = self.random.name();
        let Some(peer) = self.peer_mut(address.from) else { return Heard::default() };
        peer.other_group = status.group != group;
        if peer.other_group || address.from_boot == 0 {
            return Heard::default();
        }
        let mut heard = Heard::default();
        let to_this_boot = address.to_boot == boot;
        if to_this_boot && address.from_boot != peer.boot && status.answer == peer.challenge {
            // Alive since the last boot was believed, so newer than that one.
            peer.boot = address.from_boot;
            peer.challenge = next_challenge;
            peer.last_number = 0;
            peer.report = None;
            heard.is_new_boot = true;
        }
        let is_session = to_this_boot && address.from_boot == peer.boot;
        if is_session && status.number > peer.last_number {
            peer.last_number = status.number;
            peer.silent_ticks = 0;
            peer.report = Some(Report {
                standing: status.standing,
                life: status.life,
                term: status.term,
                last_index: status.last_index,
                commit: status.commit,
                genesis: status.genesis.clone(),
            });
            heard.has_report = true;
        }
        if !is_session || heard.has_report {
            peer.claimed_boot = address.from_boot;
            peer.their_challenge = status.challenge;
        }
        heard.wants_reply = !is_session || !status.has_session;
        heard
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(me: u64, boot: u64) -> Sessions {
        Sessions::new(me, boot, 1, &[1, 2], Random::new(boot))
    }

    fn report() -> Report {
        Report { standing: Standing::Full, life: 1, term: 2, last_index: 3, commit: 3, genesis: Vec::new() }
    }

    fn status(from: &mut Sessions, to: u64) -> (Address, Status) {
        from.status(to, report(), 0).expect("a member")
    }

    /// Lets the two talk until both are content, and returns how many statuses it took.
    fn meet(a: &mut Sessions, b: &mut Sessions) -> usize {
        let mut count = 0;
        let mut next = Some(1);
        while let Some(speaker) = next {
            count += 1;
            assert!(count < 10, "an endless greeting");
            let (from, to): (&mut Sessions, &mut Sessions) = if speaker == 1 { (a, b) } else { (b, a) };
            let (address, status) = status(from, to.me);
            next = to.hear(address, &status).wants_reply.then_some(3 - speaker);
        }
        count
    }

    #[test]
    fn two_boots_meet_in_few_messages() {
        let (mut a, mut b) = (sessions(1, 10), sessions(2, 20));
        assert!(meet(&mut a, &mut b) <= 5);
        let address = a.address(2).expect("open");
        assert!(b.accepts(address));
        assert!(b.address(1).is_some());
    }

    #[test]
    fn a_restart_closes_the_session_until_it_is_proven() {
        let (mut a, mut b) = (sessions(1, 10), sessions(2, 20));
        meet(&mut a, &mut b);
        let old = b.address(1).expect("open");
        let late = status(&mut b, 1);
        let mut restarted = sessions(2, 21);
        assert!(!restarted.accepts(a.address(2).expect("still the old one")));
        meet(&mut a, &mut restarted);
        assert!(a.accepts(restarted.address(1).expect("open")));
        assert!(!a.accepts(old), "a message of the old boot must not pass");
        assert!(!a.hear(late.0, &late.1).is_new_boot, "nor may a late status bring the old boot back");
        assert!(a.accepts(restarted.address(1).expect("open")));
    }

    #[test]
    fn a_late_status_of_a_boot_that_was_never_believed_is_too_late() {
        let (mut a, mut b) = (sessions(1, 10), sessions(2, 20));
        // Boot 20 learns the challenge and answers it, but the answer is delayed.
        let hello = status(&mut a, 2);
        b.hear(hello.0, &hello.1);
        let late = status(&mut b, 1);
        let mut restarted = sessions(2, 21);
        meet(&mut a, &mut restarted);
        assert!(!a.hear(late.0, &late.1).is_new_boot);
        assert!(a.accepts(restarted.address(1).expect("open")));
    }

    #[test]
    fn another_list_of_members_never_gets_a_session() {
        let mut a = sessions(1, 10);
        let mut b = Sessions::new(2, 20, 2, &[1, 2], Random::new(5));
        for _ in 0..3 {
            let (hello, reply) = (status(&mut a, 2), status(&mut b, 1));
            assert_eq!(b.hear(hello.0, &hello.1), Heard::default());
            assert_eq!(a.hear(reply.0, &reply.1), Heard::default());
        }
        assert!(a.address(2).is_none() && b.address(1).is_none());
        assert!(a.peers()[0].other_group && b.peers()[0].other_group);
    }
}
