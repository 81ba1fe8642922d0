//! Where models come from.

use std::fmt::Debug;

/// Finds and loads models.
pub trait Library: Send + Sync + Debug {}

/// A library without models.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoModels;

impl Library for NoModels {}
