//! Runs of the simulated cluster, and proof that its checks bite.

use super::world::{Outcome, Plan, Weather, World};
use crate::flaws::Flaws;
use crate::{Condition, Role};

/// What a run is exposed to.
#[derive(Debug, Clone, Copy)]
struct Faults {
    members: u64,
    power_loss: bool,
    wipes: bool,
    damage: bool,
}

/// What happened in all runs together; a test asserts that it was not nothing.
#[derive(Debug, Default)]
struct Totals {
    committed: usize,
    dropped: u64,
    reads: u64,
    terms: usize,
    crashes: u64,
    sectors_lost: u64,
    checkpoints_received: u64,
    readmissions: u64,
    damaged: usize,
}

fn run(seed: u64, faults: Faults, plan: Plan, totals: &mut Totals) -> Outcome {
    let mut world = World::new(faults.members, seed, plan);
    world.start_all()?;
    world.run_for(1_500)?;
    for _ in 0..60 {
        disturb(&mut world, faults)?;
        for _ in 0..world.random.below(12) {
            let id = any(&mut world);
            let target = if world.random.below(4) > 0 { world.leader().unwrap_or(id) } else { id };
            world.propose(target)?;
            if world.random.below(3) == 0 {
                world.read(target)?;
            }
            let pause = world.random.below(60);
            world.run_for(pause)?;
        }
        let pause = world.random.below(600);
        world.run_for(pause)?;
    }
    world.heal(60_000)?;
    totals.committed += world.checker.log.len();
    totals.dropped += world.checker.dropped;
    totals.reads += world.checker.reads_served;
    totals.terms += world.checker.terms();
    totals.readmissions += world.readmissions;
    for node in &world.nodes {
        let disk = node.disk.faults();
        totals.crashes += disk.crashes;
        totals.sectors_lost += disk.sectors_lost;
        totals.checkpoints_received += node.checkpoints_received;
        totals.damaged += node.conditions.iter().filter(|c| matches!(c, Condition::Damaged { .. })).count();
    }
    Ok(())
}

fn any(world: &mut World) -> u64 {
    1 + world.random.below(world.nodes.len() as u64)
}

fn disturb(world: &mut World, faults: Faults) -> Outcome {
    let id = any(world);
    let is_up = world.node(id).group.is_some();
    match world.random.below(12) {
        0 | 1 => {
            // The power goes somewhere inside the next write to the disk, or the process is killed.
            if faults.power_loss && world.random.below(4) > 0 {
                power_off_soon(world, id);
            } else {
                world.stop(id, false);
            }
        }
        2 if faults.power_loss && world.random.below(4) == 0 => {
            for id in world.ids() {
                if world.random.below(2) == 0 { power_off_soon(world, id) } else { world.stop(id, true) }
            }
        }
        3..=5 if !is_up => {
            if faults.power_loss && world.random.below(4) == 0 {
                power_off_soon(world, id);
            }
            world.start(id)?;
        }
        3 => {
            world.weather = Weather {
                loss_percent: world.random.below(25),
                repeat_percent: world.random.below(20),
                // Now and then so slow that messages outlive a restart of their sender.
                delay_ms: (1, 1 + if world.random.below(4) == 0 { 3_000 } else { world.random.below(150) }),
            };
        }
        4 => {
            // One member, or one direction of one link, is cut off.
            let other = any(world);
            if world.random.below(2) == 0 {
                let cut: Vec<_> = world.ids().into_iter().flat_map(|peer| [(id, peer), (peer, id)]).collect();
                world.cut.extend(cut);
            } else {
                world.cut.insert((id, other));
            }
        }
        5 | 6 => {
            world.cut.clear();
            world.weather = Weather::FAIR;
        }
        7 if faults.wipes && may_lose(world, id) => {
            let loses_power = world.random.below(2) == 0;
            world.stop(id, loses_power);
            world.wipe(id);
            if world.random.below(2) == 0 {
                world.start(id)?;
            }
        }
        8 if faults.damage && may_lose(world, id) && !world.node(id).is_suspect => {
            // What a power loss takes from the end cannot be told from damage done there
            // right after, so damage meets a member that was merely killed. And one fault
            // at a time: the log's end and the log's own note of it back each other up.
            world.stop(id, false);
            world.damage(id);
        }
        9 => {
            if let Some(group) = &mut world.node(id).group {
                group.transfer_leadership();
            }
        }
        _ => {}
    }
    Ok(())
}

/// A minority may be without its memory at any time.
fn may_lose(world: &World, id: u64) -> bool {
    let others = world.nodes.iter().filter(|node| node.id != id && node.is_suspect).count();
    let formed = world.nodes.iter().all(|node| node.applied > 0 || node.is_suspect);
    others < (world.nodes.len() - 1) / 2 && formed
}

fn power_off_soon(world: &mut World, id: u64) {
    let changes = world.random.below(12);
    world.node(id).disk.power_off_after(changes);
}

fn runs(seeds: std::ops::Range<u64>, faults: Faults) -> Totals {
    let mut totals = Totals::default();
    // More seeds for a soak: GREY_SIM_RUNS=1000 runs a thousand times as many.
    let factor = std::env::var("GREY_SIM_RUNS").ok().and_then(|factor| factor.parse().ok()).unwrap_or(1);
    let length = (seeds.end - seeds.start) * factor;
    for seed in seeds.start..seeds.start + length {
        if let Err(error) = run(seed, faults, Plan::default(), &mut totals) {
            panic!("seed {seed} with {faults:?}: {error}");
        }
    }
    totals
}

#[test]
fn three_members_survive_crashes_and_a_bad_network() {
    let totals = runs(0..60, Faults { members: 3, power_loss: true, wipes: false, damage: false });
    assert!(totals.committed > 3_000 && totals.terms > 200, "{totals:?}");
    assert!(totals.sectors_lost > 100 && totals.dropped > 50 && totals.reads > 500, "{totals:?}");
    assert_eq!((totals.readmissions, totals.damaged), (0, 0), "no crash is taken for damage");
}

#[test]
fn a_minority_of_three_may_lose_its_disks() {
    let totals = runs(1_000..1_060, Faults { members: 3, power_loss: true, wipes: true, damage: false });
    assert!(totals.readmissions > 30 && totals.checkpoints_received > 20, "{totals:?}");
}

#[test]
fn a_minority_of_three_may_be_damaged() {
    let totals = runs(2_000..2_060, Faults { members: 3, power_loss: false, wipes: false, damage: true });
    assert!(totals.damaged > 20 && totals.readmissions > 20, "{totals:?}");
}

#[test]
fn five_members_survive_everything_at_once() {
    let totals = runs(3_000..3_030, Faults { members: 5, power_loss: true, wipes: true, damage: true });
    assert!(totals.readmissions > 20 && totals.committed > 1_000, "{totals:?}");
}

#[test]
fn a_group_of_one_keeps_what_it_acknowledged() {
    let totals = runs(4_000..4_040, Faults { members: 1, power_loss: true, wipes: false, damage: false });
    assert!(totals.committed > 1_000 && totals.crashes > 100 && totals.sectors_lost > 100, "{totals:?}");
}

#[test]
fn even_groups_work_too() {
    let totals = runs(5_000..5_010, Faults { members: 4, power_loss: true, wipes: true, damage: false });
    assert!(totals.readmissions > 0, "{totals:?}");
    runs(5_010..5_020, Faults { members: 2, power_loss: true, wipes: false, damage: false });
}

/// The failures of runs with a flaw, as they come.
fn failures(seeds: std::ops::Range<u64>, faults: Faults, plan: Plan) -> impl Iterator<Item = String> {
    seeds.filter_map(move |seed| run(seed, faults, plan, &mut Totals::default()).err())
}

/// True once a run breaks a promise; a group that merely stands still does not count.
fn is_caught(faults: Faults, flaws: Flaws) -> bool {
    failures(0..1_000, faults, Plan { flaws, ..Plan::default() }).any(|error| error.starts_with("unsafe"))
}

#[test]
fn disks_that_lie_are_noticed() {
    // Nothing can be promised on such disks. What is lost is noticed at the next start,
    // and the group stands still rather than go on without it.
    let plan = Plan { forget_sync: true, ..Plan::default() };
    for members in [1, 3] {
        let faults = Faults { members, power_loss: true, wipes: false, damage: false };
        let failed = failures(0..40, faults, plan).count();
        assert!(failed > 30, "{failed} of 40 runs of {members}");
    }
}

#[test]
fn the_checker_catches_members_that_vote_without_memory() {
    let faults = Faults { members: 3, power_loss: true, wipes: true, damage: false };
    assert!(is_caught(faults, Flaws { amnesiac_votes: true, ..Flaws::default() }));
}

#[test]
fn the_checker_catches_members_that_forget_their_votes() {
    let faults = Faults { members: 3, power_loss: true, wipes: false, damage: false };
    assert!(is_caught(faults, Flaws { forgets_votes: true, ..Flaws::default() }));
}

#[test]
fn the_same_seed_is_the_same_run() {
    let faults = Faults { members: 3, power_loss: true, wipes: true, damage: false };
    let totals = || {
        let mut totals = Totals::default();
        run(7, faults, Plan::default(), &mut totals).expect("a good run");
        format!("{totals:?}")
    };
    assert_eq!(totals(), totals());
}

#[test]
fn a_large_checkpoint_reaches_a_wiped_member_in_chunks() {
    let plan = Plan { ballast_bytes: 7 << 20, ..Plan::default() };
    let mut world = World::new(3, 1, plan);
    world.start_all().expect("start");
    let leader = world.run_until_leader(5_000).expect("a leader");
    for _ in 0..60 {
        world.propose(leader).expect("propose");
        world.run_for(20).expect("run");
    }
    let victim = 1 + leader % 3;
    world.stop(victim, true);
    world.wipe(victim);
    world.weather = Weather { loss_percent: 10, repeat_percent: 5, delay_ms: (1, 20) };
    world.start(victim).expect("start");
    world.run_for(10_000).expect("run");
    assert_eq!(world.node(victim).checkpoints_received, 1);
    world.heal(10_000).expect("heal");
}

#[test]
fn a_group_of_one_commits_within_one_poll() {
    let mut world = World::new(1, 1, Plan::default());
    world.start_all().expect("start");
    let token = world.propose(1).expect("propose").expect("it leads at once");
    assert!(world.checker.acknowledged.contains(&token));
}

#[test]
fn leadership_moves_on_request_and_nothing_is_lost() {
    let mut world = World::new(3, 5, Plan::default());
    world.start_all().expect("start");
    let old = world.run_until_leader(5_000).expect("a leader");
    for _ in 0..20 {
        world.propose(old).expect("propose");
    }
    assert!(world.node(old).group.as_mut().is_some_and(|group| group.transfer_leadership()));
    world.run_for(500).expect("run");
    assert!(world.leader().is_some_and(|new| new != old));
    world.heal(10_000).expect("heal");
}

#[test]
fn a_majority_without_memory_stands_still() {
    let mut world = World::new(3, 9, Plan::default());
    world.start_all().expect("start");
    let leader = world.run_until_leader(5_000).expect("a leader");
    world.propose(leader).expect("propose");
    world.run_for(500).expect("run");
    for id in world.ids() {
        world.stop(id, false);
    }
    for id in [1, 2] {
        world.wipe(id);
    }
    world.start_all().expect("start");
    world.run_for(20_000).expect("run");
    assert_eq!(world.leader(), None);
    for id in [1, 2] {
        let role = world.node(id).group.as_ref().map(|group| group.status().role);
        assert_eq!(role, Some(Role::Recovering));
    }
}

#[test]
fn a_full_disk_is_waited_out() {
    for members in [1, 3] {
        let mut world = World::new(members, 11, Plan::default());
        world.start_all().expect("start");
        let full = world.run_until_leader(5_000).expect("a leader");
        for _ in 0..20 {
            world.propose(full).expect("propose");
            world.run_for(5).expect("run");
        }
        let used: u64 = world.node(full).disk.files().iter().map(|(_, len)| len).sum();
        world.node(full).disk.set_capacity(Some(used + 1_000));
        let mut refused = 0;
        for _ in 0..100 {
            let target = if world.random.below(2) == 0 { full } else { world.leader().unwrap_or(full) };
            refused += usize::from(world.propose(target).expect("propose").is_none());
            world.run_for(50).expect("run");
        }
        let status = world.node(full).group.as_ref().map(crate::Group::status);
        assert!(status.is_some_and(|status| status.is_disk_full), "group of {members}");
        assert!(refused > 10 && world.node(full).disk.faults().writes_without_space > 0);
        if members > 1 {
            assert!(world.leader().is_some_and(|leader| leader != full), "the others go on");
        }
        world.node(full).disk.set_capacity(None);
        world.heal(20_000).expect("it goes on by itself once there is space");
    }
}

#[test]
fn a_failed_sync_ends_the_group_for_good() {
    let mut world = World::new(1, 12, Plan::default());
    world.start_all().expect("start");
    world.propose(1).expect("propose");
    let disk = world.node(1).disk.clone();
    let mut group = world.node(1).group.take().expect("it runs");
    group.propose(999, bytes::Bytes::from_static(b"never acknowledged")).expect("it leads");
    disk.fail_next_sync(1);
    assert!(group.poll().is_err());
    for _ in 0..3 {
        assert!(matches!(group.poll(), Err(crate::ConsensusError::Stopped { .. })));
        assert!(matches!(group.propose(1_000, bytes::Bytes::new()), Err(crate::ProposeError::NotLeader { .. })));
        assert!(group.save_checkpoint(1, b"").is_err());
        group.tick();
    }
    drop(group);
    disk.crash();
    world.start(1).expect("open again");
    world.propose(1).expect("propose");
}

#[test]
fn damage_that_a_reader_comes_upon_is_repaired_from_the_peers() {
    let mut world = World::new(3, 13, Plan::default());
    world.start_all().expect("start");
    let leader = world.run_until_leader(5_000).expect("a leader");
    let victim = 1 + leader % 3;
    for _ in 0..60 {
        world.propose(leader).expect("propose");
        world.run_for(20).expect("run");
    }
    // A sealed segment, checked by nobody before it is read.
    let node = world.node(victim);
    let reader = node.group.as_ref().expect("it runs").log_reader();
    let sealed = node.disk.files().into_iter().find(|(path, _)| path.ends_with(".log")).expect("a segment").0;
    node.disk.flip(std::path::Path::new(&sealed), 3_000, 3).expect("flip");
    node.is_suspect = true;
    let mut next = reader.first();
    while let Ok(found) = reader.scan(next, 1_000) {
        assert!(found.next > next, "the damage was not met");
        next = found.next;
    }
    world.heal(20_000).expect("heal");
    let conditions = &world.node(victim).conditions;
    assert!(matches!(conditions.last(), Some(Condition::Damaged { .. })), "{conditions:?}");
}

#[test]
fn a_batch_of_proposals_costs_one_sync() {
    let mut world = World::new(1, 14, Plan::default());
    world.start_all().expect("start");
    let disk = world.node(1).disk.clone();
    let mut group = world.node(1).group.take().expect("it runs");
    let before = disk.operations().syncs;
    for token in 0..100 {
        group.propose(token, bytes::Bytes::from_static(b"data")).expect("it leads");
    }
    let output = group.poll().expect("poll");
    let tokens: Vec<u64> = output.committed.iter().filter_map(|entry| entry.token).collect();
    assert_eq!(tokens, (0..100).collect::<Vec<_>>());
    assert_eq!(disk.operations().syncs - before, 1);
}
