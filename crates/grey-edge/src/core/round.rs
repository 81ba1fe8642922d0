//! One round of the edge: commit what producers sent, answer them, evaluate,
//! and hand blocks to the outbox.
//!
//! The order of the steps is what the promises rest on, so it stands here and
//! not in a driver: the engine's thread and the simulation run this code.

use std::collections::VecDeque;

use grey_ingest::{Op, Refusal};
use grey_model::Lane;
use grey_sync::{OwnStreams, Pending, Status};

use super::actions::Request;
use super::{CoreError, EdgeCore, Flights, StageError};

/// What producers are told to wait when the outbox is full, ms.
const RETRY_AFTER_MS: u64 = 1_000;

/// What a round needs of whoever drives it.
pub trait RoundDriver {
    /// Where the answer to one batch goes.
    type Done;

    /// The wall clock, Unix ms.
    fn now_ms(&mut self) -> i64;

    /// Microseconds of a clock that only moves forward.
    fn monotonic_us(&mut self) -> u64;

    /// A batch is durable, or refused. The producer may be acknowledged now.
    fn answer(&mut self, done: Self::Done, answer: Result<(), Refusal>);

    /// A record is durable: events in it, and how long it took from its writing on, µs.
    fn committed(&mut self, events: u64, micros: u64);

    /// The disk is full. Nothing was lost, and the next round tries again.
    fn waits_for_space(&mut self, error: &CoreError);

    /// Requests that rules ask for, each with the number for [`EdgeCore::answered`]. They are durable
    /// before the outbox has their alert: a crash may repeat some, never skip one.
    fn requests(&mut self, requests: VecDeque<(u64, Request)>);
}

impl EdgeCore {
    /// Runs one round. `flights` is kept from one round to the next; who waits in it is
    /// answered in the round after the disk has its record. Returns true when the uplink
    /// has something new to send.
    ///
    /// # Errors
    /// Every failure of the disk but a full one. It is final: open the directory again.
    pub fn round<D: RoundDriver>(
        &mut self,
        batches: impl IntoIterator<Item = (Vec<Op>, D::Done)>,
        flights: &mut Flights<D::Done>,
        driver: &mut D,
    ) -> Result<bool, CoreError> {
        let result = self.try_round(batches, flights, driver);
        if let Err(error) = &result {
            for done in flights.abandon() {
                driver.answer(done, Err(Refusal::Failed(error.to_string())));
            }
        }
        result
    }

    fn try_round<D: RoundDriver>(
        &mut self,
        batches: impl IntoIterator<Item = (Vec<Op>, D::Done)>,
        flights: &mut Flights<D::Done>,
        driver: &mut D,
    ) -> Result<bool, CoreError> {
        self.land(flights, driver)?;
        let now_ms = driver.now_ms();
        let hurries = self.climb(now_ms)?;
        self.stage_receipts();
        let mut dones = Vec::new();
        for (ops, done) in batches {
            match self.stage(ops) {
                Ok(()) => dones.push(done),
                Err(StageError::Full { .. }) => {
                    driver.answer(done, Err(Refusal::Backpressure { retry_after_ms: RETRY_AFTER_MS }));
                }
                Err(error @ StageError::Recovering) => driver.answer(done, Err(Refusal::Failed(error.to_string()))),
            }
            if self.wants_commit() {
                self.evaluate(std::mem::take(&mut dones), flights, driver)?;
            }
        }
        if !dones.is_empty() || self.staged_receipts > 0 {
            self.evaluate(dones, flights, driver)?;
        }
        let now_ms = driver.now_ms();
        self.patient(driver, |core| core.tick(now_ms, 0))?;
        let requests = self.actions.take_ready();
        if !requests.is_empty() {
            driver.requests(requests);
        }
        self.patient(driver, |core| core.flush(now_ms, false))?;
        self.patient(driver, |core| core.maintain(now_ms))?;
        self.land(flights, driver)?;
        // A checkpoint flushes too, and so does a change of rules between two rounds.
        let blocks = self.counters().blocks;
        Ok(std::mem::replace(&mut self.announced_blocks, blocks) < blocks || hurries)
    }

    /// Writes what is staged and applies it. The producers wait for the disk in `flights`.
    fn evaluate<D: RoundDriver>(
        &mut self,
        dones: Vec<D::Done>,
        flights: &mut Flights<D::Done>,
        driver: &mut D,
    ) -> Result<(), CoreError> {
        let before = self.counters().events;
        let (now_ms, started_us) = (driver.now_ms(), driver.monotonic_us());
        match self.write(now_ms, 0) {
            Ok(()) => {}
            Err(error) => {
                let refusal = if error.is_full() { Refusal::Full } else { Refusal::Failed(error.to_string()) };
                for done in dones {
                    driver.answer(done, Err(refusal.clone()));
                }
                if !error.is_full() {
                    return Err(error);
                }
                driver.waits_for_space(&error);
                return Ok(());
            }
        }
        self.apply()?;
        flights.push(self.intake.next_index(), dones, self.counters().events - before, started_us);
        Ok(())
    }

    /// Answers those whose records the disk has.
    fn land<D: RoundDriver>(&mut self, flights: &mut Flights<D::Done>, driver: &mut D) -> Result<(), CoreError> {
        self.settle(false)?;
        while let Some((dones, events, started_us)) = flights.landed(self.durable_end()) {
            let took = driver.monotonic_us().saturating_sub(started_us);
            driver.committed(events, took);
            for done in dones {
                driver.answer(done, Ok(()));
            }
        }
        Ok(())
    }

    /// A full disk is waited out (`None`); every other failure ends the core.
    fn patient<T, D: RoundDriver>(
        &mut self,
        driver: &mut D,
        step: impl FnOnce(&mut EdgeCore) -> Result<T, CoreError>,
    ) -> Result<Option<T>, CoreError> {
        match step(self) {
            Ok(done) => Ok(Some(done)),
            Err(error) if error.is_full() => {
                driver.waits_for_space(&error);
                let now_ms = driver.now_ms();
                self.met_full_disk(error, now_ms).map(|()| None)
            }
            Err(error) => Err(error),
        }
    }

    /// What the site says of its own streams in a hello. Changes with a new life alone.
    pub fn own_streams(&self) -> OwnStreams {
        OwnStreams { epoch: self.epoch, next_seqs: self.boot_seqs }
    }

    /// What the site says of itself in a heartbeat.
    pub fn uplink_status(&self, now_ms: i64) -> Status {
        let pending = Lane::ALL
            .map(|lane| Pending { events: self.pending_events(lane), bytes: self.queue().lane(lane).pending.bytes });
        let oldest = self.queue().oldest_pending_ms();
        let lives = Lane::ALL.iter().flat_map(|lane| &self.queue().lane(*lane).lives);
        Status {
            now_ms,
            pending,
            oldest_pending_age_ms: oldest.map_or(0, |at| now_ms.saturating_sub(at).max(0) as u64),
            accepted_total: self.accepted_total(),
            dropped_total: lives.map(|life| life.books.tally().dropped).sum(),
        }
    }
}
