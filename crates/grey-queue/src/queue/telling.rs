//! Receipts: what is made of steps, folds and damage, and told until a checkpoint knows it.

use std::ops::Range;

use grey_model::{Epoch, Lane, Seq};

use super::{Queue, QueueError, parse};
use crate::ladder::Step;
use crate::receipt::{Reason, Receipt, ReceiptKind};
use crate::record::Record;
use crate::strata::{Layer, Stratum};

impl Queue {
    pub(super) fn step(&mut self) -> Option<Step> {
        let step = self.ladder.observe(self.bytes_on_disk(), self.config.bytes_max, self.disk_full)?;
        self.steps += 1;
        // With the time, since a crash takes the number back to the checkpoint's.
        let id = format!("outbox-step-{}-{}-{}", self.steps, step.to, self.now_ms);
        self.receipts.push(Receipt { id, at_ms: self.now_ms, kind: ReceiptKind::Step(step) });
        Some(step)
    }

    /// What there is to tell: changes of level and affected ranges since the last time.
    /// What was not taken when a checkpoint's [`Queue::state`] was is told again after a
    /// crash, under the same id.
    pub fn take_receipts(&mut self) -> Vec<Receipt> {
        let lost = self.reader.lost_blocks();
        for found in lost {
            self.tell_damage(found.lane, found.epoch, found.sequences);
        }
        for slot in &mut self.lanes {
            slot.state.announced = slot.state.serial;
        }
        self.told = (self.ladder, self.steps);
        let now_ms = self.now_ms;
        let stamped =
            |receipt: Receipt| Receipt { at_ms: if receipt.at_ms == 0 { now_ms } else { receipt.at_ms }, ..receipt };
        self.receipts.drain(..).map(stamped).collect()
    }

    /// Makes the receipt for sequences that the disk lost, once.
    pub(super) fn tell_damage(&mut self, lane: Lane, epoch: Epoch, sequences: Range<Seq>) {
        let state = &mut self.lanes[lane.index()].state;
        let known = (epoch, sequences.clone());
        if sequences.is_empty() || state.damage_told.contains(&known) {
            return;
        }
        let lives = &state.lives;
        state
            .damage_told
            .retain(|(epoch, range)| !lives.iter().any(|life| life.epoch == *epoch && life.books.end() >= range.end));
        state.damage_told.push(known);
        let events = sequences.end - sequences.start;
        let id = format!("outbox-damage-{lane}-{}-{}-{}", epoch.0, sequences.start, sequences.end);
        let reason = Reason::DroppedDamage;
        let kind = ReceiptKind::Range { lane, epoch, sequences, reason, events, aggregates: 0 };
        self.receipts.push(Receipt { id, at_ms: self.now_ms, kind });
    }

    /// Makes the receipt for a fold, if it affected events.
    pub(super) fn tell_fold(&mut self, lane: Lane, stratum: Stratum, record: &Record) -> Result<(), QueueError> {
        let head = &record.head;
        let reason = match stratum {
            _ if head.affected == 0 => return Ok(()),
            Stratum::Dropped => Reason::DroppedOverflow,
            Stratum::Rolled => Reason::RolledUp,
            Stratum::Thinned => Reason::ThinnedOnOverflow,
            Stratum::Packed | Stratum::Fresh => return Ok(()),
        };
        let header = parse(lane, head.positions.start, &record.block)?;
        let sequences = head.since..header.range().end;
        let kind = ReceiptKind::Range {
            lane,
            epoch: header.epoch,
            sequences: sequences.clone(),
            reason,
            events: head.affected,
            aggregates: head.aggregates,
        };
        let Range { start, end } = sequences;
        let id = format!("outbox-range-{lane}-{}-{start}-{end}", head.serial);
        self.receipts.push(Receipt { id, at_ms: self.now_ms, kind });
        Ok(())
    }

    /// Finds the folds that the checkpoint did not know to be told of.
    pub(super) fn find_untold(&mut self, lane: Lane) -> Result<(), QueueError> {
        let announced = self.lanes[lane.index()].state.announced;
        for stratum in Stratum::FOLDED {
            let Some(log) = &self.lanes[lane.index()].layers[stratum.index()] else { continue };
            let layer = Layer::new(log.reader());
            let (first, mut end) = (log.first_index(), log.durable_end());
            let mut untold = Vec::new();
            while first < end {
                match layer.read(end - 1)? {
                    Ok(record) if record.head.serial < announced => break,
                    Ok(record) => {
                        untold.push(record);
                        end -= 1;
                    }
                    Err((lost, _)) => end = lost.start.min(end - 1),
                }
            }
            for record in untold.iter().rev() {
                self.tell_fold(lane, stratum, record)?;
            }
        }
        Ok(())
    }
}
