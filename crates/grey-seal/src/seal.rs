//! A keyring and an algorithm bound to one purpose.

use std::sync::Arc;

use ring::digest::{Context, Digest, SHA256, digest};

use crate::{Algorithm, KeyId, Keyring, LastKey, OpenError, SealError, Sealer};

const PURPOSE_BYTES: usize = 16;

/// How the records of one purpose are sealed and opened. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Seal {
    keyring: Arc<Keyring>,
    /// `None`: what is written is not sealed.
    algorithm: Option<Algorithm>,
    purpose: [u8; PURPOSE_BYTES],
}

/// What binds a record to its purpose and its place: the authenticated data of its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place([u8; PURPOSE_BYTES + 8]);

impl AsRef<[u8]> for Place {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Seal {
    /// Seals with the keyring's current key. `purpose` says what the records are, such as
    /// `outbox/bulk`: those of another purpose do not open.
    pub fn new(keyring: Arc<Keyring>, algorithm: Algorithm, purpose: &str) -> Self {
        Self::opening(keyring, purpose).with_algorithm(Some(algorithm))
    }

    /// Opens what was sealed, and seals nothing any more: sealing was switched off, or
    /// nothing is to be written.
    pub fn opening(keyring: Arc<Keyring>, purpose: &str) -> Self {
        Self { keyring, algorithm: None, purpose: [0; PURPOSE_BYTES] }.with_purpose(purpose)
    }

    /// The same keys and algorithm for another purpose.
    pub fn with_purpose(&self, purpose: &str) -> Self {
        self.with_digest(digest(&SHA256, purpose.as_bytes()))
    }

    /// The same for a part of this purpose, such as the checkpoints of a log.
    pub fn part(&self, name: &str) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&self.purpose);
        context.update(name.as_bytes());
        self.with_digest(context.finish())
    }

    fn with_digest(&self, digest: Digest) -> Self {
        let mut bound = self.clone();
        bound.purpose.copy_from_slice(&digest.as_ref()[..PURPOSE_BYTES]);
        bound
    }

    /// The same keys and purpose, to open only.
    pub fn without_sealing(&self) -> Self {
        self.clone().with_algorithm(None)
    }

    fn with_algorithm(self, algorithm: Option<Algorithm>) -> Self {
        Self { algorithm, ..self }
    }

    /// What new records are sealed with: algorithm and key. `None` when they are not sealed.
    pub fn sealing(&self) -> Option<(Algorithm, KeyId)> {
        self.algorithm.map(|algorithm| (algorithm, self.keyring.current_id()))
    }

    /// The keys.
    pub fn keyring(&self) -> &Arc<Keyring> {
        &self.keyring
    }

    /// A sealer with a fresh salt.
    ///
    /// # Errors
    /// [`SealError::Random`]; [`SealError::OpensOnly`] of one made by [`Seal::opening`].
    pub fn sealer(&self) -> Result<Sealer, SealError> {
        self.keyring.sealer(self.algorithm.ok_or(SealError::OpensOnly)?)
    }

    /// The authenticated data for the record of this index.
    pub fn place(&self, index: u64) -> Place {
        let mut place = [0; PURPOSE_BYTES + 8];
        place[..PURPOSE_BYTES].copy_from_slice(&self.purpose);
        place[PURPOSE_BYTES..].copy_from_slice(&index.to_le_bytes());
        Place(place)
    }

    /// Opens in place the record that was sealed for `index`.
    ///
    /// # Errors
    /// See [`Keyring::open`].
    pub fn open<'a>(&self, key_id: KeyId, index: u64, sealed: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        self.keyring.open(key_id, self.place(index).as_ref(), sealed)
    }

    /// Like [`Seal::open`], for one record after the other.
    ///
    /// # Errors
    /// See [`Keyring::open`].
    pub fn open_next<'a>(
        &self,
        last: &mut LastKey,
        key_id: KeyId,
        index: u64,
        sealed: &'a mut [u8],
    ) -> Result<&'a mut [u8], OpenError> {
        self.keyring.open_next(last, key_id, self.place(index).as_ref(), sealed)
    }

    /// Opens the record that was sealed for `index` with whichever key opens it.
    ///
    /// # Errors
    /// See [`Keyring::open_any`].
    pub fn open_any(&self, index: u64, sealed: &[u8]) -> Result<(KeyId, Vec<u8>), OpenError> {
        self.keyring.open_any(self.place(index).as_ref(), sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MasterKey;

    #[test]
    fn records_open_at_their_place_alone() {
        let key = MasterKey::from_bytes(std::array::from_fn(|i| i as u8));
        let keyring = Arc::new(Keyring::new(vec![key]).expect("a key"));
        let bulk = Seal::new(Arc::clone(&keyring), Algorithm::auto(), "outbox/bulk");
        let normal = bulk.with_purpose("outbox/normal");
        let id = keyring.current_id();
        assert_eq!(bulk.sealing(), Some((Algorithm::auto(), id)));
        let mut sealed = Vec::new();
        bulk.sealer().expect("salt").seal(bulk.place(5).as_ref(), &[b"a", b"b"], &mut sealed).expect("sealed");
        assert_eq!(normal.open(id, 5, &mut sealed.clone()), Err(OpenError::Forged));
        assert_eq!(bulk.open(id, 4, &mut sealed.clone()), Err(OpenError::Forged));
        assert_eq!(bulk.part("checkpoint").open(id, 5, &mut sealed.clone()), Err(OpenError::Forged));
        let reader = Seal::opening(keyring, "outbox/bulk");
        assert_eq!(bulk.without_sealing().open(id, 5, &mut sealed.clone()).expect("opens"), b"ab");
        assert_eq!(reader.open_any(5, &sealed), Ok((id, b"ab".to_vec())));
        assert_eq!(reader.open(id, 5, &mut sealed).expect("opens"), b"ab");
        assert_eq!(reader.sealing(), None);
        assert!(matches!(reader.sealer(), Err(SealError::OpensOnly)));
    }
}
