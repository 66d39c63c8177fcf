//! A directory: the names that are durable, and the changes since.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use super::Number;
use super::mood::Survival;
use crate::chance::Chance;

type Entries = BTreeMap<OsString, Number>;

#[derive(Default)]
pub(super) struct Directory {
    durable: Entries,
    now: Entries,
    /// Each with the number of its operation.
    pending: Vec<(usize, EntryChange)>,
}

/// One change of a directory.
pub(super) enum EntryChange {
    Added { name: OsString, inode: Number },
    Removed { name: OsString },
    Renamed { from: OsString, to: OsString },
}

impl EntryChange {
    fn apply(&self, entries: &mut Entries) {
        match self {
            EntryChange::Added { name, inode } => {
                let before = entries.insert(name.clone(), *inode);
                assert_eq!(before, None, "{name:?} was made, and was there");
            }
            EntryChange::Removed { name } => {
                let before = entries.remove(name);
                assert!(before.is_some(), "{name:?} was removed, and was not there");
            }
            EntryChange::Renamed { from, to } => {
                let inode = entries.remove(from);
                let inode = inode.unwrap_or_else(|| panic!("{from:?} was renamed, not there"));
                entries.insert(to.clone(), inode);
            }
        }
    }
}

impl Directory {
    pub(super) fn find(&self, name: &OsStr) -> Option<Number> {
        self.now.get(name).copied()
    }

    pub(super) fn change(&mut self, operation: usize, change: EntryChange) {
        change.apply(&mut self.now);
        self.pending.push((operation, change));
    }

    /// Makes durable what was done before this operation.
    pub(super) fn harden(&mut self, before: usize) {
        let count = self.pending.partition_point(|(operation, _)| *operation < before);
        for (_, change) in self.pending.drain(..count) {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn oldest_pending(&self) -> Option<usize> {
        self.pending.first().map(|(operation, _)| *operation)
    }

    /// All that has a name here, or had one that may come back.
    pub(super) fn ever_named(&self) -> impl Iterator<Item = Number> {
        let added = self.pending.iter().filter_map(|(_, change)| match change {
            EntryChange::Added { inode, .. } => Some(*inode),
            EntryChange::Removed { .. } | EntryChange::Renamed { .. } => None,
        });
        self.durable.values().copied().chain(added)
    }

    /// The entries that a power cut leaves.
    pub(super) fn entries(&self, survival: Survival, chance: &mut dyn Chance) -> Entries {
        let count = self.pending.len();
        let kept = match survival {
            Survival::Nothing => 0,
            Survival::Everything | Survival::Metadata => count,
            Survival::Eighths(_) | Survival::Since(_) => chance.below(count as u64 + 1) as usize,
            Survival::Before(end) => self.pending.partition_point(|(done, _)| *done < end),
        };
        let mut entries = self.durable.clone();
        for (_, change) in &self.pending[..kept] {
            change.apply(&mut entries);
        }
        entries
    }
}
