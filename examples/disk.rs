//! A simulated disk: what a program that forgets an fsync loses, and what one
//! that does not keeps.
//!
//! `cargo run -p grey-examples --example disk`

use std::io;
use std::path::Path;

use grey_disk::{Disk, OpenMode, SimDisk, is_full, read_file, write_file_atomic};

/// Saves a setting by overwriting it in place: wrong.
fn save_carelessly(disk: &dyn Disk, value: &[u8]) -> io::Result<()> {
    let file = disk.open(Path::new("setting"), OpenMode::ReadWrite)?;
    file.set_len(0)?;
    file.write_at(value, 0)
}

fn main() -> io::Result<()> {
    let setting = Path::new("setting");
    let (old, new) = ([b'o'; 2_000], [b'n'; 2_000]);

    // Each seed is another power loss: what was not synced may be lost sector by sector.
    let (mut mixed, mut whole) = (0, 0);
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        write_file_atomic(&disk, setting, &old)?;
        save_carelessly(&disk, &new)?;
        disk.crash();
        let found = read_file(&disk, setting, 4_096)?;
        if found == old || found == new { whole += 1 } else { mixed += 1 }
    }
    println!("overwritten in place: {whole} times whole, {mixed} times neither old nor new");
    assert!(mixed > 0, "the simulated disk shows the mistake");

    // The same with a rename, and power that goes after every single change.
    for changes in 0..20 {
        let disk = SimDisk::new(changes);
        write_file_atomic(&disk, setting, &old)?;
        disk.power_off_after(changes);
        let acknowledged = write_file_atomic(&disk, setting, &new).is_ok();
        disk.crash();
        let found = read_file(&disk, setting, 4_096)?;
        assert!(found == old || found == new, "after {changes} changes");
        assert!(!acknowledged || found == new, "what was acknowledged is there");
    }

    // Full disks and failing fsyncs can be asked for, too.
    let disk = SimDisk::new(1);
    disk.set_capacity(Some(1_000));
    let error = write_file_atomic(&disk, setting, &old).expect_err("2,000 bytes do not fit");
    assert!(is_full(&error));
    disk.set_capacity(None);
    disk.fail_next_sync(1);
    assert!(write_file_atomic(&disk, setting, &old).is_err());
    println!("written by rename: old or new after a power loss at any moment");
    Ok(())
}
