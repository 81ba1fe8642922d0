//! Serde values in lanes of different importance, and a restart in the middle.
//!
//! `cargo run -p grey-examples --example buffer_typed`

use grey_queue::buffer::{Budget, Buffer, BufferConfig, BufferError, Event, Lane, OnFull};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Reading {
    device: String,
    temperature: f32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Alarm {
    TooHot { device: String, temperature: f32 },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = tempfile::tempdir()?;
    // Alarms wait for room; of the rest the oldest give way.
    let config = BufferConfig::default().with_max_bytes(16 << 20).with_on_full(Lane::Normal, OnFull::DropOldest);
    let mut buffer = Buffer::open(directory.path(), config.clone())?;
    for n in 0..1_000 {
        let reading = Reading { device: format!("press-{}", n % 10), temperature: 20.0 + n as f32 / 10.0 };
        if n == 900 {
            let Reading { device, temperature } = reading.clone();
            buffer.append_typed(Lane::Critical, &Alarm::TooHot { device, temperature })?;
        }
        buffer.append_typed(Lane::Normal, &reading)?;
    }
    // Events of Grey's own model are compressed by columns.
    buffer.append_event(Lane::Bulk, &Event::reading("press-1", "pressure", 7.5, 0))?;
    buffer.commit()?;

    // The alarm was appended nearly last and comes first.
    let batch = buffer.peek(Budget { bytes: usize::MAX, items: 500 })?;
    let mut items = batch.items();
    let alarm: Alarm = items.next().ok_or("something waits")?.typed()?;
    assert_eq!(alarm, Alarm::TooHot { device: "press-0".into(), temperature: 110.0 });
    let item = items.next().ok_or("more waits")?;
    println!("{alarm:?}, then {:?}", item.typed::<Reading>()?);
    assert!(matches!(item.typed::<u8>(), Err(BufferError::Typed { .. })), "not what was appended");
    assert!(matches!(item.event(), Err(BufferError::Form { .. })), "nor an event");
    buffer.ack(&batch)?;

    // A restart: what was not acknowledged is there, in order.
    drop(buffer);
    let mut buffer = Buffer::open(directory.path(), config)?;
    let pending = buffer.pending();
    assert_eq!((pending.of(Lane::Critical).items, pending.of(Lane::Bulk).items), (0, 1));
    let batch = buffer.peek(Budget { bytes: usize::MAX, items: usize::MAX })?;
    for item in batch.items() {
        match item.lane() {
            Lane::Bulk => println!("{:?}", item.event()?.value),
            _ => assert_eq!(item.typed::<Reading>()?.device, format!("press-{}", item.seq() % 10)),
        }
    }
    buffer.ack(&batch)?;
    assert!(buffer.pending().is_empty());
    Ok(())
}
