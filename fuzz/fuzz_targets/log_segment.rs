//! Any bytes as a log's files: opening, reading and going on never panics, never reads a
//! record that contradicts itself, and the log works afterwards.
//!
//! The input: one byte whose low bits say which files are finished (magic, version and
//! checksum made right) and whose highest says that keys are given, then for each file its
//! length in two bytes, little-endian, and its bytes.
#![no_main]

use std::path::Path;
use std::sync::{Arc, LazyLock};

use grey_disk::{Disk, OpenMode, SimDisk};
use grey_log::{Checkpoints, Log, LogConfig, LogError, inspect};
use grey_seal::{Algorithm, Keyring, MasterKey, Seal};
use libfuzzer_sys::fuzz_target;

static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(|| {
    let key = MasterKey::from_bytes(std::array::from_fn(|position| position as u8));
    Arc::new(Keyring::with_seeded_salts(vec![key], 1).expect("a key"))
});

const NAMES: [&str; 4] = [
    "log/00000000000000000000.log",
    "log/00000000000000000003.log",
    "log/synced",
    "log/checkpoint-00000000000000000007",
];

/// Puts magic, version and checksum right where asked to, because behind wrong ones
/// little is reached.
fn finish(name: &str, bytes: &mut [u8]) {
    if name.ends_with(".log") && bytes.len() >= 64 {
        bytes[..8].copy_from_slice(b"greylog\0");
        // Sealed or plain, of the key that is given or of any.
        let version = if bytes[8] == 2 { 2 } else { 1 };
        bytes[8..12].copy_from_slice(&[version, 0, 0, 0]);
        if bytes[52..54] == [0, 0] {
            bytes[52..60].copy_from_slice(&KEYRING.current_id().to_bytes());
        }
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..64].copy_from_slice(&crc.to_le_bytes());
    } else if name.ends_with("synced") && bytes.len() >= 48 {
        bytes[..8].copy_from_slice(b"greymrk\0");
        bytes[40..42].copy_from_slice(&[1, 0]);
        let crc = crc32c::crc32c(&bytes[..44]);
        bytes[44..48].copy_from_slice(&crc.to_le_bytes());
    }
}

fuzz_target!(|input: &[u8]| {
    let disk = SimDisk::new(0);
    let dir = Path::new("log");
    disk.create_dir_all(dir).expect("directory");
    let Some((finished, mut rest)) = input.split_first() else { return };
    for (bit, name) in NAMES.iter().enumerate() {
        let Some((len, behind)) = rest.split_first_chunk() else { break };
        let (bytes, behind) = behind.split_at(behind.len().min(u16::from_le_bytes(*len).into()));
        rest = behind;
        let mut bytes = bytes.to_vec();
        if finished >> bit & 1 == 1 {
            finish(name, &mut bytes);
        }
        disk.open(Path::new(name), OpenMode::CreateNew).expect("create").write_at(&bytes, 0).expect("write");
    }
    let shared: Arc<dyn Disk> = Arc::new(disk);
    let config = LogConfig { segment_bytes_max: 4_096, record_bytes_max: 4_096 };
    let seal = (finished >> 7 == 1).then(|| Seal::new(Arc::clone(&KEYRING), Algorithm::auto(), "fuzz"));
    let found = inspect(Arc::clone(&shared), dir, config, seal.as_ref()).expect("looking needs no key");
    found.records(|_| {}).for_each(drop);
    let open = || match Log::open_sealed(Arc::clone(&shared), dir, config, seal.as_ref()) {
        Ok((log, _)) => Some(log),
        Err(LogError::KeyMissing { .. }) => None,
        Err(error) => panic!("damage is no reason not to open: {error}"),
    };
    let Some(mut log) = open() else { return };
    let end = log.durable_end();
    let reader = log.reader();
    let mut next = reader.first_index();
    while next < end {
        match reader.scan(next, 1_000) {
            Ok(records) => {
                assert!(!records.is_empty());
                for (index, payload) in records {
                    assert_eq!(index, next);
                    assert!(payload.len() <= 1 << 20);
                    next += 1;
                }
            }
            Err(LogError::Damaged { lost, .. }) => {
                assert!(lost.contains(&next));
                next = lost.end;
            }
            Err(LogError::KeyMissing { .. }) => next += 1,
            Err(error) => panic!("reading: {error}"),
        }
    }
    if end < (1 << 63) - 10 {
        assert_eq!(log.append(b"goes on").expect("append"), end);
        log.commit().expect("commit");
        drop(log);
        let log = open().expect("its own key");
        assert_eq!(log.read(end).expect("read").as_deref(), Some(&b"goes on"[..]));
    }
    let checkpoints = Checkpoints::open_sealed(shared, dir, 3, seal.as_ref()).expect("open");
    match checkpoints.load_newest(None) {
        Ok(_) | Err(LogError::KeyMissing { .. }) => {}
        Err(error) => panic!("damage is no error: {error}"),
    }
});
