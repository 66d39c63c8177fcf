//! The journal: commits appended to a file and synced, before they reach their trees.
//!
//! # Layout
//! `DIR/journal.N`, N counting up. Each file is a row of entries:
//! `"pulk" · length of the body u32 · crc32 u32 · body`, little-endian; the checksum covers N, the
//! length and the body. A file is given up (its name removed) once all of it is in the trees.
//!
//! # Invariants
//! - J1 An entry is whole and synced before its commit returns; the next one is appended after.
//! - J2 So only the last entry of the last file can be torn, and no answer was given for it.
//! - J3 Files are replayed in the order of N, entries in the order of the file. Entries hold whole
//!   values, so replaying what is in the trees already changes nothing.
//!
//! # Failure handling
//! An entry that can't be read and has anything but its own torn rest behind it is damage, not a
//! crash: opening refuses, rather than leaving out what was acknowledged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::codec::{self, JOURNAL_BODY_BYTES_MAX, JournalBody};
use super::data_dir::sync_dir;
use super::{Tree, WriteSet};
use crate::error::{Error, ErrorKind, Result};

/// What every entry begins with.
const MARK: &[u8; 4] = b"pulk";
/// Bytes before the body of an entry.
const HEADER_BYTES: usize = 12;
/// How many bytes behind an entry that can't be read are checked for being whole entries. More
/// than a payload that is made to look like entries may cost at opening.
const LOOK_BEHIND_BYTES: usize = 256 << 20;

/// The file that commits are appended to.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    number: u64,
    bytes: u64,
}

impl Journal {
    /// Begins a new file; it is there, by name, when this returns.
    pub(crate) fn create(dir: &Path, number: u64) -> io::Result<Journal> {
        let path = dir.join(format!("journal.{number}"));
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        file.sync_all()?;
        sync_dir(dir)?;
        Ok(Journal { file, path, number, bytes: 0 })
    }

    /// Appends the writes of one commit, and returns when they are durable (J1).
    pub(crate) fn append(&mut self, writes: &WriteSet) -> io::Result<()> {
        let entry = encode(self.number, writes);
        self.file.write_all(&entry)?;
        self.file.sync_data()?;
        self.bytes += entry.len() as u64;
        Ok(())
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The journal files of a directory, oldest first.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_prefix("journal.").and_then(|n| n.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The commits in a file, in their order. `is_last` tells whether its end may be torn (J2).
pub(crate) fn read(path: &Path, number: u64, is_last: bool) -> Result<Vec<WriteSet>> {
    let bytes = fs::read(path).map_err(|error| {
        let path = path.display();
        Error::new(ErrorKind::Storage, format!("the journal {path} can't be read: {error}"))
    })?;
    let mut commits = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        match decode(number, rest) {
            Some((writes, behind)) => {
                commits.push(writes);
                rest = behind;
            }
            None if is_last && is_torn_end(number, rest) => break,
            None => {
                return Err(Error::new(
                    ErrorKind::Storage,
                    format!(
                        "the journal {} is damaged at byte {}: acknowledged jobs would be missing; \
                         restore the data directory from a copy",
                        path.display(),
                        bytes.len() - rest.len()
                    ),
                ));
            }
        }
    }
    Ok(commits)
}

/// True when what can't be read is one entry whose writing was cut off: nothing whole follows it.
fn is_torn_end(number: u64, rest: &[u8]) -> bool {
    if rest.len() > HEADER_BYTES + JOURNAL_BODY_BYTES_MAX as usize {
        return false;
    }
    let mut left = LOOK_BEHIND_BYTES;
    for at in 1..rest.len() {
        let later = rest.get(at..).unwrap_or_default();
        if later.starts_with(MARK) {
            if decode(number, later).is_some() {
                return false;
            }
            left = left.saturating_sub(later.len());
            if left == 0 {
                break;
            }
        }
    }
    true
}

fn encode(number: u64, writes: &WriteSet) -> Vec<u8> {
    let body: JournalBody = writes
        .iter()
        .map(|(tree, key, value)| (tree.number(), Bytes::copy_from_slice(key), value.clone()))
        .collect();
    let body = codec::encode_journal_body(&body);
    let length = (body.len() as u32).to_le_bytes();
    let sum = checksum(number, length, &body).to_le_bytes();
    [&MARK[..], &length, &sum, &body].concat()
}

/// The first entry, and what lies behind it.
fn decode(number: u64, bytes: &[u8]) -> Option<(WriteSet, &[u8])> {
    let (length, rest) = bytes.strip_prefix(MARK)?.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (body, behind) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if checksum(number, *length, body) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut writes = WriteSet::default();
    for (tree, key, value) in codec::decode_journal_body(body).ok()? {
        let tree = Tree::from_number(tree)?;
        match value {
            Some(value) => writes.put(tree, key.into(), value),
            None => writes.remove(tree, key.into()),
        }
    }
    Some((writes, behind))
}

fn checksum(number: u64, length: [u8; 4], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&length);
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(number: u8) -> WriteSet {
        let mut writes = WriteSet::default();
        writes.put(Tree::Dead, vec![number], Bytes::from(vec![number; 20 + usize::from(number)]));
        writes.remove(Tree::Timers, vec![number, 7]);
        writes
    }

    fn written(commits: u8) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let mut journal = Journal::create(dir.path(), 3).unwrap();
        for number in 0..commits {
            journal.append(&commit(number)).unwrap();
        }
        let path = journal.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().len(), journal.bytes());
        (dir, path)
    }

    #[test]
    fn commits_are_read_back_in_their_order() {
        let (dir, path) = written(5);
        let commits = read(&path, 3, false).unwrap();
        assert_eq!(commits, (0..5).map(commit).collect::<Vec<_>>());
        assert_eq!(files(dir.path()).unwrap(), [(3, path)]);
    }

    #[test]
    fn a_torn_last_entry_is_left_out_wherever_it_was_cut() {
        let (_dir, path) = written(3);
        let whole = fs::read(&path).unwrap();
        let last = encode(3, &commit(2)).len();
        for cut in whole.len() - last..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read(&path, 3, true).unwrap(), [commit(0), commit(1)], "cut at {cut}");
            // The file may have its full length, with sectors of it never written.
            let mut zeros = whole.clone();
            zeros[cut..].fill(0);
            fs::write(&path, &zeros).unwrap();
            let left = read(&path, 3, true).unwrap().len();
            assert!(left == 2 || zeros == whole, "zeros from {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_entry_is_damage_and_not_a_crash() {
        let (_dir, path) = written(3);
        let whole = fs::read(&path).unwrap();
        let last = encode(3, &commit(2)).len();
        for at in 0..whole.len() - last {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs::write(&path, &bytes).unwrap();
            let refused = read(&path, 3, true).unwrap_err();
            assert!(refused.to_string().contains("damaged at byte"), "{refused}");
        }
    }

    #[test]
    fn a_torn_entry_in_a_file_before_the_last_is_damage() {
        let (_dir, path) = written(3);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        assert!(read(&path, 3, false).is_err());
        assert_eq!(read(&path, 3, true).unwrap().len(), 2);
    }
}
