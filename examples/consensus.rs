//! A replicated log without sockets and clocks: a group of one, and a group of
//! three whose messages are passed by hand, through the loss of a member.
//!
//! `cargo run -p grey-examples --example consensus`

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use grey_consensus::{Config, ConsensusError, Group, Role};
use grey_disk::SimDisk;

/// Ticks within which a group of three on a perfect network does anything.
const PATIENCE_TICKS: u32 = 1_000;

fn open(id: u64, members: &[u64], disk: &SimDisk, boot: u64) -> Result<Group, ConsensusError> {
    let config = Config::new(id, members.to_vec(), id * 1_000 + boot);
    let (group, restored) = Group::open(Arc::new(disk.clone()), Path::new("group"), config)?;
    println!("member {id}: {:?}", restored.condition);
    Ok(group)
}

/// The members that run, and what each has applied: here, the texts in their order.
#[derive(Default)]
struct Cluster {
    groups: BTreeMap<u64, Group>,
    applied: BTreeMap<u64, Vec<Bytes>>,
}

impl Cluster {
    /// One tick of everyone's time, and every message that follows from it.
    fn tick(&mut self) -> Result<(), ConsensusError> {
        self.groups.values_mut().for_each(Group::tick);
        loop {
            let mut messages = Vec::new();
            for (id, group) in &mut self.groups {
                let output = group.poll()?;
                let entries = output.committed.into_iter().map(|entry| entry.data);
                self.applied.entry(*id).or_default().extend(entries);
                messages.extend(output.messages.into_iter().map(|(to, message)| (*id, to, message)));
            }
            if messages.is_empty() {
                return Ok(());
            }
            for (from, to, message) in messages {
                // A message to a member that is away is lost; one that makes no sense is refused.
                if let Some(group) = self.groups.get_mut(&to) {
                    let _ = group.step(from, &message);
                }
            }
        }
    }

    fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<(), Box<dyn std::error::Error>> {
        for _ in 0..PATIENCE_TICKS {
            self.tick()?;
            if done(self) {
                return Ok(());
            }
        }
        Err("the group did not get there".into())
    }

    fn leader(&self) -> Option<u64> {
        self.groups.values().map(Group::status).find(|status| status.role == Role::Leader).map(|status| status.id)
    }

    fn propose(&mut self, text: &'static str) -> Result<(), Box<dyn std::error::Error>> {
        let leader = self.leader().ok_or("nobody leads")?;
        let group = self.groups.get_mut(&leader).ok_or("the leader is away")?;
        Ok(group.propose(1, Bytes::from_static(text.as_bytes()))?)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A group of one commits within one poll: the entry is on its disk then.
    let mut alone = open(1, &[1], &SimDisk::new(1), 0)?;
    alone.poll()?;
    alone.propose(7, Bytes::from_static(b"hello"))?;
    let output = alone.poll()?;
    assert_eq!(output.committed.iter().map(|entry| entry.token).collect::<Vec<_>>(), [Some(7)]);

    // A new group of three begins once all of them have met.
    let members = [1, 2, 3];
    let disks: BTreeMap<u64, SimDisk> = members.iter().map(|id| (*id, SimDisk::new(*id))).collect();
    let mut cluster = Cluster::default();
    for id in members {
        cluster.groups.insert(id, open(id, &members, &disks[&id], 0)?);
    }
    cluster.run_until(|cluster| cluster.leader().is_some())?;
    cluster.propose("first")?;
    cluster.run_until(|cluster| cluster.applied.values().all(|texts| texts.len() == 1))?;

    // The leader's machine loses its power. The other two go on without it.
    let lost = cluster.leader().ok_or("somebody leads")?;
    cluster.groups.remove(&lost);
    disks[&lost].crash();
    cluster.run_until(|cluster| cluster.leader().is_some())?;
    cluster.propose("second")?;
    cluster.run_until(|cluster| cluster.applied.iter().all(|(id, texts)| *id == lost || texts.len() == 2))?;

    // It comes back with an empty disk even, and is brought up to date.
    cluster.groups.insert(lost, open(lost, &members, &SimDisk::new(99), 1)?);
    cluster.applied.insert(lost, Vec::new());
    cluster.run_until(|cluster| cluster.applied[&lost] == ["first", "second"])?;
    println!("all members have applied {:?}", cluster.applied[&lost]);
    Ok(())
}
