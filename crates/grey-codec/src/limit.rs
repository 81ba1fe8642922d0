//! The limits of one event, checked before it enters a block, so that no tier
//! above ever meets a block that it must refuse.

use grey_model::limits::{
    ATTRIBUTES_MAX, EVENT_ID_BYTES_MAX, NAME_BYTES_MAX, TEXT_BYTES_MAX, UNIT_BYTES_MAX, VECTOR_LEN_MAX,
};
use grey_model::{Event, Value};

/// Named numbers in one [`Value::Fields`]: an aggregate with room for percentiles, not a document.
pub const FIELDS_MAX: usize = 256;

/// Which limit an event is over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the event's {what} of {found} is over the limit of {limit}")]
pub struct LimitError {
    /// What is too long or too many.
    pub what: &'static str,
    /// How long or many.
    pub found: usize,
    /// The limit.
    pub limit: usize,
}

fn at_most(what: &'static str, found: usize, limit: usize) -> Result<(), LimitError> {
    if found > limit { Err(LimitError { what, found, limit }) } else { Ok(()) }
}

/// Checks an event against the limits of `grey_model::limits` and [`FIELDS_MAX`].
/// Names and values of attributes and names of fields are bounded like other names.
/// What passes is accepted by [`BlockBuilder::push`](crate::BlockBuilder::push).
pub fn check(event: &Event) -> Result<(), LimitError> {
    at_most("device bytes", event.device.len(), NAME_BYTES_MAX)?;
    at_most("stream bytes", event.stream.len(), NAME_BYTES_MAX)?;
    if let Some(unit) = &event.unit {
        at_most("unit bytes", unit.len(), UNIT_BYTES_MAX)?;
    }
    if let Some(id) = &event.id {
        at_most("id bytes", id.len(), EVENT_ID_BYTES_MAX)?;
    }
    at_most("attributes", event.attributes.len(), ATTRIBUTES_MAX)?;
    for (name, value) in &event.attributes {
        at_most("attribute name bytes", name.len(), NAME_BYTES_MAX)?;
        at_most("attribute value bytes", value.len(), NAME_BYTES_MAX)?;
    }
    match &event.value {
        Value::Bool(_) | Value::Integer(_) | Value::Number(_) => Ok(()),
        Value::Text(text) => at_most("text bytes", text.len(), TEXT_BYTES_MAX),
        Value::Vector(samples) => at_most("vector samples", samples.len(), VECTOR_LEN_MAX),
        Value::Fields(fields) => {
            at_most("fields", fields.len(), FIELDS_MAX)?;
            fields.iter().try_for_each(|(name, _)| at_most("field name bytes", name.len(), NAME_BYTES_MAX))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use grey_model::Name;

    #[test]
    fn names_what_is_over_which_limit() {
        let mut event = Event::reading("d", "s", 1.0, 0);
        assert_eq!(check(&event), Ok(()));
        event.id = Some(Name::from("x".repeat(257)));
        let error = check(&event).unwrap_err();
        assert_eq!(error.to_string(), "the event's id bytes of 257 is over the limit of 256");
        event.id = None;
        event.value = Value::Vector(vec![0.0; VECTOR_LEN_MAX + 1].into());
        assert_eq!(check(&event).unwrap_err().what, "vector samples");
        event.value = Value::Bool(true);
        event.attributes = vec![(Name::from("a"), Name::from("b")); 33];
        assert_eq!(check(&event).unwrap_err().limit, 32);
    }
}
