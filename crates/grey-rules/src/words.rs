//! Names that derived events repeat, made once.

use grey_model::Name;
use grey_model::limits::NAME_BYTES_MAX;

/// Text that fits an attribute or a name of an event: what is longer is cut, and says so.
pub(crate) fn clipped(text: &str) -> Name {
    if text.len() <= NAME_BYTES_MAX {
        return text.into();
    }
    const MARK: &str = "…";
    let end = (0..=NAME_BYTES_MAX - MARK.len()).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    format!("{}{MARK}", &text[..end]).into()
}

macro_rules! words {
    ($($field:ident = $text:literal),* $(,)?) => {
        /// Names that derived events repeat.
        #[derive(Debug)]
        pub(crate) struct Words {
            $(pub(crate) $field: Name),*
        }

        impl Words {
            pub(crate) fn new() -> Self {
                Self { $($field: $text.into()),* }
            }
        }
    };
}

words! {
    state = "state", firing = "firing", cleared = "cleared", acknowledged = "acknowledged", summary = "summary",
    rule = "rule", condition = "condition", severity = "severity", since = "since", reason = "reason",
    alert = "alert", device = "device", detector = "detector", model = "model",
    value = "value", limit = "limit", score = "score", expected = "expected", seen = "seen", output = "output",
    label = "label", suppressed = "suppressed", silenced = "silenced", by = "by", note = "note",
    window = "window", partial = "partial", yes = "true", sketch = "sketch", late = "late", ahead = "ahead",
    alerts = "alerts", alerts_per_minute = "alerts_per_minute", warning = "warning",
    from = "from", to = "to", none = "none", model_fallback = "model_fallback",
    evicted = "series_evicted", changed = "rules_changed", empty = "",
}
