//! The journal: commits appended to a file and synced, before they reach their trees.
//!
//! # Layout
//! `DIR/journal.N`, N counting up. Each file is a row of entries:
//! `"pulk" · length of the body u32 · N u64 · crc32 u32 · body`, little-endian; the checksum
//! covers the length, N and the body. The first entry of a file tells how long the one before is.
//!
//! Files are written over, not made anew: one whose writes are all in the trees becomes
//! `DIR/journal.spare.N`, and that the next one. A sync of bytes that were there already need not
//! write the file's length. What an older life left behind the last entry has another N: no N is
//! used twice, since the highest is in the name of one of these files.
//!
//! # Invariants
//! - J1 An entry is whole and synced before its commit returns; the next one is appended after.
//! - J2 So only the last entry of the last file can be torn, and no answer was given for it.
//! - J3 Files are replayed in the order of N, entries in the order of the file. Entries hold whole
//!   values, so replaying what is in the trees already changes nothing.
//! - J4 Nothing is replayed that is not synced: the last entry may be whole and only in the page
//!   cache when its process was killed.
//!
//! # Failure handling
//! An entry in which one bit was flipped is mended, be it the last one: its checksum tells which
//! bit, and a torn write is not like that. The records in it have checksums of their own, which
//! must confirm it. Any other entry that can't be read and has a whole one behind it, or that the
//! next file counts as written, is damage and no crash: opening refuses, rather than leaving out
//! what was acknowledged.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::codec::{self, JournalBody};
use super::data_dir::sync_dir;
use super::{Tree, VALUE_BYTES_MAX, WriteSet, flipped_bit, key};
use crate::error::{Error, ErrorKind, Result};

/// What every entry begins with.
const MARK: &[u8; 4] = b"pulk";
/// Bytes before the body of an entry.
const HEADER_BYTES: usize = 20;
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

/// Makes durable what a process that was killed had written and not yet synced. What is read is
/// built upon, portion by portion: a power cut must not take a part of it back.
pub(crate) fn sync(files: &[(u64, PathBuf)]) -> io::Result<()> {
    files.iter().try_for_each(|(_, path)| File::open(path)?.sync_data())
}

/// What journal files hold.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Commits, in their order.
    pub(crate) commits: Vec<WriteSet>,
    /// Flipped bits that were mended.
    pub(crate) mended: u64,
}

/// What the journal files of a directory hold.
///
/// # Errors
/// [`Storage`](ErrorKind::Storage) when a file can't be read or is damaged.
pub(crate) fn read(files: &[(u64, PathBuf)]) -> Result<Recovered> {
    let mut recovered = Recovered::default();
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
        recovered.commits.extend(found.commits.into_iter().rev());
        recovered.mended += found.mended;
    }
    recovered.commits.reverse();
    Ok(recovered)
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
    mended: u64,
}

fn read_file(number: u64, bytes: &[u8]) -> Found {
    let mut found = Found { length_before: None, commits: Vec::new(), end: 0, mended: 0 };
    loop {
        let rest = bytes.get(found.end..).unwrap_or_default();
        let whole = decode(number, rest);
        let is_whole = whole.is_some();
        let Some((body, behind)) = whole.or_else(|| mend(number, rest)) else { break };
        if !is_whole {
            let byte = found.end;
            tracing::error!(journal = number, byte, "a flipped bit was mended; look to the disk");
            found.mended += 1;
        }
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
    [&MARK[..], &length, &number.to_le_bytes(), &sum, body].concat()
}

/// An entry as it lies there.
struct Raw<'a> {
    length: [u8; 4],
    number: u64,
    sum: u32,
    body: &'a [u8],
    behind: usize,
}

impl Raw<'_> {
    fn read(bytes: &[u8]) -> Option<Raw<'_>> {
        let (length, rest) = bytes.strip_prefix(MARK)?.split_first_chunk::<4>()?;
        let (number, rest) = rest.split_first_chunk::<8>()?;
        let (sum, rest) = rest.split_first_chunk::<4>()?;
        let (body, behind) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let (number, sum) = (u64::from_le_bytes(*number), u32::from_le_bytes(*sum));
        Some(Raw { length: *length, number, sum, body, behind: behind.len() })
    }

    fn checksum(&self) -> u32 {
        checksum(self.number, self.length, self.body)
    }
}

/// The first entry, and how many bytes lie behind it.
fn decode(number: u64, bytes: &[u8]) -> Option<(JournalBody, usize)> {
    let raw = Raw::read(bytes).filter(|raw| raw.number == number)?;
    if raw.checksum() != raw.sum {
        return None;
    }
    Some((codec::decode_journal_body(raw.body).ok()?, raw.behind))
}

/// The same when a bit of the entry was flipped.
fn mend(number: u64, bytes: &[u8]) -> Option<(JournalBody, usize)> {
    let try_bit = |bit: usize| {
        let mut entry = bytes.get(..entry_bytes(bytes, bit)?)?.to_vec();
        flipped_bit::flip(&mut entry, bit);
        let (body, _) = decode(number, &entry)?;
        is_confirmed(&body).then_some((body, bytes.len() - entry.len()))
    };
    let in_body = Raw::read(bytes).filter(|raw| raw.number == number).and_then(|raw| {
        let covered = raw.body.len();
        let bit = flipped_bit::find(raw.sum, raw.checksum(), covered)?;
        try_bit(HEADER_BYTES * 8 + bit)
    });
    in_body.or_else(|| (0..HEADER_BYTES * 8).find_map(try_bit))
}

/// How long the entry at the beginning is once this bit is flipped.
fn entry_bytes(bytes: &[u8], bit: usize) -> Option<usize> {
    let mut header = bytes.first_chunk::<HEADER_BYTES>().copied()?;
    flipped_bit::flip(&mut header, bit);
    let (_, length) = header.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length.first_chunk::<4>()?);
    HEADER_BYTES.checked_add(length as usize)
}

/// True when all records in a mended entry say that they are whole.
fn is_confirmed(body: &JournalBody) -> bool {
    body.iter().all(|(tree, key, value)| match (Tree::from_number(*tree), value) {
        // Values without a checksum of their own.
        (Some(Tree::Damaged | Tree::Expiry) | None, _) | (_, None) => true,
        (Some(Tree::Meta), Some(_)) if **key == *key::LIVE_BYTES => true,
        (Some(_), Some(value)) => codec::is_whole(value),
    })
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
    hasher.update(&length);
    hasher.update(&number.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests;
