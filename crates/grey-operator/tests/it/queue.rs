//! The files of a stopped agent's outbox.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use grey_codec::BlockBuilder;
use grey_disk::{Disk, RealDisk};
use grey_log::{Checkpoints, Log, LogConfig};
use grey_model::{BlockHeader, Compression, Epoch, Event, Lane, SiteId, Stamp};
use grey_queue::{Queue, QueueConfig};
use grey_seal::{Algorithm, KeySource, Keyring, Seal};

use super::{Ended, greyctl};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// Device time of the first event: 2026-03-01T12:00:00Z.
const START_MS: i64 = 1_772_366_400_000;

fn site() -> SiteId {
    SiteId::new("plant-7").unwrap()
}

/// Blocks of three readings each, one a second.
fn blocks(lane: Lane, count: u64) -> Vec<Bytes> {
    let mut builder = BlockBuilder::new(site(), Epoch(3), lane, Compression::Lz4, 0);
    let block = |n: u64| {
        for of in 0..3 {
            let seq = n * 3 + of;
            let at = START_MS + seq as i64 * 1_000;
            builder.push(&Event::reading("press-7", "temperature", seq as f64, at)).unwrap();
        }
        builder.finish(Stamp::default(), n).unwrap()
    };
    (0..count).map(block).collect()
}

fn write(queue: &mut Queue, lane: Lane, blocks: &[Bytes]) {
    for block in blocks {
        let header = BlockHeader::parse(block).unwrap().header;
        queue.write(lane, [(&header, block)]).unwrap();
    }
}

/// A data directory with blocks in two lanes of an outbox and records in the intake,
/// sealed if there is a key.
struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    fn new(is_sealed: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = Self { dir };
        fs::write(data.path("key"), KEY).unwrap();
        let key = KeySource::File(data.path("key")).load().unwrap().key;
        let keyring = Arc::new(Keyring::new(vec![key]).unwrap());
        let seal = is_sealed.then(|| Seal::new(keyring, Algorithm::auto(), "edge"));
        let disk = data.disk();
        let mut queue = data.queue(QueueConfig { seal: seal.clone(), ..QueueConfig::default() });
        for (lane, count) in [(Lane::Critical, 4), (Lane::Bulk, 10)] {
            write(&mut queue, lane, &blocks(lane, count));
        }
        let seal = |purpose: &str| seal.as_ref().map(|seal| seal.with_purpose(purpose));
        let (mut intake, _) =
            Log::open_sealed(Arc::clone(&disk), Path::new("intake"), LogConfig::default(), seal("intake").as_ref())
                .unwrap();
        for n in 0..20_u8 {
            intake.append(&[n; 100]).unwrap();
        }
        intake.commit().unwrap();
        let checkpoints =
            Checkpoints::open_sealed(disk, Path::new("checkpoints"), 3, seal("checkpoints").as_ref()).unwrap();
        (1..=3).for_each(|position| checkpoints.save(position, b"state").unwrap());
        fs::write(data.path("data/outbox/notes.txt"), "mine").unwrap();
        fs::write(data.path("data/lock"), "").unwrap();
        data
    }

    fn disk(&self) -> Arc<dyn Disk> {
        Arc::new(RealDisk::new(self.path("data")))
    }

    fn queue(&self, config: QueueConfig) -> Queue {
        let config = QueueConfig { reserve_bytes: 0, ..config };
        Queue::open(&self.disk(), Path::new("outbox"), site(), config, None).unwrap().0
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Ended {
        let data = self.path("data").display().to_string();
        let mut line = vec!["queue", words[0], &data];
        line.extend(&words[1..]);
        greyctl(&line)
    }

    /// Every file with its bytes.
    fn image(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut dirs = vec![self.path("data")];
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { found.push((path.clone(), fs::read(path).unwrap())) }
            }
        }
        found.sort();
        found
    }

    /// Changes a byte of the bulk lane's third block.
    fn damage(&self) {
        let path = self.path("data/outbox/bulk/00000000000000000000.log");
        let mut bytes = fs::read(&path).unwrap();
        let at = 64 + 2 * (16 + blocks(Lane::Bulk, 1)[0].len()) + 100;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn an_outbox_is_looked_at_and_not_changed() {
    let data = Data::new(false);
    let before = data.image();
    let shown = data.run(&["inspect", "--max-bytes", "1000"]);
    assert_eq!(shown.code(), 0, "{}", shown.message());
    for text in [
        "outbox/critical",
        "fresh",
        "2026-03-01T12:00:29.000Z",
        "none",
        "plain (1)",
        "unknown",
        "notes.txt",
        "level overflow",
    ] {
        assert!(shown.out.contains(text), "{text} in {}", shown.out);
    }
    let json: serde_json::Value = serde_json::from_str(&data.run(&["inspect", "--output", "json"]).out).unwrap();
    let events: Vec<_> = json["logs"].as_array().unwrap().iter().map(|log| log["events"].as_u64().unwrap()).collect();
    assert_eq!(events, [12, 0, 30, 0], "critical, normal, bulk, intake");
    assert_eq!(data.run(&["verify"]).code(), 0);
    data.run(&["repair"]);
    assert!(data.image() == before, "not a byte");

    // A part of it will do as well.
    let bulk = data.path("data/outbox/bulk").display().to_string();
    assert!(
        greyctl(&["queue", "verify", &bulk]).out.contains("1 logs, 10 records, 30 events, 0 checkpoints: 0 problems")
    );
    fs::create_dir(data.path("empty")).unwrap();
    let nothing = greyctl(&["queue", "inspect", &data.path("empty").display().to_string()]);
    assert!(nothing.code() == 2 && nothing.message().contains("no log in it"), "{}", nothing.message());
}

#[test]
fn an_agent_at_work_is_not_disturbed() {
    let data = Data::new(false);
    let _agent = RealDisk::new(data.path("data")).lock().unwrap();
    for command in ["inspect", "verify", "repair", "export"] {
        let refused = data.run(&[command]);
        assert!(refused.code() == 2 && refused.message().contains("stop it first"), "{}", refused.message());
    }
}

#[test]
fn what_is_lost_is_told_exactly_and_mended_on_demand() {
    let data = Data::new(false);
    data.damage();
    let verified = data.run(&["verify"]);
    assert_eq!(verified.code(), 1);
    for text in ["records 2 to 3 are lost", "epoch 3: sequences 6 to 9 are lost (positions 2 to 3)", "2 problems"] {
        assert!(verified.out.contains(text), "{text} in {}", verified.out);
    }
    let before = data.image();
    let dry = data.run(&["repair"]);
    assert!(dry.out.contains("create outbox/bulk/quarantine/") && dry.out.contains("--write"), "{}", dry.out);
    assert!(data.image() == before);
    let written = data.run(&["repair", "--write"]);
    assert_eq!(written.code(), 0, "{}", written.message());
    let evidence = fs::read_dir(data.path("data/outbox/bulk/quarantine")).unwrap().count();
    assert_eq!(evidence, 1);
    let exported = data.run(&["export", "--lane", "bulk"]);
    assert_eq!((exported.code(), exported.out.lines().count()), (1, 27), "{}", exported.err);
    assert!(data.run(&["repair"]).out.contains("nothing is to be done"));

    // The loss stays one until the agent has accounted for it, and verify says so.
    assert_eq!(data.run(&["verify"]).out, verified.out);
    let repaired = data.queue(QueueConfig::default());
    let (_, block) = repaired.reader().next(Lane::Bulk, 2).unwrap().unwrap();
    assert_eq!(BlockHeader::parse(&block).unwrap().header.range(), 6..9);
}

#[test]
fn damage_beside_the_outbox_is_found_too() {
    let data = Data::new(false);
    let flip = |name: &str, at: usize| {
        let mut bytes = fs::read(data.path(name)).unwrap();
        bytes[at] ^= 1;
        fs::write(data.path(name), bytes).unwrap();
    };
    flip("data/intake/00000000000000000000.log", 64 + 5 * 116 + 50);
    flip("data/checkpoints/checkpoint-00000000000000000002", 33);
    fs::write(data.path("data/identity.json"), "{}").unwrap();
    fs::write(data.path("data/identity-copy.json"), "{").unwrap();
    fs::write(data.path("data/outbox/lease"), "no lease").unwrap();
    let marker = data.path("data/outbox/critical/synced");
    let len = fs::metadata(&marker).unwrap().len();
    fs::write(&marker, vec![0x55; len as usize]).unwrap();
    assert!(data.run(&["repair"]).out.contains("outbox/critical/synced"));
    let verified = data.run(&["verify", "--output", "json"]);
    assert_eq!(verified.code(), 1);
    let report: serde_json::Value = serde_json::from_str(&verified.out).unwrap();
    let problems: Vec<_> = report["problems"].as_array().unwrap().iter().map(|p| p.as_str().unwrap()).collect();
    for text in [
        "records 5 to 6",
        "the checkpoint for position 2",
        "identity-copy.json is damaged",
        "outbox/lease",
        "critical/synced",
    ] {
        assert!(problems.iter().any(|problem| problem.contains(text)), "{text} in {problems:?}");
    }
    assert_eq!((problems.len(), &report["checkpoints"]), (5, &2.into()));
    assert_eq!(data.run(&["repair", "--write"]).code(), 0);
    for evidence in ["data/intake/quarantine", "data/checkpoints/quarantine"] {
        assert_eq!(fs::read_dir(data.path(evidence)).unwrap().count(), 1, "{evidence}");
    }
}

/// Strata, settled blocks that share files with others, a lane that was given back: none of it is damage.
#[test]
fn folded_and_settled_blocks_are_no_damage() {
    let data = Data::new(false);
    let config = QueueConfig { bytes_max: 200_000, segment_bytes_max: 4_096, ..QueueConfig::default() };
    let mut queue = data.queue(config);
    let all = blocks(Lane::Bulk, 600);
    for part in all[10..].chunks(100) {
        write(&mut queue, Lane::Bulk, part);
        queue.observe(START_MS);
        while let Some(job) = queue.next_fold() {
            queue.apply(job.run()).unwrap();
        }
        let verified = data.run(&["verify"]);
        assert!(verified.code() == 0 && verified.out.contains(": 0 problems"), "{}", verified.out);
    }
    let shown = data.run(&["inspect"]);
    assert!(shown.out.contains("bulk.packed"), "{}", shown.out);
    let acked = queue.reader().end(Lane::Bulk) - 20;
    queue.ack(Lane::Bulk, acked).unwrap();
    let state = queue.state();
    queue.reclaim(&state).unwrap();
    let verified = data.run(&["verify"]);
    assert_eq!(verified.code(), 0, "{}", verified.out);
    let exported = data.run(&["export", "--lane", "bulk"]);
    assert_eq!(exported.code(), 0, "{}", exported.err);
    let last: Vec<serde_json::Value> = exported.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<u64> = last.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert!(seqs.is_sorted() && seqs.ends_with(&(1_740..1_800).collect::<Vec<_>>()));
}

#[test]
fn events_are_exported_in_order_within_a_time() {
    let data = Data::new(false);
    let exported =
        data.run(&["export", "--lane", "bulk", "--from", "2026-03-01T12:00:05Z", "--to", "2026-03-01T12:00:15Z"]);
    assert_eq!(exported.code(), 0, "{}", exported.message());
    let events: Vec<serde_json::Value> = exported.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let seqs: Vec<u64> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, (5..15).collect::<Vec<_>>());
    assert!(events.iter().all(|event| event["lane"] == "bulk" && event["stream"] == "temperature"));

    let file = data.path("all.csv").display().to_string();
    assert_eq!(data.run(&["export", "--format", "csv", "--output", &file]).code(), 0);
    let csv = fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines.len(), 1 + 12 + 30);
    assert_eq!(lines[1], "2026-03-01T12:00:00.000Z,plant-7,critical,3,0,press-7,temperature,reading,0.0,,good");
    assert_eq!(data.run(&["export", "--output", &file]).code(), 1, "nothing is written over");
}

#[test]
fn sealed_lanes_need_their_key_and_say_which() {
    let data = Data::new(true);
    let key = data.path("key").display().to_string();
    let id = KeySource::File(data.path("key")).load().unwrap().key.id().to_string();
    let without = data.run(&["verify"]);
    assert!(without.code() == 2 && without.out.contains(&id), "{}", without.out);
    assert!(data.run(&["inspect"]).out.contains(&id), "looking needs no key");
    assert_eq!(data.run(&["repair"]).code(), 2);
    assert_eq!(data.run(&["export", "--lane", "bulk"]).code(), 2);
    let with = data.run(&["verify", "--key-file", &key]);
    assert_eq!(with.code(), 0, "{}", with.out);
    assert!(with.err.contains("chmod 600"), "{}", with.err);
    let command = format!("cat {key}");
    let exported = data.run(&["export", "--lane", "critical", "--key-command", &command]);
    assert_eq!((exported.code(), exported.out.lines().count()), (0, 12));
    assert_eq!(data.run(&["verify", "--key-env", "GREY_TEST_NO_SUCH_KEY"]).code(), 2);

    // Damage shows without the key, and is told before what is sealed.
    data.damage();
    let damaged = data.run(&["verify"]);
    assert!(damaged.code() == 1 && damaged.out.contains("are lost"), "{}", damaged.out);
}
