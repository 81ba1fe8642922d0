//! A data directory whose records are sealed: nothing of what devices send can
//! be read in it, a wrong key changes nothing, and keys are changed between two starts.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use grey_codec::decode_block;
use grey_disk::{Disk, SimDisk, read_file};
use grey_edge::core::{CoreConfig, CoreError, EdgeCore};
use grey_ingest::Op;
use grey_model::{Event, Lane, SiteId};
use grey_rules::{NoModels, RuleSet, Rules};
use grey_seal::{Algorithm, Keyring, MasterKey, Seal};

const START_MS: i64 = 1_767_225_600_000;
/// Names that must not be found on the disk.
const SECRETS: [&str; 3] = ["press-confidential", "recipe-temperature", "secret-reason"];
const RULES: &str = "
forward: raw
rules:
  - { type: threshold, name: hot, condition: 'value > 85', actions: [local_alert, { webhook: { url: \"http://127.0.0.1:9/alerts\" } }] }
";

fn key(n: u8) -> MasterKey {
    MasterKey::from_bytes(std::array::from_fn(|at| n ^ at as u8))
}

fn config(keys: &[u8]) -> CoreConfig {
    let rules = RuleSet::compile(&Rules::from_yaml(RULES).expect("fixed rules"), &NoModels).expect("fixed rules");
    let seal = (!keys.is_empty()).then(|| {
        let keys = keys.iter().map(|n| key(*n)).collect();
        Seal::new(Arc::new(Keyring::new(keys).expect("keys")), Algorithm::ChaCha20Poly1305, "edge")
    });
    CoreConfig { seal, ..CoreConfig::new(SiteId::new("site-1").expect("a plain name"), Arc::new(rules)) }
}

fn open(disk: &SimDisk, keys: &[u8]) -> Result<EdgeCore, CoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let (mut core, _) = EdgeCore::open(disk, config(keys), START_MS, (1, 2))?;
    while !core.replay(64, START_MS)? {}
    Ok(core)
}

fn accept(core: &mut EdgeCore, from: u64) {
    let ops = (from..from + 100).map(|n| {
        let mut event = Event::reading(SECRETS[0], SECRETS[1], n as f64, START_MS + n as i64);
        event.id = Some(format!("{n}").into());
        Op::Event { event, lane: None, qos2: None }
    });
    let letter = Op::DeadLetter { topic: "t".into(), payload: "{".into(), reason: SECRETS[2].into() };
    core.stage(ops.chain([letter])).expect("there is room");
    core.commit(START_MS, 0).expect("the disk works");
    core.apply().expect("the disk works");
    core.flush(START_MS, true).expect("the disk works");
    core.checkpoint(START_MS).expect("the disk works");
}

fn bytes(disk: &SimDisk) -> BTreeMap<String, Vec<u8>> {
    let read = |path: &str| read_file(disk, Path::new(path), 1 << 30).expect("a file that is listed");
    disk.files().into_iter().map(|(path, _)| (path.clone(), read(&path))).collect()
}

fn find(disk: &SimDisk) -> Vec<String> {
    let holds =
        |bytes: &[u8]| SECRETS.iter().any(|secret| bytes.windows(secret.len()).any(|at| at == secret.as_bytes()));
    bytes(disk).into_iter().filter(|(_, bytes)| holds(bytes)).map(|(path, _)| path).collect()
}

fn readings(core: &EdgeCore) -> usize {
    let (reader, mut from, mut found) = (core.outbox(), 0, 0);
    while let Some((at, block)) = reader.next(Lane::Bulk, from).expect("readable") {
        found += decode_block(&block).expect("a block").1.len();
        from = at + 1;
    }
    found
}

#[test]
fn nothing_that_devices_send_can_be_read_on_the_disk() {
    let plain = SimDisk::new(1);
    accept(&mut open(&plain, &[]).expect("it opens"), 0);
    let found = find(&plain);
    for dir in ["intake/", "outbox/", "dead-letters/", "actions/"] {
        assert!(found.iter().any(|path| path.starts_with(dir)), "the search finds what is plain in {dir}: {found:?}");
    }
    let sealed = SimDisk::new(2);
    let mut core = open(&sealed, &[1]).expect("it opens");
    accept(&mut core, 0);
    assert_eq!((find(&sealed), readings(&core)), (Vec::new(), 100));
    drop(core);
    sealed.crash();
    let core = open(&sealed, &[1]).expect("it opens");
    assert_eq!((readings(&core), core.dead_letters(9).len()), (100, 1));
}

#[test]
fn a_wrong_or_missing_key_changes_nothing_and_is_named() {
    let disk = SimDisk::new(3);
    accept(&mut open(&disk, &[1]).expect("it opens"), 0);
    disk.kill();
    let before = bytes(&disk);
    for keys in [&[2][..], &[][..]] {
        let error = open(&disk, keys).expect_err("it has not the key");
        assert!(error.is_key_missing(), "{error}");
        assert!(error.to_string().contains(&key(1).id().to_string()), "{error}");
        assert!(bytes(&disk) == before, "nothing was changed");
    }
    assert_eq!(readings(&open(&disk, &[1]).expect("it opens")), 100);
}

#[test]
fn keys_are_changed_between_two_starts() {
    let disk = SimDisk::new(4);
    accept(&mut open(&disk, &[1]).expect("it opens"), 0);
    disk.crash();
    let mut core = open(&disk, &[2, 1]).expect("it opens");
    accept(&mut core, 100);
    assert_eq!((readings(&core), find(&disk)), (200, Vec::new()));
    drop(core);
    disk.kill();
    assert!(open(&disk, &[2]).expect_err("older records need the older key").is_key_missing());
    // From plain to sealed, and back.
    let disk = SimDisk::new(5);
    accept(&mut open(&disk, &[]).expect("it opens"), 0);
    disk.kill();
    accept(&mut open(&disk, &[1]).expect("it opens"), 100);
    disk.kill();
    assert_eq!(readings(&open(&disk, &[1]).expect("it opens")), 200);
}
