//! Events to bytes and back.
//!
//! Two forms of the same [`Event`](grey_model::Event):
//!
//! - a [`row`] is one event, cheap to write and self-delimiting: what the
//!   edge's intake log holds;
//! - a **block** is a run of one lane's sequences as compressed columns: what
//!   travels from the site's disk to the coordinator, made by a
//!   [`BlockBuilder`] and read by [`decode_block`] as a whole or by a
//!   [`BlockReader`] for a range of time. A [`RawBuilder`] makes
//!   blocks of opaque byte strings, read by [`raw_payloads`].
//!
//! Both are written down byte by byte in `docs/design/row-format.md` and
//! `docs/design/block-format.md`. Every decoder here is a total function:
//! hostile bytes give an error, never a panic and never an allocation beyond
//! the limits of `grey_model::limits`. This crate knows no file, no socket
//! and no clock.
//!
//! Example: `examples/block.rs`.

mod block;
mod builder;
mod columns;
mod compress;
mod error;
mod frame;
mod id_column;
mod id_form;
mod limit;
mod number;
mod paged;
mod payload;
mod raw;
pub mod row;
mod table;
mod time_column;

pub use block::{BlockReader, SeqEvent, decode_block, decode_payload};
pub use builder::BlockBuilder;
pub use compress::Effort;
pub use error::CodecError;
pub use limit::{FIELDS_MAX, LimitError, check};
pub use raw::{RAW_PAYLOAD_BYTES_MAX, RawBuilder, RawPayloads, decode_raw, raw_payloads};

#[cfg(test)]
mod tests;
