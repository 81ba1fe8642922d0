//! Files that somebody else wrote: opening and reading never panics, whatever they hold.

use grey_disk::OpenMode;
use proptest::prelude::*;

use super::*;

fn put(disk: &SimDisk, path: &str, bytes: &[u8]) {
    let file = match disk.open(Path::new(path), OpenMode::ReadWrite) {
        Ok(file) => file,
        Err(_) => disk.open(Path::new(path), OpenMode::CreateNew).expect("create"),
    };
    file.set_len(0).expect("cut");
    file.write_at(bytes, 0).expect("write");
}

/// Reads everything, whatever it is, and uses the log on.
fn survive(disk: &SimDisk) {
    let (mut log, recovery) = open(disk, small());
    let end = log.durable_end();
    assert_eq!(recovery.records, end - log.first_index());
    let reader = log.reader();
    let mut next = reader.first_index();
    while next < end {
        match reader.scan(next, 500) {
            Ok(records) => {
                assert!(!records.is_empty(), "no progress at {next} of {end}");
                next = records.last().map_or(next, |(index, _)| index + 1);
            }
            Err(LogError::Damaged { lost, .. }) => {
                assert!(lost.contains(&next), "{lost:?} at {next}");
                next = lost.end;
            }
            Err(error) => panic!("{error}"),
        }
    }
    if end < (1 << 63) - 10 {
        assert_eq!(log.append(b"goes on").expect("append"), end);
        log.commit().expect("commit");
        disk.crash();
        let (mut log, _) = open(disk, small());
        assert_eq!(log.read(end).expect("read").as_deref(), Some(&b"goes on"[..]));
        log.truncate_back(end / 2).expect("truncate");
        log.trim_front(u64::MAX).expect("trim");
        log.reset(3).expect("reset");
    }
}

proptest! {
    #[test]
    fn any_bytes_as_files(first in proptest::collection::vec(any::<u8>(), 0..300),
                          second in proptest::collection::vec(any::<u8>(), 0..300), marker: Vec<u8>, state: Vec<u8>) {
        let disk = SimDisk::new(1);
        disk.create_dir_all(Path::new(DIR)).expect("directory");
        put(&disk, "log/00000000000000000000.log", &first);
        put(&disk, "log/00000000000000000003.log", &second);
        put(&disk, "log/synced", &marker);
        put(&disk, "log/checkpoint-00000000000000000003", &state);
        survive(&disk);
        let states =
            Checkpoints::open_sealed(Arc::new(disk), Path::new(DIR), 1, sealing().as_ref()).expect("open");
        prop_assert_eq!(states.load_newest(None).expect("load"), None);
    }

    #[test]
    fn any_marker_that_claims_to_be_intact(fields in proptest::collection::vec(prop_oneof![0_u64..50, any::<u64>()], 4),
                                           flags: u8) {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk, small());
        fill(&mut log, 40, 4);
        drop(log);
        let mut marker = b"greymrk\0".to_vec();
        fields.iter().for_each(|field| marker.extend_from_slice(&field.to_le_bytes()));
        marker.extend_from_slice(&[1, 0, flags, 0]);
        marker.extend_from_slice(&crc32c::crc32c(&marker).to_le_bytes());
        put(&disk, "log/synced", &marker);
        survive(&disk);
    }

    #[test]
    fn a_log_that_was_cut_up_and_put_together(edits in proptest::collection::vec((0_usize..6, any::<u16>(), any::<u16>(), 0_usize..200), 1..8)) {
        let disk = SimDisk::new(1);
        let (mut log, _) = open(&disk, small());
        fill(&mut log, 80, 4);
        drop(log);
        let mut files: Vec<(String, Vec<u8>)> = disk
            .files()
            .into_iter()
            .map(|(path, _)| (path.clone(), grey_disk::read_file(&disk, Path::new(&path), 1 << 20).expect("read")))
            .collect();
        for (file, from, to, len) in edits {
            // Copies a stretch of one file over a stretch of another.
            let source = files[from as usize % files.len()].1.clone();
            let from = from as usize % source.len().max(1);
            let stretch = source[from..(from + len).min(source.len())].to_vec();
            let position = file % files.len();
            let target = &mut files[position].1;
            let to = to as usize % target.len().max(1);
            let end = (to + stretch.len()).min(target.len());
            target.splice(to..end, stretch);
        }
        for (path, bytes) in &files {
            put(&disk, path, bytes);
        }
        survive(&disk);
    }
}
