//! Any bytes as a sealed record: refused without a panic; and what was sealed opens, until
//! any byte of it is changed.
//!
//! The input: a byte for the algorithm and the way, two for the place of a change, one
//! for the change, then the record.
#![no_main]

use std::sync::{Arc, LazyLock};

use grey_seal::{Algorithm, Keyring, MasterKey, OVERHEAD_BYTES, OpenError, Seal};
use libfuzzer_sys::fuzz_target;

static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(|| {
    let key = |n: u8| MasterKey::from_bytes(std::array::from_fn(|i| n ^ i as u8));
    Arc::new(Keyring::with_seeded_salts(vec![key(1), key(77)], 1).expect("keys"))
});

fuzz_target!(|input: &[u8]| {
    let Some((&[way, high, low, change], record)) = input.split_first_chunk() else { return };
    let algorithm = if way & 1 == 0 { Algorithm::Aes256Gcm } else { Algorithm::ChaCha20Poly1305 };
    let seal = Seal::new(Arc::clone(&KEYRING), algorithm, "fuzz");
    let index = u64::from(high);
    if way & 2 == 0 {
        // Nobody without the key makes one.
        let mut bytes = record.to_vec();
        bytes.iter_mut().take(1).for_each(|byte| *byte = 0x10 | algorithm.code());
        for key_id in KEYRING.ids() {
            assert!(seal.open(key_id, index, &mut bytes.clone()).is_err());
        }
        assert!(seal.open_any(index, &bytes).is_err());
        let _ = MasterKey::parse(record);
        return;
    }
    let mut sealed = Vec::new();
    let mut sealer = seal.sealer().expect("a salt");
    sealer.seal(seal.place(index).as_ref(), &[record], &mut sealed).expect("short enough");
    assert_eq!(sealed.len(), record.len() + OVERHEAD_BYTES);
    let (key_id, opened) = seal.open_any(index, &sealed).expect("what was sealed opens");
    assert_eq!((key_id, &opened[..]), (KEYRING.current_id(), record));
    let at = usize::from(u16::from_le_bytes([high, low])) % sealed.len();
    sealed[at] ^= change;
    let opened = seal.open(key_id, index, &mut sealed);
    match change {
        0 => assert_eq!(opened.expect("unchanged"), record),
        _ => assert!(matches!(opened, Err(OpenError::Forged | OpenError::Format))),
    }
});
