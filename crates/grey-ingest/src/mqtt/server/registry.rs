//! Who is connected: bounds their number, keeps client ids unique, and reaches
//! every connection when the server stops.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use tokio::sync::{Notify, oneshot};

use crate::broker::ConnectionId;

/// Why a connection is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kick {
    /// Another connection has the client id now.
    TakenOver,
    /// The server stops.
    Stopping,
}

#[derive(Debug)]
struct Claim {
    owner: ConnectionId,
    /// Closes once the owner will submit nothing more.
    quiet: oneshot::Receiver<()>,
}

#[derive(Debug, Default)]
struct Inner {
    last_id: ConnectionId,
    stopping: bool,
    connections: HashMap<ConnectionId, Option<oneshot::Sender<Kick>>>,
    clients: HashMap<Box<str>, Claim>,
}

/// All connections of a server.
#[derive(Debug, Default)]
pub(super) struct Registry {
    inner: Mutex<Inner>,
    emptied: Notify,
}

/// A connection's place in the registry; leaves it when dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    pub(super) id: ConnectionId,
    pub(super) kick: oneshot::Receiver<Kick>,
    client_id: Option<Box<str>>,
    quiet: Option<oneshot::Sender<()>>,
}

impl Registry {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place, unless there are `connections_max` already or the server stops.
    pub(super) fn enter(self: &Arc<Self>, connections_max: usize) -> Option<Place> {
        let mut inner = self.lock();
        if inner.stopping || inner.connections.len() >= connections_max {
            return None;
        }
        // Ids never repeat, and 0 is the edge itself.
        inner.last_id += 1;
        let id = inner.last_id;
        let (sender, kick) = oneshot::channel();
        inner.connections.insert(id, Some(sender));
        Some(Place { registry: Arc::clone(self), id, kick, client_id: None, quiet: None })
    }

    /// Tells every connection to end, and admits no more.
    pub(super) fn stop(&self) {
        let mut inner = self.lock();
        inner.stopping = true;
        for sender in inner.connections.values_mut().filter_map(Option::take) {
            // A connection that is ending by itself does not listen any more.
            let _ = sender.send(Kick::Stopping);
        }
    }

    /// Waits until nobody is connected.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().connections.is_empty() {
                return;
            }
            emptied.await;
        }
    }
}

impl Place {
    /// Claims a client id. Returns what closes once its former owner, who is
    /// told to end, will submit nothing more.
    pub(super) fn claim(&mut self, client_id: &str) -> Option<oneshot::Receiver<()>> {
        let (quiet, receiver) = oneshot::channel();
        let mut inner = self.registry.lock();
        let former = inner.clients.insert(client_id.into(), Claim { owner: self.id, quiet: receiver });
        self.client_id = Some(client_id.into());
        self.quiet = Some(quiet);
        let former = former?;
        if let Some(sender) = inner.connections.get_mut(&former.owner).and_then(Option::take) {
            let _ = sender.send(Kick::TakenOver);
        }
        Some(former.quiet)
    }

    /// Declares that nothing more will be submitted: the client id is free.
    pub(super) fn quieten(&mut self) {
        self.quiet = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.registry.lock();
        inner.connections.remove(&self.id);
        if let Some(client_id) = &self.client_id
            && inner.clients.get(client_id).is_some_and(|claim| claim.owner == self.id)
        {
            inner.clients.remove(client_id);
        }
        if inner.connections.is_empty() {
            self.registry.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_has_one_owner_and_a_chain_of_claims_waits_in_order() {
        let registry = Arc::new(Registry::default());
        let mut first = registry.enter(3).unwrap();
        let mut second = registry.enter(3).unwrap();
        let mut third = registry.enter(3).unwrap();
        assert!(registry.enter(3).is_none(), "the limit holds");

        assert!(first.claim("pump").is_none());
        let mut first_quiet = second.claim("pump").unwrap();
        assert_eq!(first.kick.try_recv(), Ok(Kick::TakenOver));
        let mut second_quiet = third.claim("pump").unwrap();
        assert_eq!(second.kick.try_recv(), Ok(Kick::TakenOver));

        assert_eq!(first_quiet.try_recv(), Err(oneshot::error::TryRecvError::Empty));
        first.quieten();
        assert_eq!(first_quiet.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        drop(second);
        assert_eq!(second_quiet.try_recv(), Err(oneshot::error::TryRecvError::Closed));

        // The former owners' departure leaves the claim of the last one alone.
        drop(first);
        let mut fourth = registry.enter(3).unwrap();
        assert!(fourth.claim("pump").is_some());
        registry.stop();
        assert_eq!(fourth.kick.try_recv(), Ok(Kick::Stopping));
        assert!(registry.enter(3).is_none());
    }
}
