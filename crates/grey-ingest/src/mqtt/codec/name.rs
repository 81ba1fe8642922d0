//! The rules of topic names and topic filters.

use super::fault::Fault;

/// Longest topic or filter in bytes. The standard allows 65,535; no device needs
/// that, and every cached topic costs its length.
pub const TOPIC_BYTES_MAX: usize = 1_024;
/// Most levels of a topic or filter: bounds the depth of the subscription tree.
pub const TOPIC_LEVELS_MAX: usize = 128;
/// What a shared subscription's filter starts with.
pub(crate) const SHARED_PREFIX: &str = "$share/";

fn fits(name: &str) -> bool {
    let levels = || memchr::memchr_iter(b'/', name.as_bytes()).count() + 1;
    !name.is_empty() && name.len() <= TOPIC_BYTES_MAX && levels() <= TOPIC_LEVELS_MAX
}

/// Checks the topic of a message: not empty, within its limits, no wildcard.
/// The text itself is UTF-8 without U+0000 already.
pub fn check_topic(topic: &str) -> Result<(), Fault> {
    if fits(topic) && memchr::memchr2(b'+', b'#', topic.as_bytes()).is_none() { Ok(()) } else { Err(Fault::TopicName) }
}

/// Checks the filter of a subscription: `+` alone in its level, `#` alone in the last.
pub fn check_filter(filter: &str) -> Result<(), Fault> {
    if !fits(filter) {
        return Err(Fault::TopicFilter);
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard = memchr::memchr2(b'+', b'#', level.as_bytes()).is_some();
        if wildcard && level != "+" && (level != "#" || levels.peek().is_some()) {
            return Err(Fault::TopicFilter);
        }
    }
    Ok(())
}

/// Whether a topic matches a filter. Topics that start with `$` are not matched
/// by a filter that starts with a wildcard.
pub fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && !filter.starts_with('$') {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            (Some("#"), _) => return true,
            (Some("+"), Some(_)) => {}
            (Some(wanted), Some(level)) if wanted == level => {}
            (None, None) => return true,
            _ => return false,
        }
    }
}
