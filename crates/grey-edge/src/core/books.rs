//! The books of the site: what became of every sequence of every life, put
//! together from the outbox and from what is not handed to it yet.

use grey_ledger::{RangeRow, Row, Tally};
use grey_model::{BlockHeader, Epoch, Lane};

use super::EdgeCore;
use super::checkpoint::PastLife;
use super::lane::LaneWriter;

impl EdgeCore {
    /// The ledger: one row a life and lane.
    pub fn ledger(&self) -> Vec<Row> {
        let current = (self.epoch, self.lanes.each_ref().map(LaneWriter::accepted));
        let lives = self.past.iter().map(|life| (life.epoch, life.accepted)).chain([current]);
        lives
            .flat_map(|(epoch, accepted)| Lane::ALL.map(|lane| self.row(epoch, lane, accepted[lane.index()])))
            .collect()
    }

    fn row(&self, epoch: Epoch, lane: Lane, accepted: u64) -> Row {
        let state = self.queue.lane(lane);
        let books = state.lives.iter().find(|life| life.epoch == epoch).map(|life| &life.books);
        let settled = books.map_or(0, |books| books.end());
        let mut tally = books.map(|books| books.tally()).unwrap_or_default();
        let mut sound = books.is_none_or(|books| books.balanced());
        let mut ranges = books.map(|books| books.rows()).unwrap_or_default();
        if epoch == self.epoch {
            tally.add(&state.pending.tally);
            tally.add(&self.lanes[lane.index()].open());
            for (header, _) in &self.unwritten[lane.index()] {
                tally.pending += u64::from(header.events);
                header.accounts.iter().for_each(|a| tally.account(a.disposition, a.len()));
            }
            // Blocks of an earlier life that still wait stand in its row.
            let earlier = self.pending_of_earlier_lives(lane);
            tally = minus(tally, earlier);
            sound &= settled <= accepted;
        } else if self.past.last().is_some_and(|life| life.epoch == epoch) {
            tally.add(&self.pending_of_earlier_lives(lane));
        }
        if settled < accepted {
            ranges.push(RangeRow::new(settled..accepted, "pending"));
        }
        Row {
            site: self.config.site.clone(),
            epoch,
            lane,
            accepted,
            tally,
            resent: 0,
            balanced: sound && tally.total() == accepted,
            ranges,
        }
    }

    /// What waits of lives before the current one; read from the blocks, and only while there are any.
    fn pending_of_earlier_lives(&self, lane: Lane) -> Tally {
        let mut tally = Tally::default();
        let state = self.queue.lane(lane);
        let unsettled = |life: &PastLife| {
            let settled = state.lives.iter().find(|l| l.epoch == life.epoch).map_or(0, |l| l.books.end());
            settled < life.accepted[lane.index()]
        };
        if !self.past.iter().any(unsettled) {
            return tally;
        }
        let reader = self.queue.reader();
        let mut position = state.acked;
        while let Ok(Some((at, block))) = reader.next(lane, position) {
            let Ok(view) = BlockHeader::parse(&block) else { break };
            if view.header.epoch >= self.epoch {
                break;
            }
            tally.pending += u64::from(view.header.events);
            view.header.accounts.iter().for_each(|a| tally.account(a.disposition, a.len()));
            position = at + 1;
        }
        tally
    }
}

fn minus(a: Tally, b: Tally) -> Tally {
    Tally {
        delivered: a.delivered.saturating_sub(b.delivered),
        reduced: a.reduced.saturating_sub(b.reduced),
        deduplicated: a.deduplicated.saturating_sub(b.deduplicated),
        dropped: a.dropped.saturating_sub(b.dropped),
        pending: a.pending.saturating_sub(b.pending),
    }
}
