//! Any bytes as messages of a peer, to a member that has just started: decoding, sessions
//! and joining never panic, and nothing a stranger says makes it take part alone.
#![no_main]

use std::path::Path;
use std::sync::Arc;

use grey_consensus::{Config, Group, Role};
use grey_disk::SimDisk;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|messages: Vec<(bool, Vec<u8>)>| {
    let config = Config::new(1, vec![1, 2, 3], 7);
    let (mut group, _) = Group::open(Arc::new(SimDisk::new(0)), Path::new("group"), config).expect("a new directory");
    for (is_sealed, mut bytes) in messages {
        if is_sealed {
            // Behind a wrong version, address or checksum little is reached.
            let head = [1, bytes.first().map_or(0, |tag| tag % 4), 2, 1];
            bytes.splice(0..bytes.len().min(1), head);
            let sum = crc32c::crc32c(&bytes);
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        let _ = group.step(2, &bytes);
        group.tick();
        while group.poll().expect("a simulated disk").more {}
    }
    assert!(matches!(group.status().role, Role::Forming | Role::Recovering), "one peer is no quorum");
});
