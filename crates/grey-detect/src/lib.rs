//! Streaming anomaly detectors of one series.
//!
//! A [`Detector`] is given the values of one series in the order of their arrival and
//! answers each with a [`Finding`]: a score from 0 (as expected) to 1 (an anomaly),
//! what was expected, and since when the series departs from it. There is no training
//! phase and nothing to set; memory is bounded per series, and the state can be
//! written and read back at any moment so that a restart changes nothing.
//!
//! This crate is pure: it knows no clock, no configuration and no other series.

mod context;
mod cusum;
mod detector;
mod ewma;
mod general;
mod moments;
mod number;
mod robust;
mod season;
mod seasonal;
mod shapes;
mod tail;

pub use detector::{Detector, Finding, Method};
