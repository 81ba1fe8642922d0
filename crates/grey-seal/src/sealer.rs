//! The bytes of a sealed record, and writing them.
//!
//! | Offset | Size | Field |
//! |---|---|---|
//! | 0 | 1 | version 1 in the high four bits, the algorithm in the low |
//! | 1 | 16 | salt |
//! | 17 | 8 | counter, little-endian |
//! | 25 | | ciphertext, as long as the record |
//! | | 16 | tag |

use std::fmt;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};

use crate::{KeyId, Keyring, MasterKey, SealError};

/// By how much a sealed record is longer than the record, in bytes.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + TAG_BYTES;

pub(crate) const SALT_BYTES: usize = 16;
const COUNTER_AT: usize = 1 + SALT_BYTES;
/// Where the record stands in a sealed one that was opened in place.
pub const HEAD_BYTES: usize = COUNTER_AT + 8;
pub(crate) const TAG_BYTES: usize = 16;
const VERSION: u8 = 1 << 4;
/// Records under one data key. Far below what either algorithm bears with counted
/// nonces, and rare enough that a new salt costs nothing.
const RECORDS_MAX: u64 = 1 << 32;

pub(crate) type Salt = [u8; SALT_BYTES];

/// How records are encrypted and authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// AES-256 in Galois/counter mode (NIST SP 800-38D).
    Aes256Gcm,
    /// ChaCha20 and Poly1305 (RFC 8439).
    ChaCha20Poly1305,
}

impl Algorithm {
    /// AES where the processor has instructions for it, else ChaCha20, which is fast
    /// and constant in time without.
    pub fn auto() -> Self {
        if has_aes() { Self::Aes256Gcm } else { Self::ChaCha20Poly1305 }
    }

    /// The number that stands for it in files, 1 to 15.
    pub fn code(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    /// The algorithm of a number.
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Aes256Gcm, Self::ChaCha20Poly1305].into_iter().find(|algorithm| algorithm.code() == code)
    }

    fn cipher(self) -> &'static ring::aead::Algorithm {
        match self {
            Self::Aes256Gcm => &AES_256_GCM,
            Self::ChaCha20Poly1305 => &CHACHA20_POLY1305,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        })
    }
}

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

/// What stands before the ciphertext.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Head {
    pub(crate) algorithm: Algorithm,
    pub(crate) salt: Salt,
    pub(crate) counter: u64,
}

impl Head {
    /// `None` when the bytes are no sealed record of a known version and algorithm.
    pub(crate) fn decode(sealed: &[u8]) -> Option<Self> {
        if sealed.len() < OVERHEAD_BYTES || sealed[0] & 0xf0 != VERSION {
            return None;
        }
        Some(Self {
            algorithm: Algorithm::from_code(sealed[0] & 0x0f)?,
            salt: sealed[1..COUNTER_AT].try_into().ok()?,
            counter: u64::from_le_bytes(sealed[COUNTER_AT..HEAD_BYTES].try_into().ok()?),
        })
    }

    fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut out = [0; HEAD_BYTES];
        out[0] = VERSION | self.algorithm.code();
        out[1..COUNTER_AT].copy_from_slice(&self.salt);
        out[COUNTER_AT..].copy_from_slice(&self.counter.to_le_bytes());
        out
    }

    /// Unique for each record under one data key.
    pub(crate) fn nonce(&self) -> Nonce {
        let mut nonce = [0; NONCE_LEN];
        nonce[NONCE_LEN - 8..].copy_from_slice(&self.counter.to_le_bytes());
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The key that records of one salt are sealed with; `None` never happens with the
/// lengths that the algorithms have.
pub(crate) fn data_key(master: &MasterKey, salt: &Salt, algorithm: Algorithm) -> Option<LessSafeKey> {
    let info = [&b"grey record key"[..], &[VERSION | algorithm.code()]];
    let master = master.extract(salt);
    let okm = master.expand(&info, algorithm.cipher()).ok()?;
    Some(LessSafeKey::new(UnboundKey::from(okm)))
}

/// Seals records under a data key of its own. Not to be cloned: the counter is what
/// keeps nonces from repeating.
#[derive(Debug)]
pub struct Sealer {
    keyring: Arc<Keyring>,
    algorithm: Algorithm,
    state: Keyed,
    records_max: u64,
}

/// A salt and how far its nonces are used up.
#[derive(Debug)]
struct Keyed {
    salt: Salt,
    key: LessSafeKey,
    counter: u64,
}

impl Keyed {
    fn new(keyring: &Keyring, algorithm: Algorithm) -> Result<Self, SealError> {
        let salt = keyring.fresh_salt()?;
        let key = data_key(keyring.current(), &salt, algorithm).ok_or(SealError::Random)?;
        Ok(Self { salt, key, counter: 0 })
    }
}

impl Sealer {
    pub(crate) fn new(keyring: &Arc<Keyring>, algorithm: Algorithm) -> Result<Self, SealError> {
        let state = Keyed::new(keyring, algorithm)?;
        Ok(Self { keyring: Arc::clone(keyring), algorithm, state, records_max: RECORDS_MAX })
    }

    /// The name of the key that everything is sealed with.
    pub fn key_id(&self) -> KeyId {
        self.keyring.current_id()
    }

    /// What everything is sealed with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Appends a record, its `parts` together, to `out`, sealed: [`OVERHEAD_BYTES`] more
    /// than the record has. Only with the same `aad` can it be opened.
    ///
    /// # Errors
    /// `out` is as it was then.
    pub fn seal(&mut self, aad: &[u8], parts: &[&[u8]], out: &mut Vec<u8>) -> Result<(), SealError> {
        if self.state.counter >= self.records_max {
            self.state = Keyed::new(&self.keyring, self.algorithm)?;
        }
        let head = Head { algorithm: self.algorithm, salt: self.state.salt, counter: self.state.counter };
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let start = out.len();
        out.reserve(len + OVERHEAD_BYTES);
        out.extend_from_slice(&head.encode());
        parts.iter().for_each(|part| out.extend_from_slice(part));
        // Used up even if sealing fails.
        self.state.counter += 1;
        let body = &mut out[start + HEAD_BYTES..];
        match self.state.key.seal_in_place_separate_tag(head.nonce(), Aad::from(aad), body) {
            Ok(tag) => out.extend_from_slice(tag.as_ref()),
            Err(_) => {
                out.truncate(start);
                return Err(SealError::TooLong { len });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::OpenError;

    const BOTH: [Algorithm; 2] = [Algorithm::Aes256Gcm, Algorithm::ChaCha20Poly1305];

    fn keyring(seed: u64) -> Arc<Keyring> {
        let key = MasterKey::from_bytes(std::array::from_fn(|i| i as u8));
        Arc::new(Keyring::with_seeded_salts(vec![key], seed).expect("a key"))
    }

    fn sealed(sealer: &mut Sealer, aad: &[u8], record: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        sealer.seal(aad, &[record], &mut out).expect("sealed");
        out
    }

    #[test]
    fn sealed_records_are_those_of_another_implementation() {
        // Made with Python's `cryptography`: HKDF-SHA256 and the ciphers of OpenSSL.
        let expected = [
            "11b1535c7783ea8829b6b0cf6770453979010000000000000028999534364465a67059ab88dc44ec63328baa4c7c5ebc53123303c0b8969bfd",
            "12b1535c7783ea8829b6b0cf67704539790100000000000000391e6151fb0fee2833095fb4fb03e0cee292332fdce8e21a8b6f94bca7256cf9",
        ];
        for (algorithm, expected) in BOTH.into_iter().zip(expected) {
            let keyring = keyring(2);
            assert_eq!(keyring.current_id().to_string(), "7f7f75c75471a2fa");
            let mut sealer = keyring.sealer(algorithm).expect("salt");
            sealed(&mut sealer, b"", b"the record with counter 0");
            let second = sealed(&mut sealer, b"place", b"what was written");
            assert_eq!(second.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), expected, "{algorithm}");
        }
    }

    #[test]
    fn any_changed_byte_is_noticed() {
        for algorithm in BOTH {
            let keyring = keyring(1);
            let id = keyring.current_id();
            let good = sealed(&mut keyring.sealer(algorithm).expect("salt"), b"place", b"what was written");
            for at in 0..good.len() {
                for bit in 0..8 {
                    let mut bad = good.clone();
                    bad[at] ^= 1 << bit;
                    let error = keyring.open(id, b"place", &mut bad).expect_err("tampered");
                    // The other algorithm's number is one bit pair away, no single flip.
                    assert!(matches!(error, OpenError::Forged) || at == 0 && error == OpenError::Format, "byte {at}");
                }
            }
            for len in 0..good.len() {
                assert!(keyring.open(id, b"place", &mut good[..len].to_vec()).is_err(), "cut at {len}");
            }
            assert_eq!(keyring.open(id, b"elsewhere", &mut good.clone()), Err(OpenError::Forged));
            assert_eq!(keyring.open(id, b"place", &mut good.clone()).expect("intact"), b"what was written");
        }
    }

    #[test]
    fn no_nonce_repeats_under_one_key() {
        let keyring = keyring(3);
        let mut used = HashSet::new();
        // Each opening of a log makes a sealer of its own, whatever the log holds then.
        for _ in 0..50 {
            let mut sealer = keyring.sealer(Algorithm::Aes256Gcm).expect("salt");
            for _ in 0..50 {
                let record = sealed(&mut sealer, b"", b"the same");
                assert!(used.insert(record[1..HEAD_BYTES].to_vec()));
            }
        }
    }

    #[test]
    fn a_new_salt_comes_before_the_counter_runs_out() {
        let keyring = keyring(4);
        let mut sealer = keyring.sealer(Algorithm::ChaCha20Poly1305).expect("salt");
        sealer.records_max = 3;
        let heads: Vec<Head> = (0..9)
            .map(|n: u8| {
                let mut record = sealed(&mut sealer, b"", &[n]);
                let head = Head::decode(&record).expect("a head");
                assert_eq!(keyring.open(keyring.current_id(), b"", &mut record).expect("opens"), [n]);
                head
            })
            .collect();
        let salts: HashSet<Salt> = heads.iter().map(|head| head.salt).collect();
        assert_eq!(salts.len(), 3);
        assert!(heads.iter().all(|head| head.counter < 3));
    }

    #[test]
    fn numbers_of_algorithms_stay() {
        assert_eq!(BOTH.map(Algorithm::code), [1, 2]);
        assert_eq!(BOTH.map(|algorithm| Algorithm::from_code(algorithm.code())), BOTH.map(Some));
        assert_eq!([0, 3, 15].map(Algorithm::from_code), [None; 3]);
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(record: Vec<u8>, aad: Vec<u8>, before: Vec<u8>, aes: bool) {
            let algorithm = BOTH[usize::from(aes)];
            let keyring = keyring(5);
            let mut out = before.clone();
            let (a, b) = record.split_at(record.len() / 2);
            keyring.sealer(algorithm).expect("salt").seal(&aad, &[a, b], &mut out).expect("sealed");
            prop_assert_eq!(&out[..before.len()], &before[..]);
            prop_assert_eq!(out.len(), before.len() + record.len() + OVERHEAD_BYTES);
            let opened = keyring.open(keyring.current_id(), &aad, &mut out[before.len()..]);
            prop_assert_eq!(opened.map(|bytes| bytes.to_vec()), Ok(record));
        }

        #[test]
        fn any_bytes_are_refused(bytes: Vec<u8>, first in 0x10_u8..0x13) {
            let keyring = keyring(6);
            let mut bytes = bytes;
            bytes.iter_mut().take(1).for_each(|byte| *byte = first);
            prop_assert!(keyring.open(keyring.current_id(), b"", &mut bytes).is_err());
            prop_assert!(keyring.open_any(b"", &bytes).is_err());
        }
    }
}
