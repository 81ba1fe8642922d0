//! What a condition may refer to: the site's streams, their derived fields, and the units of both.

use std::collections::BTreeMap;

use crate::suggest::nearest;

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

impl Schema {
    /// Whether a name was written down.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.streams.as_ref().is_some_and(|s| s.contains_key(name)) || self.fields.contains_key(name)
    }

    /// Whether a condition may refer to a name.
    pub(crate) fn allows(&self, name: &str) -> bool {
        self.streams.is_none() || self.knows(name)
    }

    /// The unit of a name's values, if one was written down.
    pub(crate) fn unit_of(&self, name: &str) -> Option<&str> {
        let in_streams = self.streams.as_ref().and_then(|s| s.get(name));
        in_streams.or_else(|| self.fields.get(name))?.as_deref()
    }

    /// The known name that was probably meant.
    pub(crate) fn nearest(&self, name: &str) -> Option<&str> {
        let streams = self.streams.iter().flat_map(BTreeMap::keys);
        nearest(name, streams.chain(self.fields.keys()).map(String::as_str))
    }
}
