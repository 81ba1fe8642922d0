//! The commands of `greyctl`.
