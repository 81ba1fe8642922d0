//! The single-pass reader for payloads as devices write them.
//!
//! It reads the ordinary and gives up on everything else (`None`): escapes,
//! `null`, unknown or repeated keys, limits, errors. [`slow`](super::slow) then
//! reads the same bytes through `serde_json` and finds the words for what is
//! wrong. What this reader does accept, the other accepts with the same result;
//! a property test holds them together.

use grey_model::limits::{
    ATTRIBUTES_MAX, EVENT_ID_BYTES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX, UNIT_BYTES_MAX, VECTOR_LEN_MAX,
};
use grey_model::{Name, Value};

use super::item::{Item, NameMemo, Scope, lane_of, quality_of};
use super::time::{TIME_MAX_MS, TIME_MIN_MS, parse_rfc3339};
use super::{EVENTS_PER_PAYLOAD_MAX, FIELDS_MAX, Read};
use crate::topic::check_name;

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

pub(super) fn read(payload: &[u8], scope: Scope, memo: &mut NameMemo) -> Option<Read> {
    let mut scan = Scan { bytes: payload, at: 0 };
    scan.space();
    let read = match scan.peek()? {
        b'[' => {
            scan.at += 1;
            let mut items = Vec::new();
            scan.list(|scan| {
                items.push(scan.item(scope, memo)?);
                (items.len() <= EVENTS_PER_PAYLOAD_MAX).then_some(())
            })?;
            Read::Many(items)
        }
        _ => Read::One(scan.item(scope, memo)?),
    };
    scan.space();
    (scan.at == payload.len()).then_some(read)
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

enum Number {
    Whole(i64),
    Real(f64),
}

impl<'a> Scan<'a> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    #[inline]
    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The next byte, which must be this one, with space around it.
    #[inline]
    fn mark(&mut self, byte: u8) -> Option<()> {
        self.space();
        if self.peek()? != byte {
            return None;
        }
        self.at += 1;
        self.space();
        Some(())
    }

    fn literal(&mut self, word: &[u8]) -> Option<()> {
        self.bytes.get(self.at..)?.starts_with(word).then(|| self.at += word.len())
    }

    /// The elements after a `[`, up to and with its `]`.
    fn list(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.space();
        if self.peek()? == b']' {
            self.at += 1;
            return Some(());
        }
        loop {
            element(self)?;
            self.space();
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    self.space();
                }
                b']' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// The members after a `{`, up to and with its `}`.
    fn members(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            let key = self.text()?;
            self.mark(b':')?;
            member(self, key)?;
            self.space();
            match self.peek()? {
                b',' => {
                    self.at += 1;
                    self.space();
                }
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    /// A string without escapes.
    #[inline]
    fn text(&mut self) -> Option<&'a str> {
        if self.peek()? != b'"' {
            return None;
        }
        let start = self.at + 1;
        for (len, &byte) in self.bytes[start..].iter().enumerate() {
            match byte {
                b'"' => {
                    self.at = start + len + 1;
                    let bytes = &self.bytes[start..start + len];
                    return std::str::from_utf8(bytes).ok();
                }
                b'\\' | 0..0x20 => return None,
                _ => {}
            }
        }
        None
    }

    /// A number by the grammar of JSON.
    #[inline]
    fn number(&mut self) -> Option<Number> {
        let start = self.at;
        let negative = self.peek()? == b'-';
        if negative {
            self.at += 1;
        }
        // Up to 19 digits fit; more are left to the library's parser.
        let (mut mantissa, mut digits) = (0_u64, 0_usize);
        let whole_start = self.at;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            digits += 1;
            self.at += 1;
        }
        if digits == 0 || (digits > 1 && self.bytes[whole_start] == b'0') {
            return None;
        }
        let mut decimals = 0_usize;
        if self.peek() == Some(b'.') {
            self.at += 1;
            while let Some(byte @ b'0'..=b'9') = self.peek() {
                mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
                decimals += 1;
                self.at += 1;
            }
            if decimals == 0 {
                return None;
            }
        } else if !matches!(self.peek(), Some(b'e' | b'E')) {
            if digits > 18 || (negative && mantissa == 0) {
                return None;
            }
            let whole = mantissa as i64;
            return Some(Number::Whole(if negative { -whole } else { whole }));
        }
        let mut exponent = false;
        if let Some(b'e' | b'E') = self.peek() {
            exponent = true;
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            let exponent_start = self.at;
            while let Some(b'0'..=b'9') = self.peek() {
                self.at += 1;
            }
            if self.at == exponent_start {
                return None;
            }
        }
        // Both operands are exact, so the quotient is rounded once: the nearest double.
        let real = if !exponent && digits + decimals <= 15 {
            let magnitude = mantissa as f64 / POWERS[decimals];
            if negative { -magnitude } else { magnitude }
        } else {
            std::str::from_utf8(&self.bytes[start..self.at]).ok()?.parse().ok()?
        };
        real.is_finite().then_some(Number::Real(real))
    }

    fn item(&mut self, scope: Scope, memo: &mut NameMemo) -> Option<Item> {
        match self.peek()? {
            b'{' => {
                self.at += 1;
                self.object(scope, memo)
            }
            b'-' | b'0'..=b'9' if scope == Scope::Topic => Some(Item::of(self.number()?.into())),
            _ => None,
        }
    }

    fn object(&mut self, scope: Scope, memo: &mut NameMemo) -> Option<Item> {
        // The value that stands until `value` is read; its key is required below.
        let mut item = Item::of(Value::Bool(false));
        let mut seen = 0_u32;
        self.members(|scan, key| {
            let bit = match key {
                "value" => {
                    item.value = scan.value(memo)?;
                    1
                }
                "ts" => {
                    item.ts = Some(scan.time()?);
                    2
                }
                "id" => {
                    item.id = Some(Name::from(scan.bounded_text(EVENT_ID_BYTES_MAX)?));
                    4
                }
                "unit" => {
                    item.unit = Some(memo.name(scan.bounded_text(UNIT_BYTES_MAX)?));
                    8
                }
                "quality" => {
                    item.quality = quality_of(scan.text()?)?;
                    16
                }
                "priority" => {
                    item.lane = Some(lane_of(scan.text()?)?);
                    32
                }
                "attributes" => {
                    item.attributes = scan.attributes(memo)?;
                    64
                }
                "device" if scope == Scope::Whole => {
                    item.device = Some(scan.name("device", memo)?);
                    128
                }
                "stream" if scope == Scope::Whole => {
                    item.stream = Some(scan.name("stream", memo)?);
                    256
                }
                _ => return None,
            };
            let repeated = seen & bit != 0;
            seen |= bit;
            (!repeated).then_some(())
        })?;
        let required = if scope == Scope::Whole { 1 | 128 | 256 } else { 1 };
        (seen & required == required).then_some(item)
    }

    fn bounded_text(&mut self, bytes_max: usize) -> Option<&'a str> {
        self.text().filter(|text| !text.is_empty() && text.len() <= bytes_max)
    }

    fn name(&mut self, what: &'static str, memo: &mut NameMemo) -> Option<Name> {
        let text = self.text()?;
        check_name(what, text).ok()?;
        Some(memo.name(text))
    }

    fn time(&mut self) -> Option<i64> {
        if self.peek()? == b'"' {
            return parse_rfc3339(self.text()?);
        }
        match self.number()? {
            Number::Whole(ms) => (TIME_MIN_MS..=TIME_MAX_MS).contains(&ms).then_some(ms),
            Number::Real(_) => None,
        }
    }

    fn value(&mut self, memo: &mut NameMemo) -> Option<Value> {
        match self.peek()? {
            b'-' | b'0'..=b'9' => Some(self.number()?.into()),
            b'"' => {
                let text = self.text()?;
                (text.len() <= TEXT_BYTES_MAX).then(|| Value::Text(text.into()))
            }
            b't' => self.literal(b"true").map(|()| Value::Bool(true)),
            b'f' => self.literal(b"false").map(|()| Value::Bool(false)),
            b'[' => {
                self.at += 1;
                let mut samples = Vec::new();
                self.list(|scan| {
                    samples.push(scan.number()?.as_f64());
                    (samples.len() <= VECTOR_LEN_MAX).then_some(())
                })?;
                (!samples.is_empty()).then(|| Value::Vector(samples.into()))
            }
            b'{' => {
                self.at += 1;
                let mut fields: Vec<(Name, f64)> = Vec::new();
                self.members(|scan, key| {
                    check_name("field", key).ok()?;
                    let repeated = fields.iter().any(|(name, _)| name.as_str() == key);
                    fields.push((memo.name(key), scan.number()?.as_f64()));
                    (!repeated && fields.len() <= FIELDS_MAX).then_some(())
                })?;
                (!fields.is_empty()).then(|| Value::Fields(fields.into()))
            }
            _ => None,
        }
    }

    fn attributes(&mut self, memo: &mut NameMemo) -> Option<Vec<(Name, Name)>> {
        if self.peek()? != b'{' {
            return None;
        }
        self.at += 1;
        let mut attributes: Vec<(Name, Name)> = Vec::new();
        self.members(|scan, key| {
            check_name("attribute", key).ok()?;
            let value = scan.text()?;
            let repeated = attributes.iter().any(|(name, _)| name.as_str() == key);
            let allowed = !repeated && value.len() <= NAME_BYTES_MAX && attributes.len() < ATTRIBUTES_MAX;
            attributes.push((memo.name(key), memo.name(value)));
            allowed.then_some(())
        })?;
        Some(attributes)
    }
}

impl Number {
    fn as_f64(&self) -> f64 {
        match *self {
            Self::Whole(whole) => whole as f64,
            Self::Real(real) => real,
        }
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Self {
        match number {
            Number::Whole(whole) => Self::Integer(whole),
            Number::Real(real) => Self::Number(real),
        }
    }
}
