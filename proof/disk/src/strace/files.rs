//! Which files there are below the directory, and how long they are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Operation;
use crate::history::Base;

pub(super) struct Files {
    /// Lengths; none for a directory.
    known: BTreeMap<PathBuf, Option<u64>>,
}

impl Files {
    pub(super) fn of(base: &Base) -> Files {
        let root = (PathBuf::new(), None);
        let entries = base
            .entries
            .iter()
            .map(|(path, bytes)| (path.clone(), bytes.as_ref().map(|bytes| bytes.len() as u64)));
        Files { known: std::iter::once(root).chain(entries).collect() }
    }

    pub(super) fn contains(&self, path: &Path) -> bool {
        self.known.contains_key(path)
    }

    pub(super) fn add_file(&mut self, path: &Path) {
        self.known.insert(path.to_owned(), Some(0));
    }

    pub(super) fn length(&self, path: &Path) -> Result<u64, String> {
        let length = self.known.get(path).ok_or_else(|| format!("{path:?} is not there"))?;
        length.ok_or_else(|| format!("{path:?} is a directory"))
    }

    pub(super) fn set_length(&mut self, path: &Path, length: u64) -> Result<(), String> {
        self.length(path)?;
        self.known.insert(path.to_owned(), Some(length));
        Ok(())
    }

    pub(super) fn grow(&mut self, path: &Path, length: u64) -> Result<(), String> {
        self.set_length(path, length.max(self.length(path)?))
    }

    pub(super) fn follow(&mut self, operation: &Operation) -> Result<(), String> {
        match operation {
            Operation::MakeDirectory { path } => drop(self.known.insert(path.clone(), None)),
            Operation::Remove { path } | Operation::RemoveDirectory { path } => {
                self.known.remove(path).ok_or_else(|| format!("{path:?} is not there"))?;
            }
            Operation::Rename { from, to } => {
                let moved: Vec<PathBuf> =
                    self.known.keys().filter(|path| path.starts_with(from)).cloned().collect();
                for path in moved {
                    let length = self.known.remove(&path).flatten();
                    let behind = path.strip_prefix(from).map_err(|error| error.to_string())?;
                    let behind = behind.iter();
                    self.known.insert(to.iter().chain(behind).collect(), length);
                }
            }
            _ => {}
        }
        Ok(())
    }
}
