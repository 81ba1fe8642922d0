//! The words that every tier of Grey shares: ids, events, lanes, sequence
//! ranges, accounts of sequences, and the header of a block.
//!
//! This crate is the bottom layer. It knows no I/O, no clock and no
//! configuration; everything here is plain data with its limits.
//!
//! Example: `examples/block.rs`.

mod account;
mod block;
mod event;
mod id;
pub mod limits;
mod ranges;
pub mod time;
mod wire;

pub use account::{Account, Disposition, RuleId};
pub use block::{BlockError, BlockHeader, Compression, HeaderView};
pub use event::{Event, Kind, Name, Quality, Value};
pub use id::{Epoch, IdError, Lane, Seq, SiteId, Stamp, StreamKey};
pub use ranges::RangeSet;
pub use wire::{Reader, WireError, Writer};
