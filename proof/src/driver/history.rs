//! What happened, in a number that two runs can be compared by, and in words for who must look.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use pulk::Timestamp;

use crate::command::{Command, Told};

/// So many of the last events are told when something is wrong.
const EVENTS_TOLD: usize = 60;

/// A number that stands for all that was added to it, in its order (FNV-1a, eight bytes at once).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Digest(0xcbf2_9ce4_8422_2325)
    }
}

impl Digest {
    /// Adds some bytes, and that they end.
    pub fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut eight = [0; 8];
            eight[..word.len()].copy_from_slice(word);
            self.add_word(u64::from_le_bytes(eight));
        }
        self.add_word(bytes.len() as u64);
    }

    fn add_word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

/// Everything that happened.
#[derive(Debug, Default)]
pub struct History {
    digest: Digest,
    last: VecDeque<String>,
    /// Tell every event at once.
    pub is_told: bool,
    /// How often what happened, by its name.
    pub counts: BTreeMap<String, u64>,
}

impl History {
    /// A call came to this.
    pub fn note(&mut self, now: Timestamp, number: u64, command: &Command, told: Option<&Told>) {
        let outcome = match told {
            None => "lost".to_owned(),
            Some(Ok(_)) => "ok".to_owned(),
            Some(Err(error)) => format!("{:?}", error.kind()),
        };
        let told = format!("{told:?}");
        self.digest.add(told.as_bytes());
        self.count(&format!("{}: {outcome}", command.name()));
        self.keep(|| format!("{now} call {number} {command:?} -> {told}"));
    }

    /// Something else happened.
    pub fn event(&mut self, now: Timestamp, what: &str) {
        self.digest.add(what.as_bytes());
        self.keep(|| format!("{now} {what}"));
    }

    /// Counts something.
    pub fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// Counts some of a thing.
    pub fn add(&mut self, what: &str, how_many: u64) {
        match self.counts.get_mut(what) {
            Some(count) => *count += how_many,
            None => drop(self.counts.insert(what.to_owned(), how_many)),
        }
    }

    fn keep(&mut self, tell: impl FnOnce() -> String) {
        let event = tell();
        if self.is_told {
            println!("{event}");
        }
        if self.last.len() == EVENTS_TOLD {
            self.last.pop_front();
        }
        self.last.push_back(event);
    }

    /// The digest of all events so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The last events.
    #[must_use]
    pub fn story(&self) -> String {
        self.last.iter().map(|event| format!("  {event}\n")).collect()
    }
}
