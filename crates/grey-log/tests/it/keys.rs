//! Keys of these tests.

use std::sync::{Arc, LazyLock};

use grey_seal::{Algorithm, Keyring, MasterKey, Seal};

pub(crate) fn key(n: u8) -> MasterKey {
    MasterKey::from_bytes(std::array::from_fn(|i| n.wrapping_mul(17) ^ i as u8))
}

/// A keyring of these keys, the first one current, with salts of its own.
pub(crate) fn keyring(keys: &[u8], salts: u64) -> Arc<Keyring> {
    Arc::new(Keyring::with_seeded_salts(keys.iter().map(|n| key(*n)).collect(), salts).expect("a key"))
}

/// The keyring that whole suites share, so that no salt comes twice.
pub(crate) fn current() -> Arc<Keyring> {
    static CURRENT: LazyLock<Arc<Keyring>> = LazyLock::new(|| keyring(&[1], 0));
    Arc::clone(&CURRENT)
}

pub(crate) fn seal(keyring: Arc<Keyring>, purpose: &str) -> Seal {
    Seal::new(keyring, Algorithm::auto(), purpose)
}
