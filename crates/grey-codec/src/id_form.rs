//! The shapes of a device-given id that have a shorter reversible form: a
//! random 128-bit id is 36 characters as a UUID and 16 bytes as it is.

/// How an id's text is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum IdForm {
    /// Any text, stored as it is.
    Text = 0,
    /// 8-4-4-4-12 lower-case hexadecimal digits.
    UuidLower = 1,
    /// 8-4-4-4-12 upper-case hexadecimal digits.
    UuidUpper = 2,
    /// 32 lower-case hexadecimal digits.
    HexLower = 3,
    /// 32 upper-case hexadecimal digits.
    HexUpper = 4,
}

/// Bytes of a 128-bit id.
pub(crate) const RAW_BYTES: usize = 16;

const HYPHENS: [usize; 4] = [8, 13, 18, 23];
/// Where each byte's pair of digits starts in a UUID, and without hyphens.
const UUID_PAIRS: [usize; RAW_BYTES] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
const HEX_PAIRS: [usize; RAW_BYTES] = [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30];

const LOWER: u8 = 0x10;
const UPPER: u8 = 0x20;
const NO_DIGIT: u8 = 0x40;

/// The value of each byte as a digit, with what spelling it implies.
const DIGITS: [u8; 256] = {
    let mut table = [NO_DIGIT; 256];
    let mut value = 0;
    while value < 16 {
        if value < 10 {
            table[b'0' as usize + value] = value as u8;
        } else {
            table[b'a' as usize + value - 10] = value as u8 | LOWER;
            table[b'A' as usize + value - 10] = value as u8 | UPPER;
        }
        value += 1;
    }
    table
};

impl IdForm {
    pub(crate) fn from_u8(byte: u8) -> Option<Self> {
        [Self::Text, Self::UuidLower, Self::UuidUpper, Self::HexLower, Self::HexUpper].get(usize::from(byte)).copied()
    }

    /// The form of an id and, unless it is plain text, its 128 bits.
    pub(crate) fn of(id: &str) -> (Self, [u8; RAW_BYTES]) {
        let bytes = id.as_bytes();
        let text = (Self::Text, [0; RAW_BYTES]);
        let (pairs, hyphenated) = match bytes.len() {
            36 if HYPHENS.iter().all(|&at| bytes[at] == b'-') => (&UUID_PAIRS, true),
            32 => (&HEX_PAIRS, false),
            _ => return text,
        };
        let mut raw = [0_u8; RAW_BYTES];
        let mut spelling = 0;
        for (byte, &at) in raw.iter_mut().zip(pairs) {
            let (high, low) = (DIGITS[usize::from(bytes[at])], DIGITS[usize::from(bytes[at + 1])]);
            spelling |= high | low;
            *byte = high << 4 | low & 0x0f;
        }
        let form = match (spelling & !0x0f, hyphenated) {
            (0 | LOWER, true) => Self::UuidLower,
            (UPPER, true) => Self::UuidUpper,
            (0 | LOWER, false) => Self::HexLower,
            (UPPER, false) => Self::HexUpper,
            _ => return text,
        };
        (form, raw)
    }

    /// Spells 128 bits; `None` for plain text, which is not stored so.
    pub(crate) fn spell(self, raw: &[u8]) -> Option<String> {
        let (digits, hyphenated): (&[u8; 16], _) = match self {
            Self::Text => return None,
            Self::UuidLower => (b"0123456789abcdef", true),
            Self::UuidUpper => (b"0123456789ABCDEF", true),
            Self::HexLower => (b"0123456789abcdef", false),
            Self::HexUpper => (b"0123456789ABCDEF", false),
        };
        let mut text = String::with_capacity(36);
        for byte in raw {
            if hyphenated && HYPHENS.contains(&text.len()) {
                text.push('-');
            }
            text.push(char::from(digits[usize::from(byte >> 4)]));
            text.push(char::from(digits[usize::from(byte & 15)]));
        }
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_spelling_is_reversible(raw: [u8; 16], form in 1_u8..=4) {
            let form = IdForm::from_u8(form).unwrap();
            let text = form.spell(&raw).unwrap();
            let (found, bits) = IdForm::of(&text);
            prop_assert_eq!(bits, raw);
            prop_assert_eq!(found.spell(&bits).unwrap(), text);
        }

        #[test]
        fn what_is_not_plain_text_spells_back(id in "[0-9a-fA-F-]{30,38}") {
            let (form, raw) = IdForm::of(&id);
            if form != IdForm::Text {
                prop_assert_eq!(form.spell(&raw).unwrap(), id);
            }
        }
    }

    #[test]
    fn near_misses_stay_text() {
        for id in [
            "",
            "550e8400-e29b-41d4-a716-44665544000",
            "550e8400-E29b-41d4-a716-446655440000",
            "g50e8400e29b41d4a716446655440000",
        ] {
            assert_eq!(IdForm::of(id).0, IdForm::Text, "{id}");
        }
        assert_eq!(IdForm::of("550e8400-e29b-41d4-a716-446655440000").0, IdForm::UuidLower);
    }
}
