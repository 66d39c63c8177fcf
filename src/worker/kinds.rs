//! Which handler runs which kind, and which of them take jobs right now.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use crate::worker::handler::{Handler, Waiting};
use crate::worker::time::pause;

/// How long a handler is left alone that says it may have room again and has none, at first and
/// at most.
const PAUSE_MS_MIN: u64 = 1;
const PAUSE_MS_MAX: u64 = 100;

/// The handlers of a worker.
#[derive(Default)]
pub(crate) struct Kinds {
    pub(crate) by_kind: BTreeMap<String, Arc<dyn Handler>>,
    /// Runs every other kind.
    pub(crate) fallback: Option<Arc<dyn Handler>>,
}

/// What may be claimed for the handlers as they are now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Open {
    /// Only of these kinds; all when empty.
    pub(crate) kinds: Vec<String>,
    /// So many jobs at most; whatever kinds they are of, their handlers take them.
    pub(crate) room: usize,
    /// There is a handler that takes none right now.
    pub(crate) any_shut: bool,
}

impl Kinds {
    pub(crate) fn handler(&self, kind: &str) -> Option<&Arc<dyn Handler>> {
        self.by_kind.get(kind).or(self.fallback.as_ref())
    }

    /// Which kinds may be claimed, and how many jobs of them.
    pub(crate) fn open(&self) -> Open {
        let mut open = Open { kinds: Vec::new(), room: usize::MAX, any_shut: false };
        for (kind, handler) in &self.by_kind {
            match handler.room() {
                0 => open.any_shut = true,
                room => {
                    open.kinds.push(kind.clone());
                    open.room = open.room.min(room);
                }
            }
        }
        let fallback_room = self.fallback.as_ref().map(|fallback| fallback.room());
        match fallback_room {
            // A claim can't leave kinds out: with one that nobody takes now, only those that are
            // taken can be named.
            Some(room) if room > 0 && !open.any_shut => {
                open.kinds.clear();
                open.room = open.room.min(room);
                return open;
            }
            Some(0) => open.any_shut = true,
            _ => {}
        }
        if open.kinds.is_empty() {
            open.room = 0;
        }
        open
    }

    /// Waits until one of the handlers that take none takes some.
    pub(crate) async fn wait_for_room(&self) {
        let all = self.by_kind.values().chain(&self.fallback);
        let shut: Vec<&Arc<dyn Handler>> = all.filter(|handler| handler.room() == 0).collect();
        let mut pause_ms = PAUSE_MS_MIN;
        while !shut.is_empty() && shut.iter().all(|handler| handler.room() == 0) {
            let mut waiting: Vec<Waiting<'_>> =
                shut.iter().map(|handler| handler.wait_for_room()).collect();
            poll_fn(|context| {
                let any = waiting.iter_mut().any(|one| one.as_mut().poll(context).is_ready());
                if any { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            if shut.iter().all(|handler| handler.room() == 0) {
                // It gave the word too early, or gives it always.
                pause(pause_ms).await;
                pause_ms = (2 * pause_ms).min(PAUSE_MS_MAX);
            }
        }
    }
}
