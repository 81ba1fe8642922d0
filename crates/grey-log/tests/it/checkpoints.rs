//! Checkpoints: the newest intact one wins, whatever happened to the others.

use super::*;

fn checkpoints(disk: &SimDisk, keep: usize) -> Checkpoints {
    Checkpoints::open_sealed(Arc::new(disk.clone()), Path::new("state"), keep, sealing().as_ref()).expect("open")
}

fn newest(checkpoints: &Checkpoints) -> Option<(u64, Vec<u8>)> {
    checkpoints.load_newest(None).expect("load")
}

fn path(position: u64) -> String {
    format!("state/checkpoint-{position:020}")
}

#[test]
fn the_newest_are_kept_and_found() {
    let disk = SimDisk::new(1);
    let states = checkpoints(&disk, 3);
    assert_eq!(newest(&states), None);
    for position in [5, 17, 100, 2_000] {
        states.save(position, &payload(position)).expect("save");
    }
    assert_eq!(states.list().expect("list"), [17, 100, 2_000]);
    assert_eq!(newest(&states), Some((2_000, payload(2_000))));
    assert_eq!(states.load_newest(Some(1_999)).expect("load"), Some((100, payload(100))));
    assert_eq!(states.load_newest(Some(16)).expect("load"), None);
    states.save(2_000, b"again").expect("replace");
    assert_eq!(newest(&states), Some((2_000, b"again".to_vec())));
    states.save(30, b"behind").expect("one below the newest is kept too");
    assert_eq!(states.list().expect("list"), [30, 100, 2_000]);
    states.remove_below(100).expect("remove");
    assert_eq!(states.list().expect("list"), [100, 2_000]);
    states.remove_above(100).expect("remove");
    assert_eq!(states.list().expect("list"), [100]);
    states.save(u64::MAX, b"").expect("an empty one");
    assert_eq!(newest(&states), Some((u64::MAX, vec![])));
}

#[test]
fn a_damaged_one_is_put_aside() {
    let disk = SimDisk::new(1);
    let states = checkpoints(&disk, 3);
    states.save(1, b"one").expect("save");
    states.save(2, b"two").expect("save");
    let len = disk.files().iter().find(|(name, _)| *name == path(2)).expect("there").1;
    for offset in 0..len {
        let disk = disk.fork(offset);
        disk.flip(Path::new(&path(2)), offset, (offset % 8) as u8).expect("flip");
        let states = checkpoints(&disk, 3);
        assert_eq!(newest(&states), Some((1, b"one".to_vec())), "byte {offset}");
        assert_eq!(states.list().expect("list"), [1]);
        assert!(exists(&disk, &path(2).replace("state/", "state/quarantine/")));
    }
    for cut in 0..len {
        let disk = disk.fork(cut);
        disk.truncate(Path::new(&path(2)), cut).expect("truncate");
        assert_eq!(newest(&checkpoints(&disk, 3)), Some((1, b"one".to_vec())), "cut at {cut}");
    }
    disk.rename(Path::new(&path(2)), Path::new(&path(9))).expect("rename");
    assert_eq!(newest(&states), Some((1, b"one".to_vec())), "one under another's name does not count");
}

#[test]
fn a_power_loss_leaves_the_old_or_the_new() {
    let mut kinds = std::collections::BTreeSet::new();
    for run in 0..400 {
        let disk = SimDisk::new(run);
        let states = checkpoints(&disk, 2);
        for position in 1..=3 {
            states.save(position, &vec![position as u8; 2_000]).expect("save");
        }
        disk.power_off_after(run % 9);
        let saved = states.save(4, &[4; 2_000]).is_ok();
        disk.crash();
        let (position, bytes) = newest(&checkpoints(&disk, 2)).expect("there is one");
        assert!(position == 4 || !saved && position == 3, "run {run}");
        assert_eq!(bytes, vec![position as u8; 2_000]);
        kinds.insert((saved, position));
    }
    assert_eq!(kinds.len(), 3);
}

#[test]
fn a_full_disk_keeps_the_old_one() {
    let disk = SimDisk::new(1);
    let states = checkpoints(&disk, 2);
    states.save(1, &[1; 500]).expect("save");
    disk.set_capacity(Some(800));
    assert!(matches!(states.save(2, &[2; 500]), Err(LogError::Full { .. })));
    assert_eq!(newest(&states).expect("there").0, 1);
    let saved = disk.files()[0].1;
    assert_eq!(disk.available_bytes().expect("space"), 800 - saved, "nothing half-written stays");
}
