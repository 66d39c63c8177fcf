//! The verbs of operators that are about many jobs.

use super::Queue;
use crate::error::Result;
use crate::queue::list::Listing;
use crate::queue::{JobPage, JobQuery};

impl Queue {
    /// A page of jobs: ready and running ones in the order of claims, then those that wait for a
    /// moment, then the dead. A page may be short, or empty, while a `next_cursor` is there.
    ///
    /// A job that does not move from one place to another while the pages are read is on exactly
    /// one of them.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid), naming the field.
    pub async fn jobs(&self, query: JobQuery) -> Result<JobPage> {
        let mut listing = Listing::new(query)?;
        self.call(0, move |state, _| state.list(&mut listing)).await
    }
}
