//! Why a text is no condition.

/// Why a text is no condition, and at which of its characters.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem} at character {}", offset + 1)]
pub struct ExprError {
    /// Characters (not bytes) of the text before the mistake.
    pub offset: usize,
    /// What is wrong, naming the value.
    pub problem: String,
    /// What is allowed there, or what was probably meant.
    pub allowed: String,
}

impl ExprError {
    pub(crate) fn new(offset: usize, problem: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self { offset, problem: problem.into(), allowed: allowed.into() }
    }
}
