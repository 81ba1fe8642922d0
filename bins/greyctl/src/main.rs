//! The operator's tool: tries rules on recordings, asks running tiers.

fn main() {}
