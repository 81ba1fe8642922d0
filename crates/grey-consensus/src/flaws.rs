//! Mistakes that a test can switch on, to show that the checks would notice them.

/// What a member does wrong on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Flaws {
    /// Votes and stands for election although its memory is incomplete.
    pub(crate) amnesiac_votes: bool,
    /// Does not make term and vote durable.
    pub(crate) forgets_votes: bool,
}
