//! What both disks do alike: every case runs on the real file system and on the
//! simulated disk.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::{Disk, OpenMode, OverlayDisk, RealDisk, SimDisk, read_file, write_file_atomic};

fn on_both(case: impl Fn(&dyn Disk)) {
    let directory = tempfile::tempdir().expect("temporary directory");
    let real = RealDisk::new(directory.path().join("root"));
    real.create_dir_all(Path::new("")).expect("root");
    case(&real);
    case(&SimDisk::new(1));
    case(&OverlayDisk::new(Arc::new(SimDisk::new(1))));
}

#[test]
fn files_are_created_written_read_cut_and_grown() {
    on_both(|disk| {
        let path = Path::new("file");
        assert_eq!(disk.open(path, OpenMode::Read).expect_err("missing").kind(), ErrorKind::NotFound);
        assert_eq!(disk.open(path, OpenMode::ReadWrite).expect_err("missing").kind(), ErrorKind::NotFound);
        let file = disk.open(path, OpenMode::CreateNew).expect("create");
        assert_eq!(disk.open(path, OpenMode::CreateNew).expect_err("exists").kind(), ErrorKind::AlreadyExists);
        assert!(file.is_empty().expect("length"));
        file.write_at(b"hello", 3).expect("write");
        let mut buffer = [9; 10];
        assert_eq!(file.read_at(&mut buffer, 0).expect("read"), 8);
        assert_eq!(&buffer[..8], b"\0\0\0hello");
        assert_eq!(file.read_at(&mut buffer, 8).expect("read at the end"), 0);
        assert_eq!(file.read_at(&mut buffer, 1_000).expect("read beyond the end"), 0);
        file.set_len(5).expect("cut");
        file.set_len(7).expect("grow");
        file.sync().expect("sync");
        assert_eq!(read_file(disk, path, 7).expect("read"), b"\0\0\0he\0\0");
        assert_eq!(read_file(disk, path, 6).expect_err("over the limit").kind(), ErrorKind::InvalidData);
        let reader = disk.open(path, OpenMode::Read).expect("open");
        assert!(reader.write_at(b"x", 0).is_err(), "a reading handle must not write");
    });
}

#[test]
fn names_are_listed_renamed_and_removed() {
    on_both(|disk| {
        assert_eq!(disk.read_dir(Path::new("a")).expect_err("missing").kind(), ErrorKind::NotFound);
        disk.create_dir_all(Path::new("a/b")).expect("directories");
        disk.create_dir_all(Path::new("a/b")).expect("again");
        for name in ["a/two", "a/one"] {
            disk.open(Path::new(name), OpenMode::CreateNew).expect("create").write_at(b"12", 0).expect("write");
        }
        let listed = |path: &str| -> Vec<(String, u64, bool)> {
            let entries = disk.read_dir(Path::new(path)).expect("list");
            entries.into_iter().map(|entry| (entry.name, entry.len, entry.is_dir)).collect()
        };
        assert_eq!(listed("a"), [("b".into(), 0, true), ("one".into(), 2, false), ("two".into(), 2, false)]);
        disk.rename(Path::new("a/one"), Path::new("a/b/three")).expect("rename");
        disk.rename(Path::new("a/two"), Path::new("a/b/three")).expect("replace");
        disk.sync_dir(Path::new("a/b")).expect("sync");
        assert_eq!(listed("a"), [("b".into(), 0, true)]);
        assert_eq!(listed("a/b"), [("three".into(), 2, false)]);
        assert!(disk.exists(Path::new("a/b")).expect("exists"));
        assert!(disk.exists(Path::new("a/b/three")).expect("exists"));
        disk.remove_file(Path::new("a/b/three")).expect("remove");
        assert!(!disk.exists(Path::new("a/b/three")).expect("exists"));
        assert_eq!(disk.remove_file(Path::new("a/b/three")).expect_err("gone").kind(), ErrorKind::NotFound);
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    on_both(|disk| {
        let file = disk.open(Path::new("file"), OpenMode::CreateNew).expect("create");
        file.write_at(b"still here", 0).expect("write");
        disk.remove_file(Path::new("file")).expect("remove");
        let mut buffer = [0; 10];
        assert_eq!(file.read_at(&mut buffer, 0).expect("read"), 10);
        assert_eq!(&buffer, b"still here");
    });
}

#[test]
fn paths_do_not_leave_the_root() {
    on_both(|disk| {
        for path in ["../x", "/etc/passwd", "a/../../x"] {
            assert_eq!(disk.exists(Path::new(path)).expect_err(path).kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn atomic_writes_replace() {
    on_both(|disk| {
        let path = Path::new("state");
        write_file_atomic(disk, path, b"one").expect("write");
        disk.open(Path::new("state.tmp"), OpenMode::CreateNew).expect("a leftover");
        write_file_atomic(disk, path, b"second").expect("replace");
        assert_eq!(read_file(disk, path, 100).expect("read"), b"second");
        assert_eq!(disk.read_dir(Path::new("")).expect("list").len(), 1);
    });
}
