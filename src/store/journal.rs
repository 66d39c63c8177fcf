//! The journal: commits appended to a file and synced, before they reach their trees.
//!
//! # Layout
//! `DIR/journal.N`, N counting up. Each file is a row of entries:
//! `"pulk" · length of the body u32 · crc32 u32 · body`, little-endian; the checksum covers N, the
//! length and the body. The first entry of a file tells how many bytes the file before it has.
//!
//! Files are written over, not made anew: one whose writes are all in the trees becomes
//! `DIR/journal.spare.N`, and that the next one. A sync of bytes that were there already need not
//! write the file's length. What an older life left behind the last entry has another N in its
//! checksums: no N is used twice, since the highest is in the name of one of these files.
//!
//! # Invariants
//! - J1 An entry is whole and synced before its commit returns; the next one is appended after.
//! - J2 So only the last entry of the last file can be torn, and no answer was given for it.
//! - J3 Files are replayed in the order of N, entries in the order of the file. Entries hold whole
//!   values, so replaying what is in the trees already changes nothing.
//!
//! # Failure handling
//! An entry that can't be read and has a whole one behind it, or that the next file counts as
//! written, is damage and no crash: opening refuses, rather than leaving out what was
//! acknowledged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::codec::{self, JournalBody};
use super::data_dir::sync_dir;
use super::{Tree, VALUE_BYTES_MAX, WriteSet};
use crate::error::{Error, ErrorKind, Result};

/// What every entry begins with.
const MARK: &[u8; 4] = b"pulk";
/// How many bytes behind an entry that can't be read are checked for being whole entries. More
/// than a payload that is made to look like entries may cost at opening.
const LOOK_BEHIND_BYTES: usize = 256 << 20;

/// What the names of files begin with that may be written over.
const SPARE: &str = "journal.spare.";
/// In the place of a tree's number: the length of the file before.
const LENGTH_BEFORE: u8 = u8::MAX;

/// The file that commits are appended to.
#[derive(Debug)]
pub(crate) struct Journal {
    file: File,
    path: PathBuf,
    number: u64,
    bytes: u64,
    /// The length of the file: what is appended up to it takes no new space.
    prepared_bytes: u64,
}

impl Journal {
    /// Begins a file after one of `bytes_before`, in the spare one if there is one; otherwise it
    /// is made with `prepared_bytes`. It is there, by name, when this returns.
    pub(crate) fn begin(
        dir: &Path,
        number: u64,
        bytes_before: u64,
        prepared_bytes: u64,
    ) -> io::Result<Journal> {
        let path = dir.join(format!("journal.{number}"));
        match spares(dir)?.first() {
            Some((_, spare)) => fs::rename(spare, &path)?,
            None => {
                let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
                io::copy(&mut io::repeat(0).take(prepared_bytes), &mut file)?;
                file.sync_all()?;
            }
        }
        sync_dir(dir)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        let prepared_bytes = file.metadata()?.len();
        let mut journal = Journal { file, path, number, bytes: 0, prepared_bytes };
        let length = Bytes::copy_from_slice(&bytes_before.to_be_bytes());
        journal.append_body(&vec![(LENGTH_BEFORE, length, None)])?;
        Ok(journal)
    }

    /// Appends the writes of one commit, and returns when they are durable (J1).
    pub(crate) fn append(&mut self, writes: &WriteSet) -> io::Result<()> {
        let writes = writes.iter();
        let body = writes
            .map(|(tree, key, value)| (tree.number(), Bytes::copy_from_slice(key), value.clone()))
            .collect();
        self.append_body(&body)
    }

    fn append_body(&mut self, body: &JournalBody) -> io::Result<()> {
        let entry = encode(self.number, body);
        self.file.write_all(&entry)?;
        self.file.sync_data()?;
        self.bytes += entry.len() as u64;
        Ok(())
    }

    /// Bytes appended to this file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that can be appended before the file gets longer.
    pub(crate) fn prepared_bytes_left(&self) -> u64 {
        self.prepared_bytes.saturating_sub(self.bytes)
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Takes the name from a file whose writes are in the trees; it may be written over from now on.
/// One spare file is enough: those before it go.
pub(crate) fn give_up(dir: &Path, (number, path): (u64, &Path)) -> io::Result<()> {
    fs::rename(path, dir.join(format!("{SPARE}{number}")))?;
    sync_dir(dir)?;
    for (older, path) in spares(dir)? {
        if older < number {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The number that no file of a directory has had yet.
pub(crate) fn next_number(dir: &Path) -> io::Result<u64> {
    let used = files(dir)?.into_iter().chain(spares(dir)?).map(|(number, _)| number);
    Ok(used.max().unwrap_or(0) + 1)
}

/// The journal files of a directory, oldest first.
pub(crate) fn files(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    numbered(dir, "journal.")
}

fn spares(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    numbered(dir, SPARE)
}

fn numbered(dir: &Path, prefix: &str) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_prefix(prefix).and_then(|n| n.parse().ok()) {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The commits in the journal files of a directory, in their order.
///
/// # Errors
/// [`Storage`](ErrorKind::Storage) when a file can't be read or is damaged.
pub(crate) fn read(files: &[(u64, PathBuf)]) -> Result<Vec<WriteSet>> {
    let mut commits = Vec::new();
    // Newest first: each file knows how long the one before it is.
    let mut length: Option<u64> = None;
    let mut newer: Option<u64> = None;
    for (number, path) in files.iter().rev() {
        let bytes = fs::read(path).map_err(|error| {
            let path = path.display();
            Error::new(ErrorKind::Storage, format!("the journal {path} can't be read: {error}"))
        })?;
        let found = read_file(*number, &bytes);
        let ends_well = match length {
            Some(length) => found.end as u64 == length,
            None => is_torn_end(*number, bytes.get(found.end..).unwrap_or_default()),
        };
        if !ends_well || newer.is_some_and(|newer| newer != number + 1) {
            return Err(damaged(path, found.end));
        }
        // A file without its first entry was cut off while it was begun: it holds no commit, and
        // the one before it is the last.
        if let Some(length_before) = found.length_before {
            (length, newer) = (Some(length_before), Some(*number));
        }
        commits.extend(found.commits.into_iter().rev());
    }
    commits.reverse();
    Ok(commits)
}

fn damaged(path: &Path, at: usize) -> Error {
    Error::new(
        ErrorKind::Storage,
        format!(
            "the journal {} is damaged at byte {at}: acknowledged jobs would be missing; restore \
             the data directory from a copy",
            path.display()
        ),
    )
}

/// What a file holds, up to the first entry that can't be read.
struct Found {
    length_before: Option<u64>,
    commits: Vec<WriteSet>,
    end: usize,
}

fn read_file(number: u64, bytes: &[u8]) -> Found {
    let mut found = Found { length_before: None, commits: Vec::new(), end: 0 };
    while let Some((body, behind)) = decode(number, bytes.get(found.end..).unwrap_or_default()) {
        match (found.length_before, body.as_slice()) {
            (None, [(LENGTH_BEFORE, length, None)]) => {
                let length = <[u8; 8]>::try_from(&**length).map(u64::from_be_bytes);
                found.length_before = length.ok();
            }
            (Some(_), _) => match writes(body) {
                Some(writes) => found.commits.push(writes),
                None => break,
            },
            (None, _) => break,
        }
        found.end = bytes.len() - behind;
    }
    found
}

fn writes(body: JournalBody) -> Option<WriteSet> {
    let mut writes = WriteSet::default();
    for (tree, key, value) in body {
        let tree = Tree::from_number(tree)?;
        match value {
            Some(value) if value.len() > VALUE_BYTES_MAX => return None,
            Some(value) => writes.put(tree, key.into(), value),
            None => writes.remove(tree, key.into()),
        }
    }
    Some(writes)
}

/// True when nothing whole of this file follows: what can't be read was cut off while it was
/// written, or is left from an older life of the file.
fn is_torn_end(number: u64, rest: &[u8]) -> bool {
    let mut left = LOOK_BEHIND_BYTES;
    for at in 1..rest.len() {
        let later = rest.get(at..).unwrap_or_default();
        if later.starts_with(MARK) {
            if decode(number, later).is_some() {
                return false;
            }
            let claimed = later.get(4..8).and_then(|length| length.try_into().ok());
            let claimed = claimed.map_or(0, |length| u32::from_le_bytes(length) as usize);
            left = left.saturating_sub(claimed.min(later.len()));
            if left == 0 {
                break;
            }
        }
    }
    true
}

fn encode(number: u64, body: &JournalBody) -> Vec<u8> {
    entry(number, &codec::encode_journal_body(body))
}

fn entry(number: u64, body: &[u8]) -> Vec<u8> {
    let length = (body.len() as u32).to_le_bytes();
    let sum = checksum(number, length, body).to_le_bytes();
    [&MARK[..], &length, &sum, body].concat()
}

/// The first entry, and how many bytes lie behind it.
fn decode(number: u64, bytes: &[u8]) -> Option<(JournalBody, usize)> {
    let (length, rest) = bytes.strip_prefix(MARK)?.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let (body, behind) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    if checksum(number, *length, body) != u32::from_le_bytes(*sum) {
        return None;
    }
    Some((codec::decode_journal_body(body).ok()?, behind.len()))
}

/// A file with these bodies in its entries, whatever they are.
#[cfg(any(test, fuzzing))]
pub(crate) fn file_of(number: u64, bodies: &[&[u8]]) -> Vec<u8> {
    let length = Bytes::copy_from_slice(&0u64.to_be_bytes());
    let mut file = encode(number, &vec![(LENGTH_BEFORE, length, None)]);
    for body in bodies {
        file.extend(entry(number, body));
    }
    file
}

/// The commits of a file, and where the last whole entry ends.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_entries(number: u64, bytes: &[u8]) -> (Vec<WriteSet>, usize) {
    let found = read_file(number, bytes);
    // What opening asks of the rest.
    is_torn_end(number, bytes.get(found.end..).unwrap_or_default());
    (found.commits, found.end)
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

    const PREPARED_BYTES: u64 = 600;

    fn commit(number: u8) -> WriteSet {
        let mut writes = WriteSet::default();
        writes.put(Tree::Dead, vec![number], Bytes::from(vec![number; 20 + usize::from(number)]));
        writes.remove(Tree::Timers, vec![number, 7]);
        writes
    }

    fn commits(numbers: std::ops::Range<u8>) -> Vec<WriteSet> {
        numbers.map(commit).collect()
    }

    fn append(journal: &mut Journal, numbers: std::ops::Range<u8>) {
        for number in numbers {
            journal.append(&commit(number)).unwrap();
        }
    }

    /// Two files: the first in the spare one of an older life, five commits; the second new,
    /// three commits. Gives the bytes of each that count.
    fn written() -> (tempfile::TempDir, [usize; 2]) {
        let dir = tempfile::tempdir().unwrap();
        let mut old = Journal::begin(dir.path(), 2, 0, PREPARED_BYTES).unwrap();
        append(&mut old, 50..59);
        give_up(dir.path(), (2, old.path())).unwrap();
        assert_eq!(next_number(dir.path()).unwrap(), 3);
        let mut first = Journal::begin(dir.path(), 3, old.bytes(), PREPARED_BYTES).unwrap();
        append(&mut first, 0..5);
        let mut second = Journal::begin(dir.path(), 4, first.bytes(), PREPARED_BYTES).unwrap();
        append(&mut second, 5..8);
        (dir, [first.bytes() as usize, second.bytes() as usize])
    }

    fn read_all(dir: &Path) -> Result<Vec<WriteSet>> {
        read(&files(dir).unwrap())
    }

    fn last_entry() -> usize {
        let body = vec![
            (Tree::Timers.number(), Bytes::from(vec![7, 7]), None),
            (Tree::Dead.number(), Bytes::from(vec![7]), Some(Bytes::from(vec![7; 27]))),
        ];
        encode(4, &body).len()
    }

    #[test]
    fn commits_are_read_back_in_their_order() {
        let (dir, _) = written();
        assert_eq!(read_all(dir.path()).unwrap(), commits(0..8));
        assert_eq!(files(dir.path()).unwrap().len(), 2);
        assert_eq!(read(&[]).unwrap(), []);
    }

    #[test]
    fn a_torn_last_entry_is_left_out_wherever_it_was_cut() {
        let (dir, [_, end]) = written();
        let path = dir.path().join("journal.4");
        let whole = fs::read(&path).unwrap();
        for cut in end - last_entry()..end {
            fs::write(&path, &whole[..cut]).unwrap();
            assert_eq!(read_all(dir.path()).unwrap(), commits(0..7), "cut at {cut}");
            // The file may have its full length, with sectors of it never written.
            let mut zeros = whole.clone();
            zeros[cut..].fill(0);
            if zeros != whole {
                fs::write(&path, &zeros).unwrap();
                assert_eq!(read_all(dir.path()).unwrap(), commits(0..7), "zeros from {cut}");
            }
        }
    }

    #[test]
    fn a_file_that_was_cut_off_while_it_was_begun_holds_nothing() {
        let (dir, _) = written();
        let path = dir.path().join("journal.4");
        for left in [0, 5, 20] {
            let begun = fs::read(&path).unwrap()[..left].to_vec();
            let into = tempfile::tempdir().unwrap();
            fs::copy(dir.path().join("journal.3"), into.path().join("journal.3")).unwrap();
            fs::write(into.path().join("journal.4"), begun).unwrap();
            assert_eq!(read_all(into.path()).unwrap(), commits(0..5), "{left} bytes");
        }
    }

    #[test]
    fn a_flipped_bit_before_the_last_entry_is_damage_and_not_a_crash() {
        let (dir, [first, second]) = written();
        for (name, until) in [("journal.3", first), ("journal.4", second - last_entry())] {
            let path = dir.path().join(name);
            let whole = fs::read(&path).unwrap();
            for at in 0..until {
                let mut bytes = whole.clone();
                bytes[at] ^= 0x10;
                fs::write(&path, &bytes).unwrap();
                let refused = read_all(dir.path()).unwrap_err();
                assert!(refused.to_string().contains("damaged at byte"), "{name} {at}: {refused}");
            }
            fs::write(&path, &whole).unwrap();
        }
        assert_eq!(read_all(dir.path()).unwrap().len(), 8);
    }

    #[test]
    fn a_file_that_is_missing_between_two_is_damage() {
        let (dir, [_, second]) = written();
        let mut third = Journal::begin(dir.path(), 5, second as u64, PREPARED_BYTES).unwrap();
        append(&mut third, 8..9);
        assert_eq!(read_all(dir.path()).unwrap(), commits(0..9));
        fs::remove_file(dir.path().join("journal.4")).unwrap();
        assert!(read_all(dir.path()).is_err());
    }

    #[test]
    fn a_value_that_no_commit_has_is_refused() {
        let value = |bytes| Some(Bytes::from(vec![0; bytes]));
        let body = |bytes| codec::encode_journal_body(&vec![(0, Bytes::new(), value(bytes))]);
        let (longest, longer) = (body(VALUE_BYTES_MAX), body(VALUE_BYTES_MAX + 1));
        let file = file_of(1, &[&longest, &longer]);
        let (found, end) = read_entries(1, &file);
        assert_eq!((found.len(), end), (1, file_of(1, &[&longest]).len()));
    }

    #[test]
    fn what_an_older_life_of_a_file_left_is_never_read() {
        let dir = tempfile::tempdir().unwrap();
        for life in 1..20u8 {
            let number = next_number(dir.path()).unwrap();
            assert_eq!(number, u64::from(life));
            let mut journal = Journal::begin(dir.path(), number, 0, PREPARED_BYTES).unwrap();
            append(&mut journal, life..life + 20 - life % 7);
            assert_eq!(read_all(dir.path()).unwrap(), commits(life..life + 20 - life % 7));
            give_up(dir.path(), (number, journal.path())).unwrap();
            assert_eq!(spares(dir.path()).unwrap().len(), 1);
        }
    }
}
