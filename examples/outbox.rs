//! The outbox of a site: blocks wait in lanes until the next tier has them,
//! over restarts, and the books say what became of every sequence.
//!
//! `cargo run -p grey-examples --example outbox`

use std::path::Path;
use std::sync::Arc;

use grey_codec::BlockBuilder;
use grey_disk::{Disk, RealDisk};
use grey_model::{BlockHeader, Compression, Epoch, Event, Lane, SiteId, Stamp};
use grey_queue::{Admission, Level, Queue, QueueConfig};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::new(directory.path()));
    let site = SiteId::new("plant-7")?;
    let open = |state| Queue::open(&disk, Path::new("outbox"), site.clone(), QueueConfig::default(), state);
    let (mut queue, repairs) = open(None)?;
    assert!(repairs.is_empty());

    // Three blocks of ten readings.
    let mut builder = BlockBuilder::new(site.clone(), Epoch(1), Lane::Normal, Compression::Lz4, 0);
    for _ in 0..3 {
        for n in 0..10 {
            builder.push(&Event::reading("press-1", "temperature", f64::from(n), 0))?;
        }
        let block = builder.finish(Stamp::default(), 0).ok_or("ten events make a block")?;
        let header = BlockHeader::parse(&block)?.header;
        queue.write(Lane::Normal, [(&header, &block)])?;
    }
    assert_eq!(queue.lane(Lane::Normal).pending.tally.pending, 30);

    // A sender peeks: nothing is removed by reading. It runs on a thread of its own. What
    // it was given may arrive from then on, so that folds leave it as it is.
    let reader = queue.uplink();
    let (position, block) = reader.next(Lane::Normal, 0)?.ok_or("there is a first block")?;
    assert_eq!((position, BlockHeader::parse(&block)?.header.range()), (0, 0..10));

    // The tier above has the first two: positions below 2 are settled.
    queue.ack(Lane::Normal, 2)?;
    let lane = queue.lane(Lane::Normal);
    assert_eq!((lane.pending.blocks, lane.lives[0].books.end()), (1, 20));
    assert!(lane.lives[0].books.balanced());

    // How full it is decides what is folded, on a thread of its own, and what is taken.
    queue.observe(1_760_000_000_000);
    assert_eq!((queue.level(), queue.admission(Lane::Bulk)), (Level::Normal, Admission::Take));
    while let Some(job) = queue.next_fold() {
        let folded = std::thread::spawn(move || job.run()).join().map_err(|_| "the fold panicked")?;
        queue.apply(folded)?;
    }

    // A restart from the state of a checkpoint: one block still waits.
    let checkpoint = queue.state();
    drop((queue, reader));
    let (mut queue, _) = open(Some(checkpoint))?;
    let (position, _) = queue.reader().next(Lane::Normal, 0)?.ok_or("the third block waits")?;
    assert_eq!(position, 2);
    queue.ack(Lane::Normal, 3)?;
    assert_eq!(queue.bytes_pending(), 0);
    println!("settled: {:?}", queue.lane(Lane::Normal).lives[0].books.tally());
    Ok(())
}
