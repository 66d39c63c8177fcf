//! Waiting for a moment of the queue's clock.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::{Clock, Timestamp};

/// The queue's clock, and word of its being moved by hand. Clones share it.
#[derive(Clone)]
pub(crate) struct Time {
    clock: Arc<dyn Clock>,
    moved: watch::Sender<()>,
}

impl Time {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Time { clock, moved: watch::Sender::new(()) }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Lets everybody who waits look at the clock again.
    pub(crate) fn look_again(&self) {
        self.moved.send_replace(());
    }

    /// Waits until the clock shows this moment. When it steps back meanwhile, no longer than it
    /// was away: nobody waits an hour more because of it.
    pub(crate) async fn until(&self, moment: Timestamp) {
        let mut moved = self.moved.subscribe();
        loop {
            let now = self.now();
            let left_ms = moment.ms_since(now);
            if left_ms == 0 {
                return;
            }
            tokio::select! {
                () = pause(left_ms) => if self.now() < now {
                    return;
                },
                _ = moved.changed() => {}
            }
        }
    }
}

/// Waits so many milliseconds, whatever the queue's clock shows.
#[expect(clippy::disallowed_methods, reason = "the one place where a worker waits for time")]
pub(crate) async fn pause(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}
