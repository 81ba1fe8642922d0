//! The keys that are known, and opening what was sealed with any of them.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::aead::{Aad, LessSafeKey};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom, SystemRandom};

use crate::sealer::{HEAD_BYTES, Head, SALT_BYTES, Salt, data_key};
use crate::{Algorithm, KeyError, KeyId, MasterKey, OpenError, SealError, Sealer};

/// Data keys kept, about 600 bytes each. Each opening of a log has one; deriving it
/// again costs a few microseconds.
const DATA_KEYS_MAX: usize = 256;

/// The key to seal with, and those that older records may need.
pub struct Keyring {
    /// The current one first, each once.
    keys: Vec<(KeyId, MasterKey)>,
    salts: Salts,
    /// The most recently used last.
    derived: Mutex<Vec<Derived>>,
}

enum Salts {
    System(SystemRandom),
    Seeded { seed: u64, count: AtomicU64 },
}

#[derive(Clone)]
struct Derived {
    key_id: KeyId,
    salt: Salt,
    algorithm: Algorithm,
    key: Arc<LessSafeKey>,
}

impl Derived {
    fn opens(&self, key_id: KeyId, head: &Head) -> bool {
        self.salt == head.salt && self.key_id == key_id && self.algorithm == head.algorithm
    }
}

/// The data key that a reader used last. Records that follow one another mostly have the
/// same, and the keyring, which all threads share, need not be asked for it.
#[derive(Default)]
pub struct LastKey(Option<Derived>);

impl fmt::Debug for LastKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LastKey").field(&self.0.as_ref().map(|key| key.key_id)).finish()
    }
}

impl Keyring {
    /// The first key is the current one; the others only open. One that is given twice counts once.
    ///
    /// # Errors
    /// [`KeyError::Missing`] without a key.
    pub fn new(keys: Vec<MasterKey>) -> Result<Self, KeyError> {
        Self::with_salts(keys, Salts::System(SystemRandom::new()))
    }

    /// A keyring whose salts follow from a seed, for simulations and golden files. Two of
    /// one seed and one key use the same nonces: **nothing that is sealed this way is secret**.
    ///
    /// # Errors
    /// [`KeyError::Missing`] without a key.
    pub fn with_seeded_salts(keys: Vec<MasterKey>, seed: u64) -> Result<Self, KeyError> {
        Self::with_salts(keys, Salts::Seeded { seed, count: AtomicU64::new(0) })
    }

    fn with_salts(given: Vec<MasterKey>, salts: Salts) -> Result<Self, KeyError> {
        let mut keys: Vec<(KeyId, MasterKey)> = Vec::with_capacity(given.len());
        for key in given {
            let id = key.id();
            if keys.iter().all(|(known, _)| *known != id) {
                keys.push((id, key));
            }
        }
        if keys.is_empty() {
            return Err(KeyError::Missing);
        }
        Ok(Self { keys, salts, derived: Mutex::new(Vec::new()) })
    }

    /// The key that is sealed with.
    pub fn current(&self) -> &MasterKey {
        &self.keys[0].1
    }

    /// The name of the key that is sealed with.
    pub fn current_id(&self) -> KeyId {
        self.keys[0].0
    }

    /// A key by its name.
    pub fn get(&self, id: KeyId) -> Option<&MasterKey> {
        self.keys.iter().find(|(known, _)| *known == id).map(|(_, key)| key)
    }

    /// The names of all keys, the current one first.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> {
        self.keys.iter().map(|(id, _)| *id)
    }

    /// A sealer with a fresh salt. Each log gets one each time it is opened.
    ///
    /// # Errors
    /// [`SealError::Random`].
    pub fn sealer(self: &Arc<Self>, algorithm: Algorithm) -> Result<Sealer, SealError> {
        Sealer::new(self, algorithm)
    }

    /// Opens a sealed record in place and returns what was sealed.
    ///
    /// # Errors
    /// See [`OpenError`]. The bytes are lost then.
    pub fn open<'a>(&self, key_id: KeyId, aad: &[u8], sealed: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        self.open_next(&mut LastKey::default(), key_id, aad, sealed)
    }

    /// Like [`Keyring::open`], for one record after the other.
    ///
    /// # Errors
    /// As [`Keyring::open`].
    pub fn open_next<'a>(
        &self,
        last: &mut LastKey,
        key_id: KeyId,
        aad: &[u8],
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], OpenError> {
        let head = Head::decode(sealed).ok_or(OpenError::Format)?;
        let known = match last.0.take().filter(|known| known.opens(key_id, &head)) {
            Some(known) => known,
            None => self.derive(key_id, &head)?,
        };
        let known = last.0.insert(known);
        let body = &mut sealed[HEAD_BYTES..];
        known.key.open_in_place(head.nonce(), Aad::from(aad), body).map_err(|_| OpenError::Forged)
    }

    /// Opens a sealed record of which nobody knows the key any more, with whichever key
    /// opens it.
    ///
    /// # Errors
    /// [`OpenError::Forged`] when none does, [`OpenError::Format`].
    pub fn open_any(&self, aad: &[u8], sealed: &[u8]) -> Result<(KeyId, Vec<u8>), OpenError> {
        Head::decode(sealed).ok_or(OpenError::Format)?;
        let attempt = |id| self.open(id, aad, &mut sealed.to_vec()).map(|record| (id, record.to_vec())).ok();
        self.ids().find_map(attempt).ok_or(OpenError::Forged)
    }

    pub(crate) fn fresh_salt(&self) -> Result<Salt, SealError> {
        let mut salt = Salt::default();
        match &self.salts {
            Salts::System(random) => random.fill(&mut salt).map_err(|_| SealError::Random)?,
            Salts::Seeded { seed, count } => {
                let mut context = Context::new(&SHA256);
                context.update(&seed.to_le_bytes());
                context.update(&count.fetch_add(1, Ordering::Relaxed).to_le_bytes());
                salt.copy_from_slice(&context.finish().as_ref()[..SALT_BYTES]);
            }
        }
        Ok(salt)
    }

    fn derive(&self, key_id: KeyId, head: &Head) -> Result<Derived, OpenError> {
        // Nothing under this lock is left half done by a panic.
        let mut derived = self.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = derived.iter().rposition(|known| known.opens(key_id, head)) {
            derived[position..].rotate_left(1);
        } else {
            let master = self.get(key_id).ok_or(OpenError::KeyMissing { key_id })?;
            let key = data_key(master, &head.salt, head.algorithm).ok_or(OpenError::Format)?;
            if derived.len() >= DATA_KEYS_MAX {
                derived.remove(0);
            }
            derived.push(Derived { key_id, salt: head.salt, algorithm: head.algorithm, key: Arc::new(key) });
        }
        derived.last().cloned().ok_or(OpenError::Format)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: u8) -> MasterKey {
        MasterKey::from_bytes(std::array::from_fn(|i| n ^ i as u8))
    }

    fn ring(keys: &[u8]) -> Arc<Keyring> {
        Arc::new(Keyring::new(keys.iter().map(|n| key(*n)).collect()).expect("keys"))
    }

    #[test]
    fn older_keys_open_and_missing_ones_are_named() {
        let (old, both, new) = (ring(&[1]), ring(&[2, 1, 2, 1]), ring(&[2]));
        assert_eq!(both.ids().collect::<Vec<_>>(), [key(2).id(), key(1).id()]);
        let mut sealed = Vec::new();
        old.sealer(Algorithm::auto()).expect("salt").seal(b"x", &[b"record"], &mut sealed).expect("sealed");
        let id = key(1).id();
        assert_eq!(both.open(id, b"x", &mut sealed.clone()).expect("opens"), b"record");
        assert_eq!(new.open(id, b"x", &mut sealed.clone()), Err(OpenError::KeyMissing { key_id: id }));
        assert_eq!(both.open(key(2).id(), b"x", &mut sealed.clone()), Err(OpenError::Forged), "the wrong key");
        assert_eq!(both.open_any(b"x", &sealed), Ok((id, b"record".to_vec())));
        assert_eq!(new.open_any(b"x", &sealed), Err(OpenError::Forged));
        assert!(matches!(Keyring::new(Vec::new()), Err(KeyError::Missing)));
    }

    #[test]
    fn data_keys_are_kept_within_bounds() {
        let keyring = ring(&[1]);
        let mut sealer = keyring.sealer(Algorithm::auto()).expect("salt");
        let mut first = Vec::new();
        sealer.seal(b"", &[b"first"], &mut first).expect("sealed");
        for n in 0..=DATA_KEYS_MAX {
            let mut sealed = Vec::new();
            let mut sealer = keyring.sealer(Algorithm::auto()).expect("salt");
            sealer.seal(b"", &[&n.to_le_bytes()], &mut sealed).expect("sealed");
            assert_eq!(keyring.open(keyring.current_id(), b"", &mut sealed).expect("opens"), n.to_le_bytes());
        }
        assert_eq!(keyring.derived.lock().expect("lock").len(), DATA_KEYS_MAX);
        assert_eq!(keyring.open(keyring.current_id(), b"", &mut first).expect("derived again"), b"first");
    }

    #[test]
    fn salts_are_fresh_and_seeded_ones_replay() {
        assert_ne!(ring(&[1]).fresh_salt().expect("salt"), ring(&[1]).fresh_salt().expect("salt"));
        let seeded = |seed| Keyring::with_seeded_salts(vec![key(1)], seed).expect("a key");
        let (a, b) = (seeded(7), seeded(7));
        let salts: Vec<Salt> = (0..2).map(|_| a.fresh_salt().expect("salt")).collect();
        assert_ne!(salts[0], salts[1]);
        assert_eq!(salts, (0..2).map(|_| b.fresh_salt().expect("salt")).collect::<Vec<_>>());
        assert_ne!(seeded(8).fresh_salt().expect("salt"), salts[0]);
    }
}
