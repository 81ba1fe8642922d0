//! Damaged disks under real nodes: they start, say what is damaged, keep what
//! is intact, and account for the rest.
//!
//! A killed agent is stood for by a copy of its directory, taken while it runs
//! and after everything was acknowledged: the intake holds what no checkpoint has.

use std::fs;
use std::path::{Path, PathBuf};

use grey_config::Duration;
use grey_edge::EdgeConfig;
use grey_model::Event;
use grey_replica::ReplicaNode;
use serde_json::Value as Json;

use crate::federation::{
    Federation, arrived, at, by_id, edge_config, hub_config, ledger, settled, start_edge, start_hub, status, sum,
};
use crate::until;

const NOON: i64 = 1_767_225_600_000;
/// Events in an image, each in a record and a block of its own.
const EVENTS: u32 = 20;

fn reading(n: u32) -> Event {
    Event { id: Some(format!("{n}").into()), ..Event::reading("press-1", "rpm", f64::from(n), NOON) }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a file");
        }
    }
}

/// The files of a directory, in the order of their names.
fn files(dir: &Path, suffix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.is_file() && path.to_string_lossy().ends_with(suffix));
    paths.sort();
    paths
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("a file");
}

/// Cuts the last written bytes off; zeros that were written ahead go along.
fn cut(bytes: &mut Vec<u8>) {
    bytes.truncate(written(bytes) - 20);
}

/// Flips a bit in the midst of what was written.
fn flip(bytes: &mut [u8]) {
    let middle = written(bytes) / 2;
    bytes[middle] ^= 0x10;
}

fn written(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// Damages a directory.
type Damage = fn(&Path);

/// What one kind of damage may cost.
struct Case {
    name: &'static str,
    damage: Damage,
    /// Events that may be missing above; each must stand in the books as dropped, or be told in a note.
    lost_max: usize,
    /// Whether the start must name the damage.
    noted: bool,
}

const CASES: [Case; 9] = [
    Case { name: "nothing", damage: |_| {}, lost_max: 0, noted: false },
    Case {
        name: "the end of the intake is cut off",
        damage: |dir| {
            let last = files(&dir.join("intake"), ".log").pop().expect("a segment");
            change(&last, cut);
        },
        lost_max: 0,
        noted: true,
    },
    Case {
        name: "a bit in the midst of the intake",
        damage: |dir| {
            let last = files(&dir.join("intake"), ".log").pop().expect("a segment");
            change(&last, |bytes| flip(bytes));
        },
        lost_max: 0,
        noted: true,
    },
    Case {
        name: "a segment of the intake is gone",
        damage: |dir| {
            files(&dir.join("intake"), ".log").into_iter().for_each(|path| fs::remove_file(path).expect("removed"));
        },
        lost_max: 0,
        noted: true,
    },
    Case {
        name: "the end of the outbox is cut off",
        damage: |dir| {
            let last = files(&dir.join("outbox/bulk"), ".log").pop().expect("a segment");
            change(&last, cut);
        },
        lost_max: 0,
        noted: true,
    },
    Case {
        name: "a bit in the midst of the outbox",
        damage: |dir| {
            let last = files(&dir.join("outbox/bulk"), ".log").pop().expect("a segment");
            change(&last, |bytes| flip(bytes));
        },
        lost_max: 1,
        noted: true,
    },
    Case {
        name: "the newest checkpoint",
        damage: |dir| {
            let last = files(&dir.join("checkpoints"), "").pop().expect("a checkpoint");
            change(&last, |bytes| flip(bytes));
        },
        lost_max: 0,
        noted: true,
    },
    Case {
        name: "every checkpoint",
        damage: |dir| {
            files(&dir.join("checkpoints"), "").iter().for_each(|path| change(path, |bytes| bytes.truncate(7)));
        },
        lost_max: 0,
        noted: true,
    },
    Case {
        name: "the memory of ids",
        damage: |dir| {
            files(&dir.join("ids"), ".log").iter().for_each(|path| change(path, |bytes| flip(bytes)));
        },
        lost_max: 0,
        noted: false,
    },
];

/// The directory of an agent that was killed after it had taken [`EVENTS`] and written their blocks.
async fn image(dir: &Path) -> EdgeConfig {
    let mut config = edge_config("plant-1", &[]);
    // The events stand behind the last checkpoint.
    config.consensus.snapshot_interval = Duration::from_secs(3_600);
    let running = dir.join("running");
    let edge = start_edge(&config, &running).await;
    for n in 0..EVENTS {
        edge.ingest(reading(n)).await.expect("durable");
        let http = at(edge.addresses(), "http");
        // A block for each: the outbox is told to write what it has.
        crate::http::post(http, "/v1/sync", "application/json", b"").await.expect("an answer");
    }
    copy(&running, &dir.join("image"));
    edge.stop().await.expect("the edge agent stops");
    config
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_agent_on_a_damaged_disk_keeps_what_is_intact_and_accounts_for_the_rest() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = image(dir.path()).await;
    for (number, case) in CASES.iter().enumerate() {
        let data = dir.path().join(format!("case-{number}"));
        copy(&dir.path().join("image"), &data);
        (case.damage)(&data);
        let hub = start_hub(&hub_config("hub-west", &[], &[]), 1, &dir.path().join(format!("hub-{number}"))).await;
        let mut config = config.clone();
        config.connectivity.hub_addresses = vec![at(hub.addresses(), "sync").to_string().parse().expect("an address")];
        let edge = start_edge(&config, &data).await;
        let http = at(edge.addresses(), "http");
        assert_eq!(!edge.notes().is_empty(), case.noted, "{}: {:?}", case.name, edge.notes());

        // It takes events as ever, and what it takes now is numbered after what it had.
        for n in 100..105 {
            edge.ingest(reading(n)).await.expect("durable");
        }
        let own = settled(http, "plant-1").await;
        let delivered = sum(&own, "delivered") as usize;
        let found = by_id(&arrived(at(hub.addresses(), "http"), "plant-1", delivered).await);
        assert!(found.values().all(|count| *count == 1), "{}: {found:?}", case.name);
        let there = |n: u32| found.contains_key(&("press-1".to_owned(), n.to_string()));
        assert!((100..105).all(there), "{}: what came later is there: {found:?}", case.name);
        let lost = (0..EVENTS).filter(|n| !there(*n)).count();
        assert!(lost <= case.lost_max, "{}: {lost} events are missing", case.name);

        assert_eq!(sum(&own, "dropped") as usize, lost, "{}: the books say what is lost", case.name);
        until("the books above say so, too", async || {
            let rows = ledger(at(hub.addresses(), "http"), "plant-1").await;
            (sum(&rows, "dropped") as usize == lost && sum(&rows, "accepted") == sum(&own, "accepted")).then_some(())
        })
        .await;
        edge.stop().await.expect("the edge agent stops");
        hub.stop().await.expect("the hub stops");
    }
}

/// Waits until a member takes part again with everything its leader has.
async fn caught_up(federation: &Federation, id: u64) {
    let leader = federation.leader().await;
    until(&format!("member {id} has caught up"), async || {
        let ask = |node: &ReplicaNode| status(at(node.addresses(), "http"));
        let (own, its) = (ask(&federation.members[&id]).await, ask(&federation.members[&leader]).await);
        let role = own["consensus"]["role"].as_str()?;
        let same = own["consensus"]["applied"].as_u64()? >= its["consensus"]["commit"].as_u64()?;
        let all = own["totals"]["events"] == its["totals"]["events"];
        ((role == "follower" || role == "leader") && same && all).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_damaged_or_lost_log_rejoins_and_catches_up() {
    let mut federation = Federation::start().await;
    let edge = start_edge(&edge_config("plant-2", &federation.hubs()), &federation.dir.path().join("edge")).await;
    let mut sent = 0;
    let damages: [(&str, Damage); 4] = [
        ("a bit of the log", |dir| {
            let last = files(&dir.join("raft/log"), ".log").pop().expect("a segment");
            change(&last, |bytes| flip(bytes));
        }),
        ("the end of the log", |dir| {
            let last = files(&dir.join("raft/log"), ".log").pop().expect("a segment");
            change(&last, |bytes| bytes.truncate(written(bytes) / 2));
        }),
        ("the block index", |dir| {
            files(&dir.join("index"), "").iter().for_each(|path| change(path, |bytes| bytes.truncate(5_000)));
        }),
        ("the whole disk", |dir| fs::remove_dir_all(dir).expect("removed")),
    ];
    for (name, damage) in damages {
        for _ in 0..10 {
            edge.ingest(reading(sent)).await.expect("durable");
            sent += 1;
        }
        federation.arrived("plant-2", sent as usize).await;
        // The leader itself: the harder case.
        let id = federation.leader().await;
        let member = federation.members.remove(&id).expect("it runs");
        member.stop().await.expect("the member stops");
        damage(&federation.member_dir(id));
        edge.ingest(reading(sent)).await.expect("durable");
        sent += 1;
        federation.arrived("plant-2", sent as usize).await;

        federation.start_member(id).await;
        let notes = federation.members[&id].notes().to_vec();
        assert_eq!(notes.is_empty(), name == "the whole disk", "{name}: {notes:?}");
        caught_up(&federation, id).await;
    }
    let found = federation.arrived("plant-2", sent as usize).await;
    crate::federation::each_once(&found, "press-1", (0..sent).map(|n| n.to_string()));
    federation.settled("plant-2").await;
    edge.stop().await.expect("the edge agent stops");
    federation.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_copy_is_not_served_when_it_is_damaged() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let config = hub_config("hub-west", &[], &[]);
    let hub = start_hub(&config, 1, dir.path()).await;
    let edge_dir = tempfile::tempdir().expect("a temporary directory");
    let edge = start_edge(&edge_config("plant-3", &[at(hub.addresses(), "sync").to_string()]), edge_dir.path()).await;
    for n in 0..5 {
        edge.ingest(reading(n)).await.expect("durable");
    }
    arrived(at(hub.addresses(), "http"), "plant-3", 5).await;
    edge.stop().await.expect("the edge agent stops");
    copy(dir.path(), &edge_dir.path().join("image"));
    hub.stop().await.expect("the hub stops");

    let image = edge_dir.path().join("image");
    let last = files(&image.join("raft/log"), ".log").pop().expect("a segment");
    change(&last, |bytes| flip(bytes));
    let error = grey_hub::start(&config, Some(1), &image).await.expect_err("damaged").to_string();
    assert!(error.contains("the only copy of this group") && error.contains("restore a backup"), "{error}");
    assert_eq!(Json::from(files(&image.join("raft/log"), ".log").len()), Json::from(1), "nothing was moved");
}
