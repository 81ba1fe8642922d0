//! A plant of simulated devices that speak real MQTT, and the record of what
//! they were acknowledged for.
//!
//! The record is what every claim about loss is checked against: it is made at
//! the devices' end of the connection, and knows nothing of the federation.

mod device;
mod mqtt;
mod profile;
mod record;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub(crate) use profile::{Profile, REFERENCE_SITE};
pub(crate) use record::{NumberSet, Record};

/// What the devices of one site did so far.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Readings that were acknowledged, each counted once.
    pub(crate) acknowledged: AtomicU64,
    /// Readings sent again after a connection broke.
    pub(crate) resent: AtomicU64,
    /// Bytes sent, MQTT packets and all.
    pub(crate) bytes: AtomicU64,
    /// Connections that were opened.
    pub(crate) connections: AtomicU64,
}

/// How the devices pace themselves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// Each at the rate of its profile.
    Profile,
    /// As fast as acknowledgements come back, this many readings in all per
    /// device, of which the first `at_first` may be made at once.
    Flood { readings: u64, at_first: u64 },
}

/// What all devices of a plant are told.
#[derive(Debug, Clone, Copy)]
struct Orders {
    /// Make no more readings.
    stop: bool,
    /// Readings that each device of a flood may have made.
    allowed: u64,
}

/// The devices of one site.
#[derive(Debug)]
pub(crate) struct Plant {
    /// What each device was acknowledged for.
    pub(crate) records: Vec<Arc<Record>>,
    /// Sums over the devices.
    pub(crate) counters: Arc<Counters>,
    devices: JoinSet<()>,
    orders: watch::Sender<Orders>,
}

impl Plant {
    /// Starts devices at one site: `counts` of each profile.
    pub(crate) fn start(site: &str, agent: SocketAddr, counts: &[(Profile, usize)], pace: Pace) -> Self {
        let allowed = match pace {
            Pace::Profile => u64::MAX,
            Pace::Flood { at_first, .. } => at_first,
        };
        let (sender, orders) = watch::channel(Orders { stop: false, allowed });
        let counters = Arc::new(Counters::default());
        let mut devices = JoinSet::new();
        let mut records = Vec::new();
        for (profile, count) in counts {
            for number in 0..*count {
                let record = Arc::new(Record::new(site, &profile.device(number)));
                let device = device::Device {
                    agent,
                    profile: *profile,
                    number,
                    of: *count,
                    pace,
                    record: record.clone(),
                    counters: counters.clone(),
                    orders: orders.clone(),
                };
                records.push(record);
                devices.spawn(device.run());
            }
        }
        Self { records, counters, devices, orders: sender }
    }

    /// Readings acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.counters.acknowledged.load(Ordering::Relaxed)
    }

    /// Lets the devices make no more readings and waits until everything that
    /// they sent is acknowledged.
    pub(crate) async fn stop(&mut self, within: Duration) -> Result<()> {
        self.orders.send_modify(|orders| orders.stop = true);
        self.finished(within).await
    }

    /// Lets each device of a flood go on to this number of readings.
    pub(crate) fn allow(&self, readings: u64) {
        self.orders.send_modify(|orders| orders.allowed = readings);
    }

    /// Waits until every device has ended.
    pub(crate) async fn finished(&mut self, within: Duration) -> Result<()> {
        let deadline = Instant::now() + within;
        loop {
            match tokio::time::timeout_at(deadline.into(), self.devices.join_next()).await {
                Ok(None) => return Ok(()),
                Ok(Some(ended)) => ended?,
                Err(_) => bail!("{} device(s) still wait for an acknowledgement after {within:?}", self.devices.len()),
            }
        }
    }
}
