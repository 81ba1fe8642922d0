//! Integration tests of the edge.

mod crash_rules;
mod damage;
mod ladder;
mod sealed;
