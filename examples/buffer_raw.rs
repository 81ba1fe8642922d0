//! A durable queue of bytes: append, commit, read, acknowledge, read again after a crash.
//!
//! `cargo run -p grey-examples --example buffer_raw`

use grey_queue::buffer::{Budget, Buffer, BufferConfig, Lane};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    let config = BufferConfig::default().with_max_bytes(64 << 20);
    let mut buffer = Buffer::open(directory.path(), config.clone())?;

    for n in 0..10_000_u32 {
        buffer.append(Lane::Normal, format!("line {n}").as_bytes())?;
        if n % 1_000 == 999 {
            // One write and one fdatasync for a thousand of them.
            buffer.commit()?;
        }
    }
    println!("{} items wait on {} bytes, level {}", buffer.pending().items(), buffer.bytes_used(), buffer.level());

    // Reading removes nothing; the cursor goes on from peek to peek.
    let first = buffer.peek(Budget { bytes: usize::MAX, items: 100 })?;
    let second = buffer.peek(Budget { bytes: usize::MAX, items: 100 })?;
    assert_eq!(first.items().last().ok_or("a hundred items")?.seq(), 99);
    assert_eq!(second.items().next().ok_or("a hundred items")?.bytes()?, b"line 100");

    // The first hundred have arrived somewhere; of the second the first ten.
    buffer.ack(&first)?;
    let tenth = second.items().nth(9).ok_or("a hundred items")?;
    buffer.ack_to(tenth.place())?;

    // Whatever ends the process, opening goes on there.
    drop(buffer);
    let mut buffer = Buffer::open(directory.path(), config)?;
    assert_eq!(buffer.pending().items(), 9_890);
    let mut next = 110;
    loop {
        let batch = buffer.peek(Budget::default())?;
        if batch.is_empty() {
            break;
        }
        for item in batch.items() {
            assert_eq!(item.bytes()?, format!("line {next}").as_bytes());
            next += 1;
        }
        buffer.ack(&batch)?;
    }
    println!("{next} lines, each at least once and in order; {} bytes are left on disk", buffer.bytes_used());
    buffer.close()?;
    Ok(())
}
