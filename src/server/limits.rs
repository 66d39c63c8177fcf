//! How many connections a node keeps open, and how long it waits for each of them.

use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::error::{Error, ErrorKind, Result};

/// Files that a node may have open beside its connections: its store's, its log's, its own
/// sockets. A store that can't open a file has failed, so this is more than it needs.
const OTHER_FILES: u64 = 256;

/// How many connections a node keeps open, and how long it waits for each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// The most connections at a time, 1 to 1,000,000. One more takes the place of the one that
    /// has been idle longest, or is refused.
    pub max_connections: usize,
    /// How long a request's head, its body, and the client's taking of the answer may each take,
    /// in milliseconds, 1 to 600,000.
    pub read_timeout_ms: u64,
    /// How long a connection may be without a request, in milliseconds, 1 to 86,400,000.
    pub idle_timeout_ms: u64,
}

impl ConnectionLimits {
    /// The most that `max_connections` may be.
    pub const CONNECTIONS_MAX: usize = 1_000_000;
    /// The most that `read_timeout_ms` may be: 10 minutes.
    pub const READ_TIMEOUT_MS_MAX: u64 = 600_000;
    /// The most that `idle_timeout_ms` may be: a day.
    pub const IDLE_TIMEOUT_MS_MAX: u64 = 86_400_000;

    /// Checks that the values make sense.
    ///
    /// # Errors
    /// [`Configuration`](ErrorKind::Configuration), naming the value.
    pub fn validate(&self) -> Result<()> {
        for (name, value, most) in [
            ("max_connections", self.max_connections as u64, Self::CONNECTIONS_MAX as u64),
            ("read_timeout_ms", self.read_timeout_ms, Self::READ_TIMEOUT_MS_MAX),
            ("idle_timeout_ms", self.idle_timeout_ms, Self::IDLE_TIMEOUT_MS_MAX),
        ] {
            if !(1..=most).contains(&value) {
                let message = format!("{name}: {value} is out of range; use 1 to {most}");
                return Err(Error::new(ErrorKind::Configuration, message));
            }
        }
        Ok(())
    }

    pub(super) fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    pub(super) fn idle_timeout(&self) -> Duration {
        Duration::from_millis(self.idle_timeout_ms)
    }

    /// Lets the process open files for so many connections, beside `others` for sockets that are
    /// none of them. Where the system does not allow it, fewer connections are left, and a
    /// warning says so: a file that can't be opened would cost the store, not one client.
    pub(super) fn fitted(mut self, others: usize) -> Self {
        let others = OTHER_FILES + others as u64;
        let (soft, hard) = {
            let found = getrlimit(Resource::Nofile);
            (found.current.unwrap_or(u64::MAX), found.maximum.unwrap_or(u64::MAX))
        };
        let wanted = self.max_connections as u64 + others;
        let mut files = soft;
        if wanted > soft && soft < hard {
            let new = Rlimit { current: Some(wanted.min(hard)), maximum: Some(hard) };
            let new = if hard == u64::MAX { Rlimit { maximum: None, ..new } } else { new };
            match setrlimit(Resource::Nofile, new) {
                Ok(()) => files = wanted.min(hard),
                Err(reason) => warn!(%reason, "The limit of open files can't be raised"),
            }
        }
        if files < wanted {
            let (asked, room) = (self.max_connections, room(files, others));
            self.max_connections = usize::try_from(room).unwrap_or(asked);
            warn!(
                "The process may open {files} files: only {room} of {asked} connections fit; \
                 raise the hard limit (ulimit -Hn, LimitNOFILE) to {wanted}, or set \
                 PULK_MAX_CONNECTIONS to {room}"
            );
        }
        self
    }
}

/// The connections that so many files leave room for. One at least, come what may.
fn room(files: u64, others: u64) -> u64 {
    files.saturating_sub(others).max(1)
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits { max_connections: 4096, read_timeout_ms: 30_000, idle_timeout_ms: 75_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_out_of_range_is_named() {
        let limits = ConnectionLimits::default();
        assert_eq!(limits.validate(), Ok(()));
        for (wrong, name) in [
            (ConnectionLimits { max_connections: 0, ..limits }, "max_connections: 0 "),
            (ConnectionLimits { max_connections: 1_000_001, ..limits }, "max_connections: 1000001"),
            (ConnectionLimits { read_timeout_ms: 0, ..limits }, "read_timeout_ms: 0 "),
            (ConnectionLimits { read_timeout_ms: 600_001, ..limits }, "read_timeout_ms: 600001 "),
            (ConnectionLimits { idle_timeout_ms: 0, ..limits }, "idle_timeout_ms: 0 "),
            (ConnectionLimits { idle_timeout_ms: 86_400_001, ..limits }, "idle_timeout_ms: 8640"),
        ] {
            let error = wrong.validate().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Configuration);
            assert!(error.to_string().starts_with(name), "{error}");
        }
    }

    #[test]
    fn the_store_has_its_files_first() {
        assert_eq!(room(1_024, 320), 704);
        assert_eq!(room(320, 320), 1);
        assert_eq!(room(20, 320), 1);
    }
}
