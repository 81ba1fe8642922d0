//! Master keys and their names.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use zeroize::Zeroizing;

use crate::KeyError;

/// Length of a master key in bytes.
pub const KEY_BYTES: usize = 32;

const KEY_ID_BYTES: usize = 8;
/// The longest text that can be a key, with white space around it.
pub(crate) const KEY_TEXT_BYTES_MAX: usize = 1_024;

/// What everything is derived from. Wiped from memory when it is dropped; never printed.
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

impl MasterKey {
    /// A key of 32 bytes that are random and known to nobody else.
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A key from text or bytes: 64 hexadecimal digits or base64 of 32 bytes, with white
    /// space around it or not; or 32 raw bytes.
    ///
    /// # Errors
    /// [`KeyError::Format`], [`KeyError::Placeholder`].
    pub fn parse(text: &[u8]) -> Result<Self, KeyError> {
        Self::parse_from(text, "the text")
    }

    pub(crate) fn parse_from(text: &[u8], from: &str) -> Result<Self, KeyError> {
        let trimmed = text.trim_ascii();
        let bytes = from_hex(trimmed).or_else(|| from_base64(trimmed)).or_else(|| from_raw(text));
        let bytes = bytes.ok_or_else(|| KeyError::Format { from: from.to_owned(), len: text.len() })?;
        if bytes.iter().all(|byte| *byte == bytes[0]) {
            return Err(KeyError::Placeholder { from: from.to_owned() });
        }
        Ok(Self(bytes))
    }

    /// The key's name: tells keys apart and tells nothing about them.
    pub fn id(&self) -> KeyId {
        let mut id = [0; KEY_ID_BYTES];
        expand(&self.extract(&[]), &[b"grey key id"], &mut id);
        KeyId(id)
    }

    /// HKDF-Extract with this key (RFC 5869).
    pub(crate) fn extract(&self, salt: &[u8]) -> Prk {
        Salt::new(HKDF_SHA256, salt).extract(&self.0[..])
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id())
    }
}

/// HKDF-Expand (RFC 5869) to at most 255 x 32 bytes.
fn expand(key: &Prk, info: &[&[u8]], out: &mut [u8]) {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    // Fails for longer outputs only; the callers' are constants.
    let _ = key.expand(info, Length(out.len())).and_then(|okm| okm.fill(out));
}

fn from_hex(text: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut bytes = Zeroizing::new([0; KEY_BYTES]);
    decode_hex(text, &mut bytes[..]).then_some(bytes)
}

fn decode_hex(text: &[u8], out: &mut [u8]) -> bool {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    text.len() == out.len() * 2
        && out.iter_mut().zip(text.chunks_exact(2)).all(|(byte, pair)| match (digit(pair[0]), digit(pair[1])) {
            (Some(high), Some(low)) => {
                *byte = high << 4 | low;
                true
            }
            _ => false,
        })
}

fn from_base64(text: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    // The decoder wants room for whole groups of three.
    let mut room = Zeroizing::new([0; KEY_BYTES + 4]);
    let decoded = GeneralPurpose::new(&STANDARD, config).decode_slice(text, &mut room[..]).ok()?;
    from_raw(room.get(..decoded)?)
}

fn from_raw(bytes: &[u8]) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    bytes.try_into().ok().map(Zeroizing::new)
}

/// The name of a key: the first bytes of HKDF-SHA256 of it. Shown in hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl KeyId {
    /// A name as it stands in a file.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// The name as it stands in a file.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

impl FromStr for KeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut id = [0; KEY_ID_BYTES];
        match decode_hex(text.as_bytes(), &mut id) {
            true => Ok(Self(id)),
            false => Err(format!("{text:?} is no key id, expected 16 hexadecimal digits")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn hkdf_is_that_of_rfc_5869() {
        // Test case 1.
        let salt: Vec<u8> = (0..=12).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let mut out = [0; 42];
        expand(&Salt::new(HKDF_SHA256, &salt).extract(&[0x0b; 22]), &[&info], &mut out);
        assert_eq!(hex(&out), "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865");
    }

    #[test]
    fn placeholders_and_what_is_no_key_are_refused() {
        assert!(matches!(MasterKey::parse(&[0; 32]), Err(KeyError::Placeholder { .. })));
        assert!(matches!(MasterKey::parse("aa".repeat(32).as_bytes()), Err(KeyError::Placeholder { .. })));
        for text in ["", "secret", &"0".repeat(63), &"0g".repeat(32), &"A".repeat(48)] {
            assert!(matches!(MasterKey::parse(text.as_bytes()), Err(KeyError::Format { .. })), "{text}");
        }
    }

    #[test]
    fn nothing_of_a_key_is_printed() {
        let bytes: [u8; 32] = std::array::from_fn(|i| i as u8);
        let key = MasterKey::from_bytes(bytes);
        assert_eq!(format!("{key:?}"), format!("MasterKey({})", key.id()));
        assert!(!hex(&bytes).contains(&key.id().to_string()));
    }

    proptest! {
        #[test]
        fn all_forms_of_a_key_are_the_same(bytes: [u8; 32]) {
            let bytes = { let mut bytes = bytes; (bytes[0], bytes[1]) = (1, 200); bytes };
            let id = MasterKey::from_bytes(bytes).id();
            let digits = hex(&bytes);
            let padded = base64::engine::general_purpose::STANDARD.encode(bytes);
            let forms = [
                bytes.to_vec(),
                digits.clone().into_bytes(),
                format!("  {}\n", digits.to_uppercase()).into_bytes(),
                padded.trim_end_matches('=').as_bytes().to_vec(),
                format!("{padded}\r\n").into_bytes(),
            ];
            for form in forms {
                prop_assert_eq!(MasterKey::parse(&form).map(|key| key.id()).ok(), Some(id));
            }
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(KeyId::from_bytes(id.to_bytes()), id);
        }

        #[test]
        fn any_text_is_a_key_or_an_error(text: Vec<u8>) {
            let _ = MasterKey::parse(&text);
        }
    }
}
