//! Stops handing out the jobs of a queue, and goes on: a setting that survives restarts.

use crate::error::Result;
use crate::queue::event::Happened;
use crate::queue::inspect::no_such_queue;
use crate::queue::state::QueueState;

impl QueueState {
    /// Stops the claims of a queue, or lets them go on. Whatever it was before, it is so now.
    pub(crate) fn set_paused(&mut self, name: &str, paused: bool) -> Result<()> {
        let Some(id) = self.queues.by_name.get(name).copied() else {
            return Err(no_such_queue(name));
        };
        let Some(entry) = self.queues.by_id.get_mut(&id) else { return Err(no_such_queue(name)) };
        if entry.paused == paused {
            return Ok(());
        }
        entry.paused = paused;
        self.mark_queue_dirty(id);
        self.note_ready(id);
        self.tell_of_queue(id, if paused { Happened::Paused } else { Happened::Resumed });
        Ok(())
    }
}
