//! Where the messages of a topic go, remembered per connection.

use hashbrown::HashMap;

use grey_model::Name;

use crate::mqtt::codec::{Fault, check_topic, text};
use crate::topic::{TopicMap, check_name};

/// Bytes of topics that one connection remembers: some hundred topics of a
/// gateway. When it is full it starts over.
const TOPICS_BYTES_MAX: usize = 64 * 1024;

/// Where the messages of a topic go.
#[derive(Debug, Clone)]
pub(super) enum Route {
    /// They are events.
    Event { device: Name, stream: Name },
    /// They would be events, but a name is not allowed: dead letters.
    DeadLetter(Box<str>),
    /// They are for local subscribers only.
    Local,
    /// The server's own topics, which a client cannot publish to: nowhere.
    Reserved,
}

#[derive(Debug, Default)]
pub(super) struct RouteCache {
    routes: HashMap<Box<[u8]>, Route>,
    bytes: usize,
}

impl RouteCache {
    /// The route of a topic. Its text is checked when it is new; a topic that
    /// is remembered was checked before.
    #[inline]
    pub(super) fn get(&mut self, topic: &[u8], map: &TopicMap) -> Result<&Route, Fault> {
        // A second look-up on a miss is what the borrow checker asks for here.
        if !self.routes.contains_key(topic) {
            self.learn(topic, map)?;
        }
        self.routes.get(topic).ok_or(Fault::TopicName)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.routes.len()
    }

    #[cold]
    fn learn(&mut self, topic: &[u8], map: &TopicMap) -> Result<(), Fault> {
        let name = text(topic)?;
        check_topic(name)?;
        if self.bytes + topic.len() > TOPICS_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += topic.len();
        self.routes.insert(topic.into(), route(name, map));
        Ok(())
    }
}

fn route(topic: &str, map: &TopicMap) -> Route {
    if topic.starts_with("$SYS/") {
        return Route::Reserved;
    }
    match map.resolve(topic) {
        None => Route::Local,
        Some((device, stream)) => match check_name("device", device).and_then(|()| check_name("stream", stream)) {
            Ok(()) => Route::Event { device: device.into(), stream: stream.into() },
            Err(error) => Route::DeadLetter(error.to_string().into()),
        },
    }
}
