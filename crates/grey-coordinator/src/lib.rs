//! A coordinator as a library.

pub mod config;

pub use config::CoordinatorConfig;
