//! A peer that sends well-formed nonsense. Nothing it sends may panic: Raft's own
//! assertions must all be out of its reach.

use bytes::Bytes;
use raft::eraftpb::{Entry, Message, MessageType};

use super::world::{Plan, World};
use crate::checkpoint;
use crate::entry::{ProposalId, Purpose};
use crate::group::Group;
use crate::random::Random;
use crate::runs::Runs;
use crate::wire::{self, Body, Chunk, ChunkAck, Standing, Status};

const KINDS: [MessageType; 9] = [
    MessageType::MsgAppend,
    MessageType::MsgAppendResponse,
    MessageType::MsgRequestVote,
    MessageType::MsgRequestVoteResponse,
    MessageType::MsgHeartbeat,
    MessageType::MsgHeartbeatResponse,
    MessageType::MsgTimeoutNow,
    MessageType::MsgRequestPreVote,
    MessageType::MsgRequestPreVoteResponse,
];

/// Numbers near everything that matters to the victim, and some far away.
fn number(random: &mut Random, victim: &Group) -> u64 {
    let status = victim.status();
    let near = [status.term, status.commit, status.last, status.first, status.applied];
    match random.below(12) {
        0 => 0,
        1 => 1 << 62,
        2 => random.below(1 << 40),
        pick => (near[pick as usize % near.len()] + random.below(5)).saturating_sub(2),
    }
}

fn entry(random: &mut Random, term: u64, index: u64) -> Entry {
    let purpose = match random.below(3) {
        0 => Purpose::TermStart,
        1 => Purpose::Readmit { member: 1 + random.below(3), life: random.next() },
        _ => Purpose::Proposal(ProposalId { member: 1, boot: random.next(), number: random.next() }),
    };
    let (context, data) = purpose.encode();
    Entry { term, index, context, data, ..Entry::default() }
}

fn body(random: &mut Random, victim: &Group) -> Body {
    let some = |random: &mut Random| number(random, victim);
    match random.below(10) {
        0 => {
            let (index, term) = (some(random), some(random));
            let total_bytes = match random.below(3) {
                0 => vec![7; 50],
                _ => checkpoint::encode(index, term, &Runs::new(index, term), b"state"),
            };
            Body::Chunk(Chunk {
                transfer: random.name(),
                term: some(random),
                index,
                index_term: term,
                total: total_bytes.len() as u64,
                offset: 0,
                bytes: total_bytes.into(),
            })
        }
        1 => Body::ChunkAck(ChunkAck { transfer: random.next(), received: some(random) }),
        2 => Body::Status(Status {
            group: wire::group_digest(&[1, 2, 3]),
            number: some(random),
            challenge: random.next(),
            answer: random.next(),
            has_session: random.below(2) == 0,
            standing: [Standing::Fresh, Standing::Apart, Standing::Joining, Standing::Full][random.below(4) as usize],
            life: random.next(),
            term: some(random),
            last_index: some(random),
            commit: some(random),
            // A witness would be believed, and rightly end the member.
            witness: 0,
            genesis: vec![(1, random.next())],
        }),
        _ => {
            let mut message = Message {
                msg_type: KINDS[random.below(9) as usize],
                reject: random.below(2) == 0,
                // A far term would leave all that follows behind.
                term: match random.below(50) {
                    0 => some(random),
                    _ => (victim.status().term + random.below(3)).saturating_sub(1),
                },
                log_term: some(random),
                index: some(random),
                commit: some(random),
                commit_term: some(random),
                reject_hint: some(random),
                ..Message::default()
            };
            if random.below(3) == 0 {
                message.context = Bytes::from_static(b"CampaignTransfer");
            }
            if random.below(2) == 0 {
                let mut term = some(random);
                let count = random.below(4);
                let entries: Vec<Entry> = (0..count)
                    .map(|position| {
                        term += random.below(2);
                        entry(random, term.min(1 << 62), message.index + 1 + position)
                    })
                    .collect();
                message.set_entries(entries.into());
            }
            Body::Raft(message)
        }
    }
}

#[test]
fn a_lying_peer_cannot_make_a_member_panic() {
    let mut stepped = 0;
    for seed in 0..60 {
        let mut world = World::new(3, seed, Plan::default());
        world.start_all().expect("start");
        let leader = world.run_until_leader(5_000).expect("a leader");
        for _ in 0..world.random.below(60) {
            world.propose(leader).expect("propose");
            world.run_for(5).expect("run");
        }
        // The victim is now and then the leader, and now and then one that joins again.
        let victim = 1 + world.random.below(3);
        let liar = 1 + victim % 3;
        if seed % 4 == 0 && victim != leader {
            world.stop(victim, true);
            world.wipe(victim);
            world.start(victim).expect("start");
            world.run_for(12).expect("run");
        }
        let mut random = Random::new(seed);
        let Some(mut group) = world.node(victim).group.take() else { continue };
        for _ in 0..400 {
            let address = world.node(liar).group.as_ref().and_then(|group| group.sessions.address(victim));
            let (Some(address), body) = (address, body(&mut random, &group)) else { break };
            if let Some(bytes) = wire::encode(address, &body) {
                stepped += usize::from(group.step(liar, &bytes).is_ok());
            }
            if random.below(8) == 0 {
                group.tick();
            }
            if random.below(2) == 0 && group.poll().is_err() {
                break;
            }
        }
    }
    assert!(stepped > 3_000, "only {stepped} messages came through");
}
