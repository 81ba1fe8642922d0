//! The log as its users see it: on a simulated disk that loses power, and on a real one.
#![allow(clippy::duplicate_mod, reason = "one suite for plain and for sealed logs")]

mod golden;
mod keys;
mod rotation;

#[path = "suite.rs"]
mod plain;
#[path = "suite.rs"]
mod sealed;

const _: () = assert!(sealed::IS_SEALED && !plain::IS_SEALED);
