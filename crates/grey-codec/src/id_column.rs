//! The column of device-given ids.
//!
//! Ids count upwards more often than not: an id is taken apart into a prefix
//! and a number, and a series whose numbers grow by a steady step costs
//! nothing but a run of equal bytes.

use grey_model::limits::EVENT_ID_BYTES_MAX;
use grey_model::{Name, Reader, Writer};

use crate::error::CodecError;
use crate::id_form::{IdForm, RAW_BYTES};
use crate::table::StringTable;

/// No id. The forms of [`IdForm`] follow as 1 to 5.
const NONE: u8 = 0;
/// The series' last number plus its step.
const NEXT: u8 = 6;
/// A new step, then as [`NEXT`].
const STEP: u8 = 7;
/// A new prefix, width and number; the step becomes 1.
const NEW: u8 = 8;

/// Trailing digits taken as a number: below 10^18 sums never overflow.
const DIGITS_MAX: usize = 18;
const NUMBER_END: i64 = 1_000_000_000_000_000_000;

/// The last numbered id of a series.
#[derive(Debug, Clone, Copy)]
struct Counter {
    prefix: u32,
    /// Fewest digits; shorter numbers are padded with zeros.
    width: u8,
    number: i64,
    step: i64,
}

/// An id as a prefix and trailing digits.
fn split(id: &str) -> Option<(&str, i64, u8)> {
    let digits = id.bytes().rev().take(DIGITS_MAX).take_while(u8::is_ascii_digit).count();
    let (prefix, digits) = id.split_at(id.len() - digits);
    digits.parse().ok().map(|number| (prefix, number, digits.len() as u8))
}

/// Digits of a number written with at least `width` of them.
fn digits(number: i64, width: u8) -> u8 {
    let own = number.checked_ilog10().map_or(1, |log| log as u8 + 1);
    own.max(width)
}

/// Collects the column, series by series.
#[derive(Debug, Default)]
pub(crate) struct IdWriter {
    forms: Vec<u8>,
    raw: Vec<u8>,
    details: Vec<u8>,
    counter: Option<Counter>,
}

impl IdWriter {
    pub(crate) fn start_series(&mut self) {
        self.counter = None;
    }

    /// Appends the id of the series' next event. May add its prefix to `strings`.
    pub(crate) fn push(&mut self, id: Option<&str>, strings: &mut StringTable) {
        let Some(id) = id else { return self.forms.push(NONE) };
        let (form, raw) = IdForm::of(id);
        if form != IdForm::Text {
            self.forms.push(form as u8 + 1);
            self.raw.extend_from_slice(&raw);
        } else if !self.push_numbered(id, strings) {
            self.forms.push(IdForm::Text as u8 + 1);
            self.details.put_blob(id.as_bytes());
        }
    }

    fn push_numbered(&mut self, id: &str, strings: &mut StringTable) -> bool {
        let Some((prefix, number, len)) = split(id) else { return false };
        if let Some(counter) = &mut self.counter
            && strings.get(counter.prefix) == prefix
            && digits(number, counter.width) == len
        {
            let step = number - counter.number;
            counter.number = number;
            if step == counter.step {
                self.forms.push(NEXT);
            } else {
                counter.step = step;
                self.forms.push(STEP);
                self.details.put_varint_signed(step);
            }
            return true;
        }
        // A prefix that changes within a series is no prefix worth a place in the table.
        let prefix = match &self.counter {
            None => strings.intern(prefix),
            Some(_) => match strings.find(prefix) {
                Some(prefix) => prefix,
                None => return false,
            },
        };
        let width = if id.as_bytes()[id.len() - usize::from(len)] == b'0' { len } else { 1 };
        self.counter = Some(Counter { prefix, width, number, step: 1 });
        self.forms.push(NEW);
        self.details.put_varint(prefix.into());
        self.details.push(width);
        self.details.put_varint(number as u64);
        true
    }

    /// Appends forms, 128-bit ids and details. Calls `cut` after each.
    pub(crate) fn write(&self, out: &mut Vec<u8>, mut cut: impl FnMut(usize)) {
        for part in [&self.forms, &self.raw, &self.details] {
            out.extend_from_slice(part);
            cut(out.len());
        }
    }
}

/// Reads the column of `lens.sum()` events, series by series.
pub(crate) fn read(
    reader: &mut Reader<'_>,
    lens: impl Iterator<Item = usize>,
    events: usize,
    strings: &[Name],
) -> Result<Vec<Option<Name>>, CodecError> {
    let forms = reader.bytes(events)?;
    let raw = |form: &&u8| (2..=IdForm::HexUpper as u8 + 1).contains(*form);
    let mut raw = Reader::new(reader.bytes(forms.iter().filter(raw).count() * RAW_BYTES)?);
    let mut ids = Vec::with_capacity(events);
    let mut forms = forms.iter();
    for len in lens {
        let mut counter: Option<Counter> = None;
        for &form in forms.by_ref().take(len) {
            ids.push(match form {
                NONE => None,
                NEXT | STEP | NEW => {
                    let next = read_counter(reader, form, counter, strings)?;
                    counter = Some(next);
                    Some(spell(next, strings).ok_or_else(|| reader.invalid("numbered id"))?)
                }
                form => match IdForm::from_u8(form - 1) {
                    Some(IdForm::Text) => Some(Name::from(reader.text("id", EVENT_ID_BYTES_MAX)?)),
                    Some(form) => form.spell(raw.bytes(RAW_BYTES)?).map(Name::from),
                    None => return Err(reader.invalid("id form").into()),
                },
            });
        }
    }
    Ok(ids)
}

fn read_counter(
    reader: &mut Reader<'_>,
    form: u8,
    last: Option<Counter>,
    strings: &[Name],
) -> Result<Counter, CodecError> {
    let counter = match (form, last) {
        (NEW, _) => {
            let prefix = reader.count("id prefix", (strings.len() as u64).saturating_sub(1))? as u32;
            let width = reader.count("id width", DIGITS_MAX as u64)? as u8;
            let number = reader.count("id number", NUMBER_END as u64 - 1)? as i64;
            Counter { prefix, width, number, step: 1 }
        }
        (_, None) => return Err(reader.invalid("id without one before it").into()),
        (form, Some(last)) => {
            let step = if form == STEP { reader.varint_signed()? } else { last.step };
            let number = last.number.checked_add(step).filter(|number| (0..NUMBER_END).contains(number));
            Counter { number: number.ok_or_else(|| reader.invalid("id number"))?, step, ..last }
        }
    };
    Ok(counter)
}

fn spell(counter: Counter, strings: &[Name]) -> Option<Name> {
    let prefix = strings.get(counter.prefix as usize)?;
    let width = usize::from(counter.width);
    let id = format!("{prefix}{:0width$}", counter.number);
    (id.len() <= EVENT_ID_BYTES_MAX).then(|| Name::from(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trip(series: &[Vec<Option<String>>]) -> (IdWriter, Vec<Option<String>>) {
        let mut strings = StringTable::default();
        let mut writer = IdWriter::default();
        for ids in series {
            writer.start_series();
            ids.iter().for_each(|id| writer.push(id.as_deref(), &mut strings));
        }
        let mut bytes = Vec::new();
        writer.write(&mut bytes, |_| {});
        let names: Vec<Name> = (0..strings.len() as u32).map(|at| Name::from(strings.get(at))).collect();
        let mut reader = Reader::new(&bytes);
        let events = series.iter().map(Vec::len).sum();
        let found = read(&mut reader, series.iter().map(Vec::len), events, &names).unwrap();
        assert!(reader.is_empty());
        (writer, found.into_iter().map(|id| id.map(|id| id.as_str().to_owned())).collect())
    }

    #[test]
    fn counting_ids_cost_nothing() {
        let ids: Vec<Option<String>> = (95..105).map(|n| Some(format!("pump-7-{n:03}"))).collect();
        let (writer, found) = round_trip(std::slice::from_ref(&ids));
        assert_eq!(found, ids);
        assert_eq!(writer.forms, [NEW, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT, NEXT]);
        assert_eq!(writer.details.len(), 3);
        let ids: Vec<Option<String>> = [7, 11, 15, 19].map(|n| Some(n.to_string())).to_vec();
        assert_eq!(round_trip(std::slice::from_ref(&ids)).0.forms, [NEW, STEP, NEXT, NEXT]);
    }

    #[test]
    fn odd_ids_survive() {
        let ids =
            ["", "0", "00", "x", "x0", "x00", "x9", "x10", "x010", "999999999999999999", "1000000000000000000", "äö7"];
        let ids: Vec<Option<String>> = ids.iter().map(|id| Some((*id).to_owned())).chain([None]).collect();
        assert_eq!(round_trip(std::slice::from_ref(&ids)).1, ids);
    }

    fn id() -> impl Strategy<Value = Option<String>> {
        prop_oneof![
            Just(None),
            "[a-c]{0,2}[0-9]{0,20}".prop_map(Some),
            "[0-9a-f]{32}".prop_map(Some),
            "[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{4}-[0-9A-F]{12}".prop_map(Some),
            ".{0,20}".prop_map(Some),
        ]
    }

    proptest! {
        #[test]
        fn any_ids_round_trip(series in prop::collection::vec(prop::collection::vec(id(), 0..10), 0..4)) {
            prop_assert_eq!(round_trip(&series).1, series.concat());
        }
    }
}
