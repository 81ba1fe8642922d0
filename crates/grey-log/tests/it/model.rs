//! Any sequence of operations, power losses among them, against a plain model.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Append(usize),
    Commit,
    /// Per cent of what is there.
    Trim(u64),
    Truncate(u64),
    /// Distance of the new next index from the old one.
    Reset(i64),
    Reopen,
    /// The process dies; the system lives.
    Kill,
    Crash,
    /// Power goes after so many further changes of the disk.
    PowerOff(u64),
}

/// What must be there, by index from `start` on.
#[derive(Debug, Clone, Default)]
struct Expected {
    start: u64,
    committed: VecDeque<Vec<u8>>,
    pending: Vec<Vec<u8>>,
}

impl Expected {
    fn end(&self) -> u64 {
        self.start + self.committed.len() as u64
    }

    fn next(&self) -> u64 {
        self.end() + self.pending.len() as u64
    }

    fn commit(&mut self) {
        self.committed.extend(self.pending.drain(..));
    }

    fn trim_to(&mut self, first: u64) {
        self.committed.drain(..(first - self.start) as usize);
        self.start = first;
    }

    fn truncate(&mut self, index: u64) {
        if index < self.start {
            return self.reset(index);
        }
        self.pending.truncate(index.saturating_sub(self.end()) as usize);
        self.committed.truncate((index - self.start) as usize);
    }

    fn reset(&mut self, next: u64) {
        *self = Self { start: next, ..Self::default() };
    }
}

/// The operation that the power loss interrupted.
#[derive(Debug, Clone, Copy)]
enum Doubt {
    Nothing,
    Commit,
    Trim,
    Truncate(u64),
    Reset(u64),
}

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    log: Option<Log>,
    expected: Expected,
    written: u64,
    pub(crate) losses: u64,
    config: LogConfig,
}

impl World {
    /// Every other one with segments large enough for zeros to be written ahead.
    pub(crate) fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let config = if seed.is_multiple_of(2) { small() } else { LogConfig { segment_bytes_max: 65_536, ..small() } };
        let (log, _) = open(&disk, config);
        Self { disk, log: Some(log), expected: Expected::default(), written: 0, losses: 0, config }
    }

    pub(crate) fn run(&mut self, op: &Op) {
        let expected = &mut self.expected;
        let log = self.log.as_mut().expect("open between operations");
        let share = |per_cent: u64| expected.start + (expected.next() - expected.start) * per_cent / 100;
        let (outcome, doubt) = match *op {
            Op::Append(len) => {
                self.written += 1;
                let mut payload = vec![self.written as u8; len];
                payload.extend_from_slice(&self.written.to_le_bytes());
                assert_eq!(log.append(&payload).expect("appending touches no disk"), expected.next());
                expected.pending.push(payload);
                (Ok(()), Doubt::Nothing)
            }
            Op::Commit => {
                let outcome = log.commit().map(|end| {
                    expected.commit();
                    assert_eq!(end, expected.end());
                });
                (outcome, Doubt::Commit)
            }
            Op::Trim(per_cent) => {
                let index = share(per_cent).min(expected.end());
                let outcome = log.trim_front(index);
                if outcome.is_ok() {
                    assert!(log.first_index() <= index.max(expected.start));
                    expected.trim_to(log.first_index());
                }
                (outcome, Doubt::Trim)
            }
            Op::Truncate(per_cent) => {
                let index = share(per_cent);
                let outcome = log.truncate_back(index).map(|()| expected.truncate(index));
                (outcome, Doubt::Truncate(index))
            }
            Op::Reset(distance) => {
                let next = expected.next().saturating_add_signed(distance);
                let outcome = log.reset(next).map(|()| expected.reset(next));
                (outcome, Doubt::Reset(next))
            }
            Op::Reopen => {
                self.log = None;
                return self.reopen(Doubt::Nothing);
            }
            Op::Kill => {
                self.disk.kill();
                return self.reopen(Doubt::Nothing);
            }
            Op::Crash => {
                self.disk.crash();
                return self.reopen(Doubt::Nothing);
            }
            Op::PowerOff(changes) => {
                self.disk.power_off_after(changes);
                return;
            }
        };
        if let Err(error) = outcome {
            assert!(self.disk.is_off(), "{op:?}: {error}");
            self.losses += 1;
            self.disk.crash();
            return self.reopen(doubt);
        }
        if self.disk.is_off() {
            // It went while a hint was written, which is no failure.
            self.losses += 1;
            self.disk.crash();
            return self.reopen(Doubt::Nothing);
        }
        let log = self.log.as_ref().expect("open");
        assert_eq!(
            (log.first_index(), log.durable_end(), log.next_index()),
            (self.expected.start, self.expected.end(), self.expected.next()),
            "after {op:?}"
        );
    }

    /// Opens the log after its end, and checks what it holds.
    fn reopen(&mut self, doubt: Doubt) {
        self.log = None;
        let (log, recovery) = loop {
            match try_open(&self.disk, self.config) {
                Ok(opened) => break opened,
                Err(error) => {
                    assert!(self.disk.is_off(), "opening: {error}");
                    self.losses += 1;
                    self.disk.crash();
                }
            }
        };
        assert_eq!((&recovery.damaged[..], &recovery.lost_durable), (&[][..], &None), "{doubt:?}");
        let (first, end) = (log.first_index(), log.durable_end());
        assert_eq!((log.next_index(), recovery.records), (end, end - first));
        let expected = &mut self.expected;
        match doubt {
            // All or nothing.
            Doubt::Reset(next) if (first, end) == (next, next) => expected.reset(next),
            Doubt::Truncate(index) if end == index && index < expected.end() => expected.truncate(index),
            Doubt::Trim => {
                assert!((expected.start..=expected.end()).contains(&first));
                expected.trim_to(first);
            }
            Doubt::Truncate(_) | Doubt::Reset(_) | Doubt::Commit | Doubt::Nothing => {}
        }
        // Records that were never acknowledged may be there, in order and whole.
        assert!((expected.end()..=expected.next()).contains(&end), "{doubt:?}: {end} in {expected:?}");
        let kept = (end - expected.end()) as usize;
        expected.committed.extend(expected.pending.drain(..).take(kept));
        assert_eq!(first, expected.start, "{doubt:?}");
        self.log = Some(log);
        self.check();
    }

    /// Every committed record is there, and nothing else.
    pub(crate) fn check(&self) {
        let log = self.log.as_ref().expect("open");
        let mut next = self.expected.start;
        loop {
            let records = log.reader().scan(next, 700).expect("no damage");
            if records.is_empty() {
                break;
            }
            for (index, payload) in records {
                assert_eq!(index, next);
                assert_eq!(&payload[..], &self.expected.committed[(index - self.expected.start) as usize][..]);
                next += 1;
            }
        }
        assert_eq!(next, self.expected.end());
        for (index, payload) in (self.expected.start..).zip(&self.expected.committed) {
            assert_eq!(&log.read(index).expect("no damage").expect("there")[..], &payload[..]);
        }
        assert_eq!(log.bytes(), segments(&self.disk).iter().map(|(_, len)| len).sum::<u64>());
    }
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        20 => (0_usize..400).prop_map(Op::Append),
        1 => (1_000_usize..4_000).prop_map(Op::Append),
        12 => Just(Op::Commit),
        2 => (0_u64..=120).prop_map(Op::Trim),
        2 => (0_u64..=110).prop_map(Op::Truncate),
        1 => (-20_i64..20).prop_map(Op::Reset),
        1 => Just(Op::Reopen),
        1 => Just(Op::Kill),
        1 => Just(Op::Crash),
        4 => (0_u64..12).prop_map(Op::PowerOff),
    ];
    proptest::collection::vec(op, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(600), ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_a_list_that_survives(seed: u64, ops in ops()) {
        let mut world = World::new(seed);
        for op in &ops {
            world.run(op);
        }
        world.check();
    }
}
