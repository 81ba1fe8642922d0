//! What left a site: the blocks of its outbox, decoded.

use std::path::Path;
use std::sync::Arc;

use grey_codec::decode_block;
use grey_disk::RealDisk;
use grey_log::{Log, LogConfig};
use grey_model::{Event, Lane};

use crate::Outcome;

/// One lane of an outbox.
#[derive(Debug, Default)]
pub struct LaneBlocks {
    /// Blocks.
    pub blocks: u64,
    /// Their bytes, as they would go over the uplink.
    pub bytes: u64,
    /// Sequences that carry no event.
    pub accounted: u64,
    /// The events, in the order of their sequences.
    pub events: Vec<Event>,
}

/// Reads the outbox of an agent that has ended, by lane index. Nothing of it
/// may have been acknowledged by a hub, or it would be gone.
pub fn read(data: &Path) -> Outcome<[LaneBlocks; 3]> {
    let mut lanes: [LaneBlocks; 3] = Default::default();
    for lane in Lane::ALL {
        let found = &mut lanes[lane.index()];
        let folder = Path::new("outbox").join(lane.as_str());
        let config = LogConfig { record_bytes_max: 64 << 20, ..LogConfig::default() };
        let (log, _) = Log::open(Arc::new(RealDisk::new(data)), &folder, config)?;
        let mut next = 0;
        for index in log.first_index()..log.durable_end() {
            let block = log.read(index)?.ok_or_else(|| format!("block {index} of {lane} is not there"))?;
            let (header, events) = decode_block(&block)?;
            if header.first_seq != next {
                return Err(format!("{lane}: block {index} begins at {}, not {next}", header.first_seq).into());
            }
            next += u64::from(header.span);
            found.blocks += 1;
            found.bytes += block.len() as u64;
            found.accounted += u64::from(header.span - header.events);
            found.events.extend(events.into_iter().map(|found| found.event));
        }
    }
    Ok(lanes)
}
