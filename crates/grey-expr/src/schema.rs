//! What a condition may refer to: the site's streams, their derived fields, and the units of both.

use std::collections::BTreeMap;

/// The streams and derived fields that conditions are checked against.
///
/// The default knows nothing and therefore allows every name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Schema {
    /// Stream name to its unit. `None`: the site's streams were not written down, any name may be one.
    pub streams: Option<BTreeMap<String, Option<String>>>,
    /// Derived streams that rules make, by their whole name (`vibration.velocity_rms`), to their unit.
    /// They exist whether or not `streams` is given.
    pub fields: BTreeMap<String, Option<String>>,
}
