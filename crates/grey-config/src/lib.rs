//! Configuration of every tier: YAML, TOML and environment variables to
//! checked types.
//!
//! A file is read into a tree of [`Node`]s that know their line, the
//! environment is laid over it, and [`Setting`]s read themselves from the
//! tree. Errors are collected, so that one run names everything that is wrong,
//! each with file, line, column, key path, what was found and what is allowed.
//! A section is declared once ([`section!`]); its reader, printer, defaults
//! and JSON Schema come from that declaration.
//!
//! The crate knows no tier: each tier declares its own document as a
//! [`TierConfig`]. It does no I/O but reading the named file, and takes the
//! environment as an argument.
//!
//! Example: `examples/config.rs`.

mod address;
mod alerts;
mod decode;
mod document;
mod emit;
mod environment;
mod error;
mod quantity;
pub mod reference;
mod section;
mod shared;
mod suggest;
mod toml;
mod tree;
mod yaml;

pub use address::{AddressError, DialAddress, HostPort, ListenAddress, check_listener};
pub use alerts::{Expression, FleetAlert, FleetAlerts, Severity};
pub use decode::{Check, Decoder, Section, Setting};
pub use document::{Change, Format, Inactive, InactiveKeys, Loaded, TierConfig};
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors, ERRORS_MAX};
pub use quantity::{Bandwidth, Cores, Duration, Medium, QuantityError, Size, Storage};
pub use shared::{
    Api, Backoff, Durability, GroupKind, LaneShare, Lanes, LinkKind, Listener, Member, NodeError, StorageEngine,
    ThisNode, check_addresses, check_members, this_node,
};
pub use tree::{DEPTH_MAX, Entry, FILE_BYTES_MAX, NODES_MAX, Node, Origin, Scalar, TEXT_BYTES_MAX, Value};

#[doc(hidden)]
pub use section::{SchemaField, rendered_section, rendered_tag, schema_of_section, schema_of_tag};
#[doc(hidden)]
pub use serde_json::{Value as Json, json};
