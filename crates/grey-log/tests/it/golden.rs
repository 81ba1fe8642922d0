//! Files of every released version of the format open, and today's writer writes the
//! same bytes.

use std::path::PathBuf;

use grey_log::Checkpoints;

use super::*;

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

/// What the files hold: three segments, of which the first was trimmed.
fn write(disk: &SimDisk) {
    let config = LogConfig { segment_bytes_max: 1_024, record_bytes_max: 4_096 };
    let (mut log, _) = open(disk, config);
    log.reset(1_000).expect("reset");
    fill(&mut log, 30, 4);
    log.trim_front(1_015).expect("trim");
    let states = Checkpoints::open(Arc::new(disk.clone()), Path::new("state"), 3).expect("open");
    states.save(1_020, b"a state").expect("save");
}

fn bytes(disk: &SimDisk, path: &str) -> Vec<u8> {
    grey_disk::read_file(disk, Path::new(path), 1 << 20).expect("read")
}

#[test]
fn version_1_opens() {
    let disk = SimDisk::new(1);
    for dir in ["log", "state"] {
        disk.create_dir_all(Path::new(dir)).expect("directory");
        let mut names: Vec<_> = std::fs::read_dir(golden("v1").join(dir)).expect("golden files").collect();
        assert!(!names.is_empty());
        for name in names.drain(..) {
            let name = name.expect("entry");
            let path = Path::new(dir).join(name.file_name());
            let file = disk.open(&path, grey_disk::OpenMode::CreateNew).expect("create");
            file.write_at(&std::fs::read(name.path()).expect("read"), 0).expect("write");
        }
    }
    let (log, recovery) = open(&disk, small());
    assert_eq!((&recovery.damaged[..], recovery.torn_bytes), (&[][..], 0));
    let first = log.first_index();
    assert!(first > 1_000 && first <= 1_015);
    assert_holds(&log, first..1_030);
    let states = Checkpoints::open(Arc::new(disk), Path::new("state"), 3).expect("open");
    assert_eq!(states.load_newest(None).expect("load"), Some((1_020, b"a state".to_vec())));
}

#[test]
fn version_1_is_what_is_written() {
    let disk = SimDisk::new(1);
    write(&disk);
    if std::env::var_os("GREY_WRITE_GOLDEN").is_some() {
        for (path, _) in disk.files() {
            let target = golden("v1").join(&path);
            std::fs::create_dir_all(target.parent().expect("inside")).expect("directory");
            std::fs::write(target, bytes(&disk, &path)).expect("write");
        }
    }
    for (path, _) in disk.files() {
        let expected = std::fs::read(golden("v1").join(&path)).expect("a golden file for every file");
        assert!(bytes(&disk, &path) == expected, "{path} differs: a change of the format needs a new version");
    }
}
