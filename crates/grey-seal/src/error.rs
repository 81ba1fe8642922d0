//! What can go wrong with keys, with sealing and with opening.

use std::io;
use std::path::PathBuf;

use crate::KeyId;

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file cannot be read.
    #[error("cannot read the key file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The environment variable is not set.
    #[error("the environment variable {name} holds no key: it is not set")]
    NotSet {
        /// The variable.
        name: String,
    },
    /// The command could not be run.
    #[error("cannot run the key command {program:?}")]
    Run {
        /// The first word of the command; empty when there is none.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command failed.
    #[error("the key command {program:?} ended with {status}: {stderr}")]
    Failed {
        /// The first word of the command.
        program: String,
        /// Its exit status.
        status: String,
        /// The beginning of what it wrote to its standard error.
        stderr: String,
    },
    /// The command took too long and was ended.
    #[error("the key command {program:?} gave no key within {seconds} s and was ended")]
    TooSlow {
        /// The first word of the command.
        program: String,
        /// The time that it had.
        seconds: u64,
    },
    /// The bytes are no key.
    #[error("{from} holds no key: {len} bytes, expected 64 hexadecimal digits, 32 bytes as base64, or 32 raw bytes")]
    Format {
        /// Where they came from.
        from: String,
        /// How many there are, at most one more than are looked at.
        len: usize,
    },
    /// All bytes of the key are the same: a placeholder.
    #[error("the key from {from} is a placeholder, all its bytes are the same; make one with `openssl rand -hex 32`")]
    Placeholder {
        /// Where it came from.
        from: String,
    },
    /// A keyring needs a key.
    #[error("no key was given; the first is sealed with, the others only open")]
    Missing,
}

/// Why a record could not be sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The system gave no random bytes for a salt.
    #[error("the system's random source gave no bytes")]
    Random,
    /// The record is longer than the algorithm can seal.
    #[error("a record of {len} bytes is too long to be sealed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The seal only opens.
    #[error("no algorithm to seal with was given")]
    OpensOnly,
}

/// Why a sealed record could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key it was sealed with is not in the keyring.
    #[error("the key {key_id} is not among the keys given")]
    KeyMissing {
        /// The key's name.
        key_id: KeyId,
    },
    /// The bytes are no sealed record of a known version and algorithm.
    #[error("the bytes are no sealed record of a known version")]
    Format,
    /// The key is the right one, and the record is not what was sealed for this place.
    #[error("the record was forged or sealed for another place")]
    Forged,
}
