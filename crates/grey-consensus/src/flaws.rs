//! Mistakes that a test can switch on, to show that the checks would notice them.

/// What a member does wrong on purpose.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Flaws {
    /// Votes and stands for election although its memory is incomplete.
    pub(crate) amnesiac_votes: bool,
    /// Makes its term durable and forgets whom it voted for.
    pub(crate) forgets_votes: bool,
}
