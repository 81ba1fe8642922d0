//! The edge agent as a library.
