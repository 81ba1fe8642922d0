//! Files of every released version of the format open, and today's writer writes the
//! same bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use grey_disk::{Disk, OpenMode, SimDisk};
use grey_log::{Checkpoints, Log, LogConfig, Recovery};
use grey_seal::{Algorithm, Seal};

use super::keys::keyring;
use super::plain::{assert_holds, fill, small};

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

/// The seal of a version's files: none, or one whose salts follow from a seed.
fn seal_of(version: &str) -> Option<Seal> {
    let seal = || Seal::new(keyring(&[1], 2), Algorithm::Aes256Gcm, "golden");
    (version == "v2-sealed").then(seal)
}

fn open(disk: &SimDisk, version: &str, config: LogConfig) -> (Log, Recovery) {
    Log::open_sealed(Arc::new(disk.clone()), Path::new("log"), config, seal_of(version).as_ref()).expect("open")
}

fn checkpoints(disk: &SimDisk, version: &str) -> Checkpoints {
    let disk = Arc::new(disk.clone());
    Checkpoints::open_sealed(disk, Path::new("state"), 3, seal_of(version).as_ref()).expect("open")
}

/// What the files hold: segments, of which the first were trimmed.
fn write(disk: &SimDisk, version: &str) {
    let config = LogConfig { segment_bytes_max: 1_024, record_bytes_max: 4_096 };
    let (mut log, _) = open(disk, version, config);
    log.reset(1_000).expect("reset");
    fill(&mut log, 30, 4);
    log.trim_front(1_015).expect("trim");
    checkpoints(disk, version).save(1_020, b"a state").expect("save");
}

fn bytes(disk: &SimDisk, path: &str) -> Vec<u8> {
    grey_disk::read_file(disk, Path::new(path), 1 << 20).expect("read")
}

fn assert_opens(version: &str) {
    let disk = SimDisk::new(1);
    for dir in ["log", "state"] {
        disk.create_dir_all(Path::new(dir)).expect("directory");
        let mut names: Vec<_> = std::fs::read_dir(golden(version).join(dir)).expect("golden files").collect();
        assert!(!names.is_empty());
        for name in names.drain(..) {
            let name = name.expect("entry");
            let path = Path::new(dir).join(name.file_name());
            let file = disk.open(&path, OpenMode::CreateNew).expect("create");
            file.write_at(&std::fs::read(name.path()).expect("read"), 0).expect("write");
        }
    }
    let (log, recovery) = open(&disk, version, small());
    assert_eq!((&recovery.damaged[..], recovery.torn_bytes), (&[][..], 0));
    let first = log.first_index();
    assert!(first > 1_000 && first <= 1_015);
    assert_holds(&log, first..1_030);
    assert_eq!(checkpoints(&disk, version).load_newest(None).expect("load"), Some((1_020, b"a state".to_vec())));
}

fn assert_is_written(version: &str) {
    let disk = SimDisk::new(1);
    write(&disk, version);
    if std::env::var_os("GREY_WRITE_GOLDEN").is_some() {
        for (path, _) in disk.files() {
            let target = golden(version).join(&path);
            std::fs::create_dir_all(target.parent().expect("inside")).expect("directory");
            std::fs::write(target, bytes(&disk, &path)).expect("write");
        }
    }
    for (path, _) in disk.files() {
        let expected = std::fs::read(golden(version).join(&path)).expect("a golden file for every file");
        assert!(bytes(&disk, &path) == expected, "{path} differs: a change of the format needs a new version");
    }
}

#[test]
fn version_1_opens() {
    assert_opens("v1");
}

#[test]
fn version_1_is_what_is_written() {
    assert_is_written("v1");
}

#[test]
fn sealed_files_open() {
    assert_opens("v2-sealed");
}

#[test]
fn sealed_files_are_what_is_written() {
    assert_is_written("v2-sealed");
}
