//! Many tasks append, one uploads to a sink that fails now and then: nothing is lost and
//! the order is kept.
//!
//! `cargo run -p grey-examples --example buffer_async`

use grey_queue::buffer::{AsyncBuffer, Batch, Budget, Buffer, BufferConfig, Lane};

const PRODUCERS: u64 = 8;
const EACH: u64 = 250;

/// The other side: refuses every third batch.
#[derive(Default)]
struct Sink {
    calls: u64,
    seqs: Vec<u64>,
}

impl Sink {
    async fn upload(&mut self, batch: &Batch) -> Result<(), &'static str> {
        self.calls += 1;
        tokio::task::yield_now().await;
        if self.calls.is_multiple_of(3) {
            return Err("503 service unavailable");
        }
        self.seqs.extend(batch.items().map(|item| item.seq()));
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let buffer = AsyncBuffer::spawn(Buffer::open(directory.path(), BufferConfig::default())?)?;

    let producers: Vec<_> = (0..PRODUCERS)
        .map(|producer| {
            let buffer = buffer.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    // Durable when it resolves; appends that arrive together share a sync.
                    buffer.append(Lane::Normal, format!("{producer}/{n}")).await?;
                }
                Ok::<(), grey_queue::buffer::BufferError>(())
            })
        })
        .collect();

    let mut sink = Sink::default();
    while (sink.seqs.len() as u64) < PRODUCERS * EACH {
        // Waits while there is nothing.
        let batch = buffer.peek(Budget { bytes: 4_096, items: 200 }).await?;
        match sink.upload(&batch).await {
            Ok(()) => buffer.ack(&batch).await?,
            // What is not acknowledged comes again.
            Err(_) => buffer.rewind().await?,
        }
    }
    for producer in producers {
        producer.await??;
    }
    assert!(sink.seqs.iter().copied().eq(0..PRODUCERS * EACH), "all of them, once and in order");
    assert!(buffer.pending().await?.is_empty());
    println!("{} items in {} calls, a third of which failed", sink.seqs.len(), sink.calls);
    buffer.close().await?;
    Ok(())
}
