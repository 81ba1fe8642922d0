//! What people do to alerts: acknowledge and silence. An operation is part of
//! the site's intake, so that a replay repeats it; its bytes are written here.

use grey_model::limits::{NAME_BYTES_MAX, TEXT_BYTES_MAX};
use grey_model::{Reader, WireError, Writer};

const VERSION: u8 = 1;
/// Longest note in bytes.
pub const NOTE_BYTES_MAX: usize = 1024;
/// Silences at one time.
pub const SILENCES_MAX: usize = 256;

/// What a person does to alerts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Someone takes care of an alert.
    Acknowledge {
        /// The alert's id, 16 hexadecimal digits.
        alert: String,
        /// Who.
        by: String,
        /// Why, or what is done.
        note: String,
    },
    /// Alerts of a rule, or of devices, or both, have no effects until a time.
    Silence {
        /// The rule's name; `None`: every rule.
        rule: Option<String>,
        /// The devices, `*` stands for any text; `None`: every device.
        device: Option<String>,
        /// Until when, Unix ms by the site's clock.
        until_ms: i64,
        /// Who.
        by: String,
        /// Why.
        note: String,
    },
    /// Ends a silence.
    Unsilence {
        /// The silence's id, 16 hexadecimal digits.
        id: String,
    },
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// No alert has the id, or it ended long ago.
    #[error("no alert has the id {0:?}: list the alerts for those there are")]
    NoAlert(String),
    /// The alert has ended, or has not begun to fire.
    #[error("alert {0} does not fire, so that there is nothing to acknowledge")]
    NotFiring(String),
    /// No silence has the id.
    #[error("no silence has the id {0:?}: it has ended, or never was")]
    NoSilence(String),
    /// A silence that would cover everything, or has no end ahead.
    #[error("the silence {0}")]
    Silence(String),
    /// Too many at one time.
    #[error("{SILENCES_MAX} silences are in force: end one first")]
    TooMany,
    /// A text is too long.
    #[error("{what} has {bytes} bytes, over the limit of {limit}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl Operation {
    /// Refuses what cannot be encoded.
    pub fn check(&self) -> Result<(), OperationError> {
        let within = |what, text: &str, limit| {
            if text.len() <= limit { Ok(()) } else { Err(OperationError::TooLong { what, bytes: text.len(), limit }) }
        };
        match self {
            Self::Acknowledge { alert, by, note } => {
                within("alert", alert, NAME_BYTES_MAX)?;
                within("by", by, NAME_BYTES_MAX)?;
                within("note", note, NOTE_BYTES_MAX)
            }
            Self::Silence { rule, device, by, note, .. } => {
                within("rule", rule.as_deref().unwrap_or_default(), TEXT_BYTES_MAX)?;
                within("device", device.as_deref().unwrap_or_default(), NAME_BYTES_MAX)?;
                within("by", by, NAME_BYTES_MAX)?;
                within("note", note, NOTE_BYTES_MAX)
            }
            Self::Unsilence { id } => within("id", id, NAME_BYTES_MAX),
        }
    }

    /// Appends the operation's bytes. `docs/design/rules-state.md` spells them out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        let optional = |out: &mut Vec<u8>, text: &Option<String>| {
            out.push(u8::from(text.is_some()));
            out.put_blob(text.as_deref().unwrap_or_default().as_bytes());
        };
        match self {
            Self::Acknowledge { alert, by, note } => {
                out.push(0);
                [alert, by, note].into_iter().for_each(|text| out.put_blob(text.as_bytes()));
            }
            Self::Silence { rule, device, until_ms, by, note } => {
                out.push(1);
                optional(out, rule);
                optional(out, device);
                out.put_varint_signed(*until_ms);
                [by, note].into_iter().for_each(|text| out.put_blob(text.as_bytes()));
            }
            Self::Unsilence { id } => {
                out.push(2);
                out.put_blob(id.as_bytes());
            }
        }
    }

    /// Reads what [`Operation::encode`] wrote.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, WireError> {
        if reader.u8()? != VERSION {
            return Err(reader.invalid("version of an operation"));
        }
        let text = |reader: &mut Reader<'_>, what| reader.text(what, TEXT_BYTES_MAX).map(str::to_owned);
        let optional = |reader: &mut Reader<'_>, what| {
            let there = match reader.u8()? {
                0 => false,
                1 => true,
                _ => return Err(reader.invalid("operation")),
            };
            text(reader, what).map(|t| there.then_some(t))
        };
        match reader.u8()? {
            0 => Ok(Self::Acknowledge {
                alert: text(reader, "alert")?,
                by: text(reader, "by")?,
                note: text(reader, "note")?,
            }),
            1 => Ok(Self::Silence {
                rule: optional(reader, "rule")?,
                device: optional(reader, "device")?,
                until_ms: reader.varint_signed()?,
                by: text(reader, "by")?,
                note: text(reader, "note")?,
            }),
            2 => Ok(Self::Unsilence { id: text(reader, "id")? }),
            _ => Err(reader.invalid("operation")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn operations_round_trip(a in ".{0,20}", b in ".{0,20}", c in ".{0,20}", n: i64, kind in 0..4_u8) {
            let operation = match kind {
                0 => Operation::Acknowledge { alert: a, by: b, note: c },
                1 => Operation::Silence { rule: Some(a), device: None, until_ms: n, by: b, note: c },
                2 => Operation::Silence { rule: None, device: Some(a), until_ms: n, by: b, note: c },
                _ => Operation::Unsilence { id: a },
            };
            let mut bytes = Vec::new();
            operation.encode(&mut bytes);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(Operation::decode(&mut reader), Ok(operation));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            let _ = Operation::decode(&mut Reader::new(&bytes));
        }
    }
}
