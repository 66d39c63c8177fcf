//! How far sled's log was durable, by our own account: `DIR/sled/durable`.
//!
//! sled takes the first message of its log that it can't read for the end of what was written,
//! and drops what follows. After a crash that is right; when a bit has rotted it loses jobs. So
//! after each barrier the place that the log had come to is written down, and before sled opens,
//! everything up to there must be whole (`log.rs`).
//!
//! Two places in the file are written in turn, each with a checksum: one of them is always whole.
//! The larger number counts; a log only grows.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// The file in a database's folder.
const NAME: &str = "durable";
/// Where the two places begin: in pages of their own.
const PLACES: [u64; 2] = [0, 4096];
const ENTRY_BYTES: usize = 12;
/// Not zero here: sled could not read something, and all of the log is to be looked at.
const DOUBT_PLACE: u64 = 8192;
/// Not zero here: a part could not be read that may have been dead, and nobody has counted yet.
const UNCOUNTED_PLACE: u64 = 8193;

/// The file.
#[derive(Debug)]
pub(super) struct DurableEnd {
    file: File,
    /// The place to write next: not the one with the larger number.
    next: usize,
    last: u64,
    is_in_doubt: bool,
    is_uncounted: bool,
}

impl DurableEnd {
    /// Makes the file of a new database.
    pub(super) fn create(database: &Path) -> io::Result<DurableEnd> {
        let file = File::create_new(database.join(NAME))?;
        let mut end =
            DurableEnd { file, next: 0, last: 0, is_in_doubt: false, is_uncounted: false };
        end.record(0)?;
        end.record(0)?;
        end.write_doubt(0)?;
        Ok(end)
    }

    /// Opens the file of a database that was there before; `None` when it says nothing.
    pub(super) fn open(database: &Path) -> io::Result<Option<DurableEnd>> {
        let file = match OpenOptions::new().read(true).write(true).open(database.join(NAME)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut found: Option<(u64, usize)> = None;
        for (number, place) in PLACES.into_iter().enumerate() {
            let mut entry = [0; ENTRY_BYTES];
            match file.read_exact_at(&mut entry, place) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => continue,
                read => read?,
            }
            found = found.max(decode(entry).map(|end| (end, number)));
        }
        let is_in_doubt = is_set(&file, DOUBT_PLACE)?;
        let is_uncounted = is_set(&file, UNCOUNTED_PLACE)?;
        let end =
            |(last, number)| DurableEnd { file, next: 1 - number, last, is_in_doubt, is_uncounted };
        Ok(found.map(end))
    }

    /// True when something could not be read.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Remembers that something could not be read.
    pub(super) fn doubt(&mut self) -> io::Result<()> {
        self.is_in_doubt = true;
        self.write_doubt(u8::MAX)
    }

    /// Remembers that all of the log was looked at.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_in_doubt) { self.write_doubt(0) } else { Ok(()) }
    }

    /// True when something may be missing that only a count of everything shows.
    pub(super) fn is_uncounted(&self) -> bool {
        self.is_uncounted
    }

    /// Remembers that, or that it was counted.
    pub(super) fn set_uncounted(&mut self, is_uncounted: bool) -> io::Result<()> {
        self.is_uncounted = is_uncounted;
        let byte = if is_uncounted { u8::MAX } else { 0 };
        self.file.write_all_at(&[byte], UNCOUNTED_PLACE)?;
        self.file.sync_data()
    }

    fn write_doubt(&self, doubt: u8) -> io::Result<()> {
        self.file.write_all_at(&[doubt], DOUBT_PLACE)?;
        self.file.sync_data()
    }

    /// The last number written: everything of the log up to this byte, itself included, was
    /// durable.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Writes a number down; it is durable when this returns.
    pub(super) fn record(&mut self, end: u64) -> io::Result<()> {
        let place = PLACES.get(self.next).copied().unwrap_or_default();
        self.file.write_all_at(&encode(end), place)?;
        self.file.sync_data()?;
        (self.next, self.last) = (1 - self.next, end);
        Ok(())
    }
}

fn is_set(file: &File, place: u64) -> io::Result<bool> {
    let mut byte = [0];
    Ok(file.read_at(&mut byte, place)? == 1 && byte != [0])
}

fn encode(end: u64) -> [u8; ENTRY_BYTES] {
    let mut entry = [0; ENTRY_BYTES];
    let (number, sum) = entry.split_at_mut(8);
    number.copy_from_slice(&end.to_le_bytes());
    sum.copy_from_slice(&crc32fast::hash(number).to_le_bytes());
    entry
}

fn decode(entry: [u8; ENTRY_BYTES]) -> Option<u64> {
    let (number, sum) = entry.split_first_chunk::<8>()?;
    (crc32fast::hash(number).to_le_bytes() == sum).then(|| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_last_number_is_read_back_and_either_place_may_be_damaged() {
        let dir = tempfile::tempdir().unwrap();
        assert!(DurableEnd::open(dir.path()).unwrap().is_none());
        let mut end = DurableEnd::create(dir.path()).unwrap();
        for number in [5, 7, 90] {
            end.record(number).unwrap();
            assert_eq!(DurableEnd::open(dir.path()).unwrap().unwrap().last(), number);
        }
        let whole = fs::read(dir.path().join(NAME)).unwrap();
        let used = PLACES.iter().flat_map(|place| *place..*place + ENTRY_BYTES as u64);
        for bit in used.flat_map(|byte| byte as usize * 8..byte as usize * 8 + 8) {
            let mut flipped = whole.clone();
            crate::store::flipped_bit::flip(&mut flipped, bit);
            fs::write(dir.path().join(NAME), &flipped).unwrap();
            let last = DurableEnd::open(dir.path()).unwrap().unwrap().last();
            assert!([7, 90].contains(&last), "bit {bit}: {last}");
        }
    }

    #[test]
    fn a_new_number_never_takes_the_place_of_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(DurableEnd::create(dir.path()).unwrap());
        for number in 1..10 {
            let mut end = DurableEnd::open(dir.path()).unwrap().unwrap();
            assert_eq!(end.last(), number - 1);
            end.record(number).unwrap();
            // Torn: what was there before counts again.
            let mut bytes = fs::read(dir.path().join(NAME)).unwrap();
            let place = PLACES[1 - end.next] as usize;
            bytes[place] ^= 0xff;
            let torn = tempfile::tempdir().unwrap();
            fs::write(torn.path().join(NAME), &bytes).unwrap();
            assert_eq!(DurableEnd::open(torn.path()).unwrap().unwrap().last(), number - 1);
        }
    }
}
