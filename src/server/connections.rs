//! All open connections: how many there are, and which of them has been idle longest.
//!
//! # Invariants
//! - At most `max_connections` are open: one more enters only when another has left.
//! - Every idle connection stands in the order, under a moment not later than the one since when
//!   it is idle. So the first whose moment is right is the one that has been idle longest.
//!
//! A request changes nothing here: the order is put right only when somebody needs a place. What
//! that costs is paid for by the requests since the last time, one step for each at most.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::time::Instant;

use super::connection::{Connection, Eviction};
use super::limits::ConnectionLimits;

/// All open connections.
pub(super) struct Connections {
    pub(super) limits: ConnectionLimits,
    open: Mutex<Open>,
    left: Notify,
}

#[derive(Default)]
struct Open {
    last_id: u64,
    connections: HashMap<u64, Arc<Connection>>,
    order: BTreeSet<(Instant, u64)>,
}

/// The right to be open. Dropped, it is another's.
pub(super) struct Place(pub(super) Arc<Connection>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.leave(&self.0);
    }
}

impl Connections {
    pub(super) fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Connections { limits, open: Mutex::default(), left: Notify::new() })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for one more; if need be that of the one that has been idle longest. `None` when
    /// all are busy.
    pub(super) async fn place(self: &Arc<Self>) -> Option<Place> {
        loop {
            // Before the look, so that nobody leaves in between unheard.
            let left = self.left.notified();
            if let Some(place) = self.enter() {
                return Some(place);
            }
            if !self.evict() {
                return None;
            }
            left.await;
        }
    }

    fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open();
        if open.connections.len() >= self.limits.max_connections {
            return None;
        }
        open.last_id += 1;
        let (id, now) = (open.last_id, Instant::now());
        let connection = Arc::new(Connection::new(id, self.clone(), now));
        open.connections.insert(id, connection.clone());
        open.order.insert((now, id));
        Some(Place(connection))
    }

    /// Ends the one that has been idle longest; false when all are busy.
    pub(super) fn evict(&self) -> bool {
        let mut open = self.open();
        while let Some((listed, id)) = open.order.pop_first() {
            let found = open.connections.get(&id).map(|connection| connection.evict(listed));
            match found {
                Some(Eviction::Done) => return true,
                Some(Eviction::IdleSince(since)) => {
                    open.order.insert((since, id));
                }
                Some(Eviction::Busy) | None => {}
            }
        }
        false
    }

    /// Puts a connection that is idle again back into the order.
    pub(super) fn list(&self, connection: &Connection) {
        let mut open = self.open();
        if let Some(since) = connection.to_be_listed() {
            open.order.insert((since, connection.id));
        }
    }

    fn leave(&self, connection: &Connection) {
        let mut open = self.open();
        if let Some(listed) = connection.listed() {
            open.order.remove(&(listed, connection.id));
        }
        open.connections.remove(&connection.id);
        drop(open);
        self.left.notify_waiters();
    }

    /// Tells all to end after the request under way, and waits until they have.
    pub(super) async fn finish(&self) {
        self.open().connections.values().for_each(|connection| connection.finish());
        loop {
            let left = self.left.notified();
            if self.open().connections.is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Done when one has left after this call.
    pub(super) fn one_left(&self) -> Notified<'_> {
        self.left.notified()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn connections(max_connections: usize) -> Arc<Connections> {
        Connections::new(ConnectionLimits { max_connections, ..ConnectionLimits::default() })
    }

    fn request(place: &Place) {
        assert!(place.0.begins());
        place.0.answered();
        place.0.sent();
    }

    fn is_evicted(place: &Place) -> bool {
        place.0.is_evicted(Waker::noop())
    }

    #[test]
    fn the_one_that_has_been_idle_longest_goes_first() {
        let connections = connections(4);
        let places: Vec<Place> = std::iter::from_fn(|| connections.enter()).collect();
        let [first, second, third, fourth] = places.as_slice() else { panic!("not four") };
        request(first);
        assert!(third.0.begins());
        assert!(connections.evict());
        assert!(is_evicted(second) && !second.0.begins());
        assert!(connections.evict());
        assert!(is_evicted(fourth));
        // Busy until its answer is sent, not only ready.
        third.0.answered();
        assert!(connections.evict());
        assert!(is_evicted(first));
        assert!(!connections.evict());
        third.0.sent();
        assert!(connections.evict());
        assert!(is_evicted(third));
        assert!(!connections.evict());
        drop(places);
        assert!(connections.open().connections.is_empty() && connections.open().order.is_empty());
    }

    #[tokio::test]
    async fn a_place_is_free_when_its_holder_has_left() {
        let connections = connections(1);
        let busy = connections.place().await.unwrap();
        assert!(busy.0.begins());
        assert!(connections.place().await.is_none());
        busy.0.answered();
        busy.0.sent();
        let waiting = tokio::spawn({
            let connections = connections.clone();
            async move { connections.place().await.is_some() }
        });
        while !is_evicted(&busy) {
            tokio::task::yield_now().await;
        }
        assert!(!waiting.is_finished());
        drop(busy);
        assert!(waiting.await.unwrap());
    }
}
