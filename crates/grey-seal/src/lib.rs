//! Sealing of records at rest: whoever takes the disk and not the key reads nothing.
//!
//! A [`KeySource`] gives a [`MasterKey`]; a [`Keyring`] holds the current one and those
//! that older records were sealed with; a [`Seal`] binds records to the purpose and the
//! place that they are written for; a [`Sealer`] seals. Each sealer has a random salt and
//! with it a data key of its own, under which it counts its nonces: so no nonce can
//! repeat, whatever happens to the files.
//!
//! What this protects from and what not, and every byte, is in `docs/design/encryption.md`.
//! The crate knows nothing of logs and files of records. It reads keys at start-up, from a
//! file, the environment or a command, and salts from the system's random source; nothing
//! else of the surroundings.
//!
//! ```
//! use std::sync::Arc;
//!
//! use grey_seal::{Algorithm, Keyring, MasterKey, OpenError, Seal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let key = MasterKey::parse(b"6b65792069732033322062797465732c206e6f7420666f722075736520212121")?;
//! let keyring = Arc::new(Keyring::new(vec![key])?);
//! let outbox = Seal::new(Arc::clone(&keyring), Algorithm::auto(), "outbox/bulk");
//!
//! let mut sealed = Vec::new();
//! outbox.sealer()?.seal(outbox.place(7).as_ref(), &[b"a ", b"record"], &mut sealed)?;
//! let key_id = keyring.current().id();
//! assert_eq!(outbox.open(key_id, 7, &mut sealed.clone())?, b"a record");
//! assert!(matches!(outbox.open(key_id, 8, &mut sealed), Err(OpenError::Forged)), "at another place");
//! # Ok(())
//! # }
//! ```

mod error;
mod key;
mod keyring;
mod seal;
mod sealer;
mod source;

pub use error::{KeyError, OpenError, SealError};
pub use key::{KEY_BYTES, KeyId, MasterKey};
pub use keyring::{Keyring, LastKey};
pub use seal::{Place, Seal};
pub use sealer::{Algorithm, HEAD_BYTES, OVERHEAD_BYTES, Sealer};
pub use source::{KeySource, LoadedKey};
