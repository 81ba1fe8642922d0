//! What the link may carry now: budgets and schedules, which live on the wall
//! clock, for a sender that lives on the monotonic one.

use grey_link::{Budget, BudgetUsage, BudgetWait, Schedule};
use grey_model::Lane;

use super::config::{SenderConfig, SenderConfigError};

#[derive(Debug)]
pub(super) struct Gate {
    budget: Budget,
    schedule: Schedule,
    budget_exempts_critical: bool,
    schedule_exempts_critical: bool,
    /// Unix milliseconds less monotonic ones.
    offset_ms: i64,
    /// The refusal that the next block waits for.
    refused: Option<BudgetWait>,
}

impl Gate {
    pub(super) fn new(config: &SenderConfig) -> Result<Self, SenderConfigError> {
        Ok(Self {
            budget: Budget::new(config.budget, config.budget_usage)?,
            schedule: config.schedule.clone(),
            budget_exempts_critical: config.budget_exempts_critical,
            schedule_exempts_critical: config.schedule_exempts_critical,
            offset_ms: 0,
            refused: None,
        })
    }

    /// The wall clock says so now.
    pub(super) fn on_clock(&mut self, now: u64, unix_ms: i64) {
        self.offset_ms = unix_ms.saturating_sub(signed(now));
    }

    pub(super) fn unix_ms(&self, now: u64) -> i64 {
        signed(now).saturating_add(self.offset_ms)
    }

    /// A Unix time as monotonic milliseconds; one that has passed is the beginning.
    fn monotonic(&self, unix_ms: i64) -> u64 {
        u64::try_from(unix_ms.saturating_sub(self.offset_ms)).unwrap_or(0)
    }

    /// Which lanes may be sent by the schedule.
    pub(super) fn open(&self, now: u64) -> [bool; 3] {
        let unix_ms = self.unix_ms(now);
        Lane::ALL.map(|lane| self.is_exempt(lane) || self.schedule.open(unix_ms, lane))
    }

    fn is_exempt(&self, lane: Lane) -> bool {
        lane == Lane::Critical && self.schedule_exempts_critical
    }

    /// When the first lane that is closed opens, Unix milliseconds.
    pub(super) fn next_open_unix_ms(&self, now: u64) -> Option<i64> {
        let unix_ms = self.unix_ms(now);
        let closed = Lane::ALL.into_iter().filter(|lane| !self.is_exempt(*lane));
        closed.filter_map(|lane| self.schedule.next_open(unix_ms, lane)).min()
    }

    /// Takes the bytes of a block from the budget. False when it has to wait.
    pub(super) fn take(&mut self, now: u64, lane: Lane, bytes: u64) -> bool {
        let unix_ms = self.unix_ms(now);
        if lane == Lane::Critical && self.budget_exempts_critical {
            self.budget.spend(unix_ms, bytes);
            return true;
        }
        self.refused = self.budget.take(unix_ms, bytes).err();
        self.refused.is_none()
    }

    /// Counts what goes or came in any case.
    pub(super) fn spend(&mut self, now: u64, bytes: u64) {
        self.budget.spend(self.unix_ms(now), bytes);
    }

    /// Nothing waits for the budget any more.
    pub(super) fn forget_refusal(&mut self) {
        self.refused = None;
    }

    /// The refusal that the next block waits for.
    pub(super) fn refused(&self) -> Option<BudgetWait> {
        self.refused
    }

    /// When to ask again, in monotonic milliseconds.
    pub(super) fn next_change(&self, now: u64) -> Option<u64> {
        let refused = self.refused.map(|wait| wait.until_ms);
        refused.into_iter().chain(self.next_open_unix_ms(now)).min().map(|unix_ms| self.monotonic(unix_ms))
    }

    pub(super) fn usage(&self) -> BudgetUsage {
        self.budget.usage()
    }
}

fn signed(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}
