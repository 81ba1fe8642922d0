//! Applying a record: its events are deduplicated, evaluated and numbered in
//! its order; what rules derive from them comes after them.

use std::fmt::Debug;
use std::sync::Arc;

use grey_ingest::Op;
use grey_model::{Disposition, Event, Lane, Stamp};
use grey_rules::{DerivedEvent, Operation, OperationError, RuleSet, Verdict};

use super::lane::LaneWriter;
use super::record::Change;
use super::{CoreError, EdgeCore};

/// Who is told of what the rules decide at once, before any disk has it.
pub trait Listener: Send + Debug {
    /// A rule derived an event that the outbox does not have. After a crash some are told of
    /// again, and none is left out.
    fn derived(&mut self, derived: &DerivedEvent);

    /// A record was evaluated that was not replayed.
    fn evaluated(&mut self) {}
}

/// Tells nobody.
#[derive(Debug)]
pub(super) struct Nobody;

impl Listener for Nobody {
    fn derived(&mut self, _: &DerivedEvent) {}
}

/// Room for the events of one record, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The lane that each event of the record asks for, and whether it was accepted before.
    places: Vec<(Option<Lane>, bool)>,
    /// Those that were not.
    events: Vec<Event>,
    verdicts: Vec<Verdict>,
}

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum OperateError {
    /// The site still replays its intake.
    #[error("the site is recovering")]
    Recovering,
    /// The rules refuse it.
    #[error(transparent)]
    Refused(#[from] OperationError),
    /// The disk failed, or is full.
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl EdgeCore {
    /// Tells this one from now on.
    pub fn set_listener(&mut self, listener: Box<dyn Listener>) {
        self.listener = listener;
    }

    /// Applies what was committed: deduplicates, evaluates, numbers.
    pub fn apply(&mut self) -> Result<(), CoreError> {
        let Some((stamp, index)) = self.committed.take() else { return Ok(()) };
        let mut ops = std::mem::take(&mut self.staged);
        self.apply_record(index, stamp, ops.drain(..))?;
        self.staged = ops;
        self.listener.evaluated();
        Ok(())
    }

    pub(super) fn apply_record(
        &mut self,
        index: u64,
        stamp: Stamp,
        ops: impl Iterator<Item = Op>,
    ) -> Result<(), CoreError> {
        self.apply_ops(index, stamp, ops)?;
        self.end_record(index, stamp)
    }

    /// Applies operations of a record: all of them, or the next part.
    pub(super) fn apply_ops(
        &mut self,
        index: u64,
        stamp: Stamp,
        ops: impl Iterator<Item = Op>,
    ) -> Result<(), CoreError> {
        let applied = index + 1;
        let mut scratch = std::mem::take(&mut self.scratch);
        for op in ops {
            match op {
                Op::Event { event, lane, qos2 } => {
                    let resent = qos2.is_some_and(|key| self.dedup.seen_packet(key));
                    self.admit(event, lane, resent, stamp, &mut scratch);
                }
                Op::Events { events, qos2 } => {
                    let resent = self.dedup.seen_packet(qos2);
                    for (event, lane) in events {
                        self.admit(event, lane, resent, stamp, &mut scratch);
                    }
                }
                Op::Release(key) => self.dedup.release(key),
                Op::Reset { client } => self.dedup.reset(client),
                Op::DeadLetter { .. } => {}
            }
        }
        self.rules.process_batch(&scratch.events, stamp, &mut scratch.verdicts, &mut self.derived);
        let mut evaluated = scratch.events.drain(..).zip(scratch.verdicts.drain(..));
        for (lane, resent) in scratch.places.drain(..) {
            let own = lane.unwrap_or(Lane::Bulk);
            if resent {
                self.roomy(own, own).account(Disposition::Deduplicated, stamp, applied);
                continue;
            }
            // There is a verdict for each.
            match evaluated.next() {
                Some((event, Verdict::Forward(chosen))) => {
                    self.roomy(chosen.unwrap_or(own), own).forward(&event, stamp, applied)?;
                }
                Some((_, Verdict::Reduced(rule))) => {
                    self.roomy(own, own).account(Disposition::Reduced(rule), stamp, applied);
                }
                None => {}
            }
        }
        drop(evaluated);
        self.scratch = scratch;
        Ok(())
    }

    /// The lane of an event. After damage the rules may choose another one than they did, whose
    /// numbers were given to others.
    fn roomy(&mut self, chosen: Lane, own: Lane) -> &mut LaneWriter {
        let lanes = [chosen, own].into_iter().chain(Lane::ALL);
        let lane = lanes.into_iter().find(|lane| self.lanes[lane.index()].has_room()).unwrap_or(own);
        &mut self.lanes[lane.index()]
    }

    /// Ends a record whose operations are applied.
    pub(super) fn end_record(&mut self, index: u64, stamp: Stamp) -> Result<(), CoreError> {
        let applied = index + 1;
        // Derived events come after the record's own, so that those are numbered by the record alone.
        self.rules.advance(stamp, &mut self.derived);
        self.derive(stamp, applied)?;
        self.applied = applied;
        Ok(())
    }

    fn admit(&mut self, mut event: Event, lane: Option<Lane>, resent_packet: bool, stamp: Stamp, into: &mut Scratch) {
        self.counters.events += 1;
        event.stamp = stamp;
        let resent_id = event.id.as_ref().is_some_and(|id| self.dedup.seen(&event.device, id));
        let resent = resent_packet || resent_id;
        into.places.push((lane, resent));
        if !resent {
            into.events.push(event);
        }
    }

    /// Numbers what the rules derived, and tells of what is new.
    fn derive(&mut self, stamp: Stamp, applied: u64) -> Result<(), CoreError> {
        for mut derived in self.derived.events.drain(..) {
            derived.event.stamp = stamp;
            self.counters.derived += 1;
            if !self.lanes[derived.lane.index()].has_room() {
                continue;
            }
            if self.lanes[derived.lane.index()].forward(&derived.event, stamp, applied)? {
                self.listener.derived(&derived);
                self.actions.ask(&self.config.site, &derived);
                self.fresh_derived.push(derived);
            }
        }
        Ok(())
    }

    /// Events that rules derived since the last call: alerts to raise here,
    /// aggregates to show. A crash may repeat some, never skip one.
    pub fn take_derived(&mut self) -> Vec<DerivedEvent> {
        std::mem::take(&mut self.fresh_derived)
    }

    /// Does what is due by time while no event arrives: writes a tick record when something is.
    pub fn tick(&mut self, now_ms: i64, uncertainty_ms: u32) -> Result<(), CoreError> {
        let due = self.rules.next_due_ms().is_some_and(|due| due <= now_ms);
        if due && self.is_recovered() && self.staged.is_empty() {
            self.write_record(now_ms, uncertainty_ms, None)?;
            self.apply()?;
        }
        Ok(())
    }

    /// When [`EdgeCore::tick`] has something to do, Unix ms.
    pub fn tick_due_ms(&self) -> Option<i64> {
        self.rules.next_due_ms()
    }

    /// Changes the rules between two records. The change is a record of its own, so that a
    /// replay makes it at the same place. The set in force stays when the new one is the same.
    ///
    /// # Errors
    /// After a full disk ([`CoreError::is_full`]) the rules are as they were. Other failures are final.
    pub fn set_rules(&mut self, rules: Arc<RuleSet>, now_ms: i64) -> Result<(), CoreError> {
        if !self.is_recovered() {
            self.next_rules = Some(rules);
            return Ok(());
        }
        if rules.digest() == self.rules.rules().digest() {
            return Ok(());
        }
        self.write_record(now_ms, 0, Some(&Change::Rules(rules.source())))?;
        if let Some((stamp, index)) = self.committed.take() {
            self.apply_record(index, stamp, std::iter::empty())?;
            self.apply_rules(rules, stamp)?;
        }
        Ok(())
    }

    /// What a rule that changes has open ends here.
    pub(super) fn apply_rules(&mut self, rules: Arc<RuleSet>, stamp: Stamp) -> Result<(), CoreError> {
        self.rules.change_rules(Arc::clone(&rules), stamp, &mut self.derived);
        self.config.rules = rules;
        self.derive(stamp, self.applied)
    }

    /// Does what a person asks for, between two records. It is a record of its own, durable
    /// before it has an effect, and a replay repeats it.
    ///
    /// # Errors
    /// [`OperateError::Refused`] leaves everything as it was.
    pub fn operate(&mut self, operation: &Operation, now_ms: i64) -> Result<(), OperateError> {
        if !self.is_recovered() {
            return Err(OperateError::Recovering);
        }
        operation.check()?;
        if let Operation::Acknowledge { alert, .. } = operation
            && !self.rules.alerts().iter().any(|view| *view.id == **alert)
        {
            return Err(OperationError::NoAlert(alert.clone()).into());
        }
        if let Operation::Unsilence { id } = operation
            && !self.rules.silences().iter().any(|view| *view.id == **id)
        {
            return Err(OperationError::NoSilence(id.clone()).into());
        }
        let mut bytes = Vec::new();
        operation.encode(&mut bytes);
        self.write_record(now_ms, 0, Some(&Change::Operation(bytes)))?;
        self.drain()?;
        let Some((stamp, index)) = self.committed.take() else { return Ok(()) };
        self.apply_record(index, stamp, std::iter::empty())?;
        Ok(self.apply_operation(operation, stamp)??)
    }

    pub(super) fn apply_operation(
        &mut self,
        operation: &Operation,
        stamp: Stamp,
    ) -> Result<Result<(), OperationError>, CoreError> {
        let done = self.rules.operate(operation, stamp, &mut self.derived);
        self.derive(stamp, self.applied)?;
        Ok(done)
    }
}
