//! The windows of a key written the slow way: every event is kept, and every
//! question is answered by looking through all of them.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// A window as the model says it: start, end, times and values, partial.
type Found = (i64, i64, Vec<(i64, f64)>, bool);

struct Model {
    spec: WindowSpec,
    /// Every event that was taken and not given up: time, value, and up to where windows were closed then.
    events: Vec<(i64, f64, i64)>,
    /// Of sessions: the events of each that is open.
    sessions: Vec<Vec<(i64, f64)>>,
    newest_ms: Option<i64>,
    heard_ms: i64,
    closed_ms: i64,
    anew: bool,
    /// Of a sliding window: the time of the last report and of the last event behind the watermark.
    reported_ms: Option<i64>,
    released_ms: i64,
    out: Vec<Found>,
}

impl Model {
    fn new(spec: WindowSpec) -> Self {
        Self {
            spec,
            events: Vec::new(),
            sessions: Vec::new(),
            newest_ms: None,
            heard_ms: i64::MIN,
            closed_ms: i64::MIN,
            anew: false,
            reported_ms: None,
            released_ms: i64::MIN,
            out: Vec::new(),
        }
    }

    fn watermark_ms(&self) -> i64 {
        self.newest_ms.map_or(i64::MIN, |newest_ms| newest_ms - self.spec.lateness_ms)
    }

    fn size_every(&self) -> (i64, i64) {
        match self.spec.assigner {
            Assigner::Tumbling { size_ms } => (size_ms, size_ms),
            Assigner::Hopping { size_ms, every_ms } | Assigner::Sliding { size_ms, every_ms } => (size_ms, every_ms),
            Assigner::Session { gap_ms, size_max_ms } => (size_max_ms, gap_ms),
            Assigner::Count { size } => (size as i64, 0),
        }
    }

    /// The ends of the windows that hold a time.
    fn ends_of(&self, time_ms: i64) -> impl Iterator<Item = i64> + use<> {
        let (size_ms, every_ms) = self.size_every();
        let first_ms = time_ms.div_euclid(every_ms) * every_ms + every_ms;
        (0..size_ms / every_ms).map(move |n| first_ms + n * every_ms)
    }

    fn add(&mut self, time_ms: i64, now_ms: i64, value: f64) -> Placed {
        self.set_back(now_ms);
        if time_ms > now_ms + self.spec.ahead_max_ms {
            return Placed::Ahead;
        }
        let (size, every) = self.size_every();
        let taken = match self.spec.assigner {
            Assigner::Tumbling { .. } | Assigner::Hopping { .. } => {
                let last_end_ms = self.ends_of(time_ms).last().unwrap();
                if self.anew {
                    self.closed_ms = last_end_ms;
                }
                self.closed_ms = self.closed_ms.max(self.watermark_ms());
                self.events.push((time_ms, value, self.closed_ms));
                last_end_ms > self.closed_ms || self.events.pop().is_none()
            }
            Assigner::Session { .. } => {
                if self.anew {
                    self.closed_ms = time_ms;
                }
                self.place_session(time_ms, value, every, size)
            }
            Assigner::Sliding { .. } => {
                if self.anew {
                    self.closed_ms = time_ms;
                }
                self.events.push((time_ms, value, 0));
                time_ms >= self.closed_ms.max(self.watermark_ms()) || self.events.pop().is_none()
            }
            Assigner::Count { .. } => {
                self.events.push((time_ms, value, 0));
                true
            }
        };
        self.anew = false;
        if !taken {
            return Placed::Late;
        }
        self.newest_ms = Some(self.newest_ms.map_or(time_ms, |newest_ms| newest_ms.max(time_ms)));
        self.heard_ms = now_ms;
        self.close(self.watermark_ms(), false);
        Placed::Taken
    }

    fn place_session(&mut self, time_ms: i64, value: f64, gap_ms: i64, size_max_ms: i64) -> bool {
        let first = |session: &Vec<(i64, f64)>| session.iter().map(|event| event.0).min().unwrap();
        let last = |session: &Vec<(i64, f64)>| session.iter().map(|event| event.0).max().unwrap();
        if time_ms < self.closed_ms {
            return false;
        }
        let joins = |session: &Vec<(i64, f64)>| {
            let (first_ms, last_ms) = (first(session).min(time_ms), last(session).max(time_ms));
            let near = time_ms - last(session) < gap_ms && first(session) - time_ms < gap_ms;
            near && last_ms - first_ms < size_max_ms
        };
        // The one before is asked first.
        self.sessions.sort_by_key(first);
        if let Some(at) = self.sessions.iter().position(joins) {
            self.sessions[at].push((time_ms, value));
        } else if self.newest_ms.is_some() && time_ms + gap_ms <= self.watermark_ms() {
            return false;
        } else {
            self.sessions.push(vec![(time_ms, value)]);
        }
        self.sessions.sort_by_key(first);
        let at = self.sessions.iter().position(|session| session.contains(&(time_ms, value))).unwrap();
        while let Some(next) = self.sessions.get(at + 1) {
            let own = &self.sessions[at];
            if first(next) - last(own) >= gap_ms || last(next) - first(own) >= size_max_ms {
                break;
            }
            let next = self.sessions.remove(at + 1);
            self.sessions[at].extend(next);
        }
        true
    }

    fn close(&mut self, until_ms: i64, partial: bool) {
        let (size, every) = self.size_every();
        match self.spec.assigner {
            Assigner::Tumbling { .. } | Assigner::Hopping { .. } => {
                let mut ends = BTreeSet::new();
                for (time_ms, _, closed_ms) in &self.events {
                    let closed_ms = self.closed_ms.max(*closed_ms);
                    ends.extend(self.ends_of(*time_ms).filter(|end_ms| *end_ms > closed_ms && *end_ms <= until_ms));
                }
                for end_ms in ends {
                    let start_ms = end_ms - size;
                    let held = self.events.iter().filter(|event| (start_ms..end_ms).contains(&event.0));
                    let held = held.map(|event| (event.0, event.1)).collect();
                    self.out.push((start_ms, end_ms, held, partial));
                    self.closed_ms = self.closed_ms.max(end_ms);
                }
                let closed_ms = self.closed_ms;
                self.events.retain(|event| event.0.div_euclid(every) * every + size > closed_ms);
            }
            Assigner::Session { .. } => {
                while let Some(session) = self.sessions.first() {
                    let start_ms = session.iter().map(|event| event.0).min().unwrap();
                    let last_ms = session.iter().map(|event| event.0).max().unwrap();
                    let mut end_ms = (last_ms + every).min(start_ms + size);
                    if end_ms > until_ms {
                        break;
                    }
                    if let Some(next) = self.sessions.get(1) {
                        end_ms = end_ms.min(next.iter().map(|event| event.0).min().unwrap());
                    }
                    self.closed_ms = self.closed_ms.max(end_ms);
                    let session = self.sessions.remove(0);
                    self.out.push((start_ms, end_ms, session, partial));
                }
            }
            Assigner::Sliding { .. } => {
                let times: BTreeSet<i64> = self.events.iter().map(|event| event.0).collect();
                for time_ms in times.into_iter().filter(|time_ms| *time_ms <= until_ms) {
                    self.closed_ms = self.closed_ms.max(time_ms);
                    // An event at the time of a report may come behind it; it reports nothing anew.
                    if time_ms > self.released_ms {
                        self.released_ms = time_ms;
                    }
                    if self.reported_ms.is_none_or(|reported_ms| time_ms >= reported_ms + every) {
                        self.report(time_ms, size, partial);
                    }
                }
                let last_ms = self.events.iter().map(|event| event.0).max();
                if let Some(last_ms) = last_ms.filter(|last_ms| partial && Some(*last_ms) > self.reported_ms) {
                    self.report(last_ms, size, true);
                }
            }
            Assigner::Count { size } => {
                while self.events.len() as u64 >= size || (partial && !self.events.is_empty()) {
                    let len = self.events.len().min(size as usize);
                    let held: Vec<(i64, f64)> = self.events.drain(..len).map(|event| (event.0, event.1)).collect();
                    let start_ms = held.iter().map(|event| event.0).min().unwrap();
                    let end_ms = held.iter().map(|event| event.0).max().unwrap() + 1;
                    self.out.push((start_ms, end_ms, held, (len as u64) < size));
                }
            }
        }
    }

    fn report(&mut self, time_ms: i64, size_ms: i64, partial: bool) {
        let held = self.events.iter().filter(|event| event.0 > time_ms - size_ms && event.0 <= time_ms);
        let held = held.map(|event| (event.0, event.1)).collect();
        self.out.push((time_ms - size_ms + 1, time_ms + 1, held, partial));
        self.reported_ms = Some(time_ms);
    }

    fn advance(&mut self, now_ms: i64) {
        self.set_back(now_ms);
        let Some(newest_ms) = self.newest_ms else { return };
        let reached_ms = now_ms.min(newest_ms + (now_ms - self.heard_ms));
        let until_ms = reached_ms - self.spec.lateness_ms - self.spec.idle_ms;
        match self.spec.assigner {
            Assigner::Count { .. } => {}
            Assigner::Sliding { size_ms, .. } => {
                self.close(until_ms - 1, false);
                let Some(last_ms) = self.events.iter().map(|event| event.0).max() else { return };
                if last_ms < until_ms && Some(last_ms) > self.reported_ms {
                    self.report(last_ms, size_ms, false);
                }
                if last_ms + size_ms <= until_ms {
                    self.events.clear();
                    self.reported_ms = None;
                }
            }
            _ => self.close(until_ms, false),
        }
    }

    fn set_back(&mut self, now_ms: i64) {
        self.heard_ms = self.heard_ms.min(now_ms);
        let is_timed = !matches!(self.spec.assigner, Assigner::Count { .. });
        if is_timed && self.newest_ms.is_some_and(|newest_ms| newest_ms > now_ms + self.spec.ahead_max_ms) {
            self.finish();
            self.newest_ms = None;
            self.anew = true;
            // Every window is closed, whenever it would have ended.
            self.closed_ms = i64::MIN;
        }
    }

    fn finish(&mut self) {
        self.close(i64::MAX / 4, true);
        if matches!(self.spec.assigner, Assigner::Sliding { .. }) {
            self.events.clear();
            self.reported_ms = None;
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// The site's clock moves by the first, and an event comes whose time differs from it by the second.
    Add(i64, i64, f64),
    Advance(i64),
    Save,
    Finish,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let pace = prop_oneof![
        40 => 0..400_i64,
        6 => 400..9_000_i64,
        1 => -3_000..0_i64,
        1 => prop::sample::select(vec![3_600_000, -3_600_000, DAYS_400, -DAYS_400]),
    ];
    let apart = prop_oneof![
        20 => Just(0_i64),
        20 => -2_500..300_i64,
        2 => -8_000..60_500_i64,
        1 => prop::sample::select(vec![3_600_000, -3_600_000, DAYS_400, -DAYS_400]),
    ];
    let step = prop_oneof![
        30 => (pace, apart, -100.0..100.0_f64).prop_map(|(pace, apart, value)| Step::Add(pace, apart, value)),
        3 => (0..6_000_i64).prop_map(Step::Advance),
        1 => prop::sample::select(vec![3_600_000, -3_600_000, DAYS_400, -DAYS_400]).prop_map(Step::Advance),
        2 => Just(Step::Save),
        1 => Just(Step::Finish),
    ];
    prop::collection::vec(step, 1..120)
}

fn check(closed: &Closed, found: &Found) -> Result<(), TestCaseError> {
    let (start_ms, end_ms, events, partial) = found;
    prop_assert_eq!((closed.start_ms, closed.end_ms, closed.partial), (*start_ms, *end_ms, *partial));
    let mut whole = Accumulator::new(NEEDS);
    for (time_ms, value) in events {
        whole.add(*value, *time_ms);
    }
    let accumulator = &closed.accumulator;
    prop_assert!(!accumulator.is_empty());
    prop_assert_eq!(accumulator.span_ms(), whole.span_ms());
    let (first_ms, last_ms) = accumulator.span_ms().unwrap();
    prop_assert!(closed.start_ms <= first_ms && last_ms < closed.end_ms, "an event outside of its window");
    for field in [Field::Count, Field::Min, Field::Max, Field::First, Field::Last] {
        prop_assert_eq!(accumulator.get(field), whole.get(field), "{}", field);
    }
    for field in [Field::Sum, Field::Stddev] {
        match (accumulator.get(field), whole.get(field)) {
            (Some(one), Some(two)) => prop_assert!((one - two).abs() < 1e-6, "{}: {} {}", field, one, two),
            (one, two) => prop_assert_eq!(one, two),
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn windows_are_those_of_the_model(which in 0..18_usize, steps in steps()) {
        let spec = specs()[which];
        let (mut key, mut twin, mut model) = (KeyWindows::default(), KeyWindows::default(), Model::new(spec));
        let (mut out, mut twins) = (Vec::new(), Vec::new());
        let mut now_ms = T0;
        for (n, step) in steps.iter().enumerate() {
            match *step {
                Step::Add(pace_ms, apart_ms, value) => {
                    now_ms += pace_ms;
                    let time_ms = now_ms + apart_ms;
                    let placed = key.add(&spec, time_ms, now_ms, value, &mut out);
                    prop_assert_eq!(placed, model.add(time_ms, now_ms, value), "step {}", n);
                    twin.add(&spec, time_ms, now_ms, value, &mut twins);
                }
                Step::Advance(pace_ms) => {
                    now_ms += pace_ms;
                    let due_ms = key.due_ms(&spec);
                    let is_back = key.newest_ms > now_ms + spec.ahead_max_ms || now_ms < key.heard_ms;
                    let before = saved(&key);
                    key.advance(&spec, now_ms, &mut out);
                    if !is_back {
                        let is_due = due_ms.is_some_and(|due_ms| due_ms <= now_ms);
                        prop_assert_eq!(saved(&key) != before, is_due, "step {}: {:?} at {}", n, due_ms, now_ms);
                    }
                    model.advance(now_ms);
                    twin.advance(&spec, now_ms, &mut twins);
                }
                // The twin is never saved.
                Step::Save => key = restored(&spec, &saved(&key)),
                Step::Finish => {
                    key.finish(&spec, &mut out);
                    model.finish();
                    twin.finish(&spec, &mut twins);
                    prop_assert!(key.is_empty() && key.due_ms(&spec).is_none());
                }
            }
            prop_assert_eq!(saved(&key), saved(&twin), "step {}", n);
            prop_assert_eq!(&out, &twins);
            prop_assert_eq!(out.len(), model.out.len(), "step {}: {:?} {:?}", n, brief(&out), model.out);
            for (closed, found) in out.iter().zip(&model.out) {
                check(closed, found)?;
            }
            out.clear();
            twins.clear();
            model.out.clear();
        }
    }

    /// Whatever the times: every event that was taken is in exactly one window.
    #[test]
    fn nothing_is_lost_or_doubled(
        which in 0..18_usize,
        steps in prop::collection::vec((any::<i64>(), any::<i64>(), 0..8_u8), 1..80),
    ) {
        let spec = specs()[which];
        let (mut key, mut out) = (KeyWindows::default(), Vec::new());
        let mut taken = 0;
        for (time_ms, now_ms, kind) in steps {
            let (time_ms, now_ms) = match kind {
                0 => (time_ms, now_ms),
                1 => (time_ms % (1 << 61), now_ms),
                2 => (now_ms.saturating_add(time_ms % 2_000), now_ms),
                3 => (T0, T0 + now_ms % (1 << 41)),
                _ => (T0 + time_ms % 5_000, T0 + now_ms % 5_000),
            };
            if kind == 3 {
                key.advance(&spec, now_ms, &mut out);
            } else {
                taken += u64::from(key.add(&spec, time_ms, now_ms, 1.0, &mut out) == Placed::Taken);
            }
            prop_assert_eq!(saved(&restored(&spec, &saved(&key))), saved(&key));
        }
        key.finish(&spec, &mut out);
        for closed in &out {
            let (first_ms, last_ms) = closed.accumulator.span_ms().unwrap();
            prop_assert!(closed.start_ms <= first_ms && last_ms < closed.end_ms);
        }
        if matches!(spec.assigner, Assigner::Tumbling { .. } | Assigner::Session { .. } | Assigner::Count { .. }) {
            prop_assert_eq!(out.iter().map(|closed| closed.accumulator.count()).sum::<u64>(), taken);
        }
    }

    /// In any order within the lateness the windows are the same.
    #[test]
    fn order_within_the_lateness_does_not_matter(
        // Those of the greatest lateness, but for counts, and for sessions that are
        // cut at their greatest length: they are cut where the order says.
        which in prop::sample::select(vec![12_usize, 13, 15, 16]),
        mut events in prop::collection::vec((0..20_000_i64, 0..1_900_i64, -100.0..100.0_f64), 1..200),
    ) {
        let spec = specs()[which];
        prop_assert_eq!(spec.lateness_ms, 2_000);
        let run = |events: &[(i64, i64, f64)]| {
            let (mut key, mut out) = (KeyWindows::default(), Vec::new());
            for (time_ms, _, value) in events {
                assert_eq!(key.add(&spec, T0 + time_ms, T0 + 20_000, *value, &mut out), Placed::Taken);
            }
            key.finish(&spec, &mut out);
            out.into_iter()
                .map(|closed| (closed.start_ms, closed.end_ms, closed.accumulator.count(), closed.accumulator.get(Field::Last)))
                .collect::<Vec<_>>()
        };
        events.sort_by_key(|event| event.0);
        let ordered = run(&events);
        events.sort_by_key(|event| event.0 + event.1);
        prop_assert_eq!(run(&events), ordered);
    }

    /// Values that were accumulated beforehand make the same windows.
    #[test]
    fn panes_make_the_same_windows(which in prop::sample::select(vec![0_usize, 1, 3]), events in prop::collection::vec((0..900_i64, -100.0..100.0_f64), 1..100)) {
        let spec = specs()[which];
        let (mut one, mut out) = (KeyWindows::default(), Vec::new());
        let (mut two, mut others) = (KeyWindows::default(), Vec::new());
        let mut pane: Option<(i64, Accumulator)> = None;
        let mut now_ms = T0;
        for (pace_ms, value) in &events {
            now_ms += pace_ms;
            one.add(&spec, now_ms, now_ms, *value, &mut out);
            let start_ms = spec.pane_of(now_ms).unwrap();
            if let Some((_, pane)) = pane.take_if(|pane| pane.0 != start_ms) {
                let time_ms = pane.span_ms().unwrap().1;
                prop_assert_eq!(two.merge_pane(&spec, time_ms, time_ms, &pane, &mut others), Placed::Taken);
            }
            pane.get_or_insert_with(|| (start_ms, Accumulator::new(NEEDS))).1.add(*value, now_ms);
        }
        if let Some((start_ms, pane)) = pane {
            two.merge_pane(&spec, start_ms.max(pane.span_ms().unwrap().0), now_ms, &pane, &mut others);
        }
        one.finish(&spec, &mut out);
        two.finish(&spec, &mut others);
        prop_assert_eq!(brief(&out), brief(&others));
    }

    #[test]
    fn hostile_bytes_never_panic(which in 0..18_usize, bytes: Vec<u8>, at: prop::sample::Index, byte: u8) {
        let spec = specs()[which];
        let _ = KeyWindows::read(&spec, &mut Reader::new(&bytes));
        let (mut key, mut out) = (KeyWindows::default(), Vec::new());
        for n in 0..6 {
            key.add(&spec, T0 + n * 300, T0 + n * 300, n as f64, &mut out);
        }
        let mut damaged = saved(&key);
        let at = at.index(damaged.len());
        damaged[at] = byte;
        if let Ok(mut key) = KeyWindows::read(&spec, &mut Reader::new(&damaged)) {
            prop_assert_eq!(saved(&restored(&spec, &saved(&key))), saved(&key));
            for n in 0..20 {
                key.add(&spec, T0 + n * 700, T0 + n * 700, 1.0, &mut out);
                key.advance(&spec, T0 + n * 900, &mut out);
                let _ = key.due_ms(&spec);
            }
            key.finish(&spec, &mut out);
            for closed in &out {
                let (first_ms, last_ms) = closed.accumulator.span_ms().unwrap();
                prop_assert!(closed.start_ms <= first_ms && last_ms < closed.end_ms);
            }
        }
    }
}
