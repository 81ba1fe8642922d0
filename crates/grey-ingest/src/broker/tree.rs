//! The tree of subscriptions, one node per filter level.

use std::sync::Arc;

use hashbrown::HashMap;

use super::mailbox::Mailbox;
use super::message::ConnectionId;
use crate::mqtt::codec::SubscribeOptions;

/// One subscription.
#[derive(Debug, Clone)]
pub(super) struct Subscription {
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) options: SubscribeOptions,
    pub(super) id: Option<u32>,
}

#[derive(Debug, Default)]
struct Node {
    literal: HashMap<Box<str>, Node>,
    any: Option<Box<Node>>,
    /// Filters that end here.
    exact: Vec<Subscription>,
    /// Filters that end in `#` below here; they match this level too.
    rest: Vec<Subscription>,
}

/// All subscriptions of a broker.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Node,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.literal.is_empty() && self.any.is_none() && self.exact.is_empty() && self.rest.is_empty()
    }

    fn remove(&mut self, mut levels: std::str::Split<'_, char>, owner: ConnectionId) -> bool {
        let drop_owner = |subscriptions: &mut Vec<Subscription>| {
            let before = subscriptions.len();
            subscriptions.retain(|s| s.mailbox.owner() != owner);
            subscriptions.len() < before
        };
        match levels.next() {
            None => drop_owner(&mut self.exact),
            Some("#") => drop_owner(&mut self.rest),
            Some("+") => {
                let Some(node) = &mut self.any else { return false };
                let removed = node.remove(levels, owner);
                if node.is_empty() {
                    self.any = None;
                }
                removed
            }
            Some(level) => {
                let Some(node) = self.literal.get_mut(level) else { return false };
                let removed = node.remove(levels, owner);
                if node.is_empty() {
                    self.literal.remove(level);
                }
                removed
            }
        }
    }

    fn visit<'n>(&'n self, mut levels: std::str::Split<'_, char>, visit: &mut impl FnMut(&'n Subscription)) {
        self.rest.iter().for_each(&mut *visit);
        match levels.next() {
            None => self.exact.iter().for_each(visit),
            Some(level) => {
                if let Some(node) = self.literal.get(level) {
                    node.visit(levels.clone(), visit);
                }
                if let Some(node) = &self.any {
                    node.visit(levels, visit);
                }
            }
        }
    }
}

impl Tree {
    /// Adds a subscription, or replaces that of the same owner and filter.
    /// Returns whether it is new.
    pub(super) fn insert(&mut self, filter: &str, subscription: Subscription) -> bool {
        let mut node = &mut self.root;
        let mut ends_in_rest = false;
        for level in filter.split('/') {
            match level {
                "#" => {
                    ends_in_rest = true;
                    break;
                }
                "+" => node = node.any.get_or_insert_default(),
                literal => node = node.literal.entry(literal.into()).or_default(),
            }
        }
        let list = if ends_in_rest { &mut node.rest } else { &mut node.exact };
        let owner = subscription.mailbox.owner();
        match list.iter_mut().find(|s| s.mailbox.owner() == owner) {
            Some(before) => {
                *before = subscription;
                false
            }
            None => {
                list.push(subscription);
                true
            }
        }
    }

    /// Removes an owner's subscription; returns whether there was one.
    pub(super) fn remove(&mut self, filter: &str, owner: ConnectionId) -> bool {
        self.root.remove(filter.split('/'), owner)
    }

    /// Calls `visit` for every subscription whose filter matches the topic. A
    /// leading wildcard does not match a topic that starts with `$`.
    pub(super) fn visit<'n>(&'n self, topic: &str, visit: &mut impl FnMut(&'n Subscription)) {
        if topic.starts_with('$') {
            let mut levels = topic.split('/');
            if let Some(node) = levels.next().and_then(|first| self.root.literal.get(first)) {
                node.visit(levels, visit);
            }
        } else {
            self.root.visit(topic.split('/'), visit);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.root.is_empty()
    }
}
