//! Looks at sled's files before sled does, and mends single flipped bits.
//!
//! # Overview
//! While opening, sled reads its log from the segment in which its last snapshot was taken. What
//! it can't read there it takes for the torn end of the log, or for a segment that was about to be
//! written anew: it leaves that out, overwrites it, and says nothing. Only we know how far the log
//! was durable (`durable_end.rs`): up to there everything must be whole. So this reads what sled
//! is going to read, mends what a single flipped bit has changed, and refuses the rest, before
//! anything is overwritten.
//!
//! What lies in the log before the snapshot is read by sled when it is needed, and found then by
//! its checksum. [`Extent::Everything`] looks there too: after sled met such a place.
//!
//! # What is told from rot
//! - Messages behind the durable end: torn by a crash, nobody was answered.
//! - A segment that sled had given up and was writing anew at the end, its new header not yet
//!   written: there a message of a segment behind the durable end follows. When the power went
//!   before one was whole, this can't tell, and says so ([`Looked::is_unsure`]): the queue counts
//!   then what there is.
//! - A place for a segment that was never written: zeros.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use super::message::{self, HEADER_BYTES_MAX, SEGMENT_HEADER_BYTES};
use crate::store::flipped_bit;

/// Threads that read the log; each has a segment in memory.
const THREADS_MAX: usize = 4;
/// What sled writes behind a snapshot: a length that it does not use, and a checksum.
const SNAPSHOT_TAIL_BYTES: usize = 12;

/// How much of the log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// What sled reads while it opens: since its last snapshot.
    SinceSnapshot,
    /// All. What is damaged before the snapshot and can't be mended is left to sled, since it may
    /// be dead.
    Everything,
}

/// Why a database can't be opened.
#[derive(Debug)]
pub(super) enum Trouble {
    Io(io::Error),
    /// Where bytes are not what was written.
    Damage(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::Io(error)
    }
}

/// What came of looking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Looked {
    /// Damages that were mended.
    pub(super) mended: u64,
    /// A segment can't be read that sled may have been writing anew when the power went, or that
    /// has rotted: only who knows what must be there can tell.
    pub(super) is_unsure: bool,
}

/// Mends flipped bits in the files of a database that nobody has open.
///
/// # Errors
/// [`Trouble::Damage`] when something acknowledged can't be read any more.
pub(super) fn mend(
    database: &Path,
    segment_bytes: usize,
    durable_end: u64,
    extent: Extent,
) -> Result<Looked, Trouble> {
    let mut mended = u64::from(mend_settings(&database.join("conf"), segment_bytes)?);
    let snapshot = last_snapshot(database)?;
    let mut since = 0;
    if let Some((number, name)) = snapshot {
        mended += u64::from(mend_snapshot(&database.join(name))?);
        since = number - number % segment_bytes as u64;
    }
    let path = database.join("db");
    let file = match OpenOptions::new().read(true).write(true).open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Looked { mended, is_unsure: false });
        }
        file => file?,
    };
    let bytes = file.metadata()?.len();
    let log = Log {
        file,
        path: &path,
        bytes,
        segment_bytes,
        durable_end,
        since,
        mended: AtomicU64::new(0),
        is_unsure: AtomicBool::new(false),
    };
    log.read(extent)?;
    let mended_in_log = log.mended.into_inner();
    if mended_in_log > 0 {
        log.file.sync_data()?;
    }
    Ok(Looked { mended: mended + mended_in_log, is_unsure: log.is_unsure.into_inner() })
}

/// sled's settings hold what we gave it, and nothing else: damaged ones are written anew.
fn mend_settings(path: &Path, segment_bytes: usize) -> Result<bool, Trouble> {
    let text = format!("segment_size: {segment_bytes}\nuse_compression: false\nversion: 0.34\n");
    let sum = crc32fast::hash(text.as_bytes()).to_le_bytes();
    let right = [text.as_bytes(), &sum].concat();
    let found = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found?,
    };
    let is_whole = found
        .split_last_chunk::<4>()
        .is_some_and(|(text, sum)| crc32fast::hash(text).to_le_bytes() == *sum);
    if is_whole {
        // When they are not ours, sled says what it thinks of them.
        return Ok(false);
    }
    write_over(path, &right, "sled's settings")?;
    Ok(true)
}

fn write_over(path: &Path, bytes: &[u8], what: &str) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(path)?;
    file.write_all_at(bytes, 0)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()?;
    tracing::error!(file = %path.display(), "damage in {what} was mended; look to the disk");
    Ok(())
}

/// The snapshot that sled goes on from: the place in the log of which it is, and its name.
fn last_snapshot(database: &Path) -> io::Result<Option<(u64, String)>> {
    let mut last = None;
    for entry in fs::read_dir(database)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.strip_prefix("snap.").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        last = last.max(number.map(|number| (number, name)));
    }
    Ok(last)
}

fn mend_snapshot(path: &Path) -> Result<bool, Trouble> {
    let mut bytes = fs::read(path)?;
    let damage = || Trouble::Damage(format!("its file {} can't be read", path.display()));
    let body = bytes.len().checked_sub(SNAPSHOT_TAIL_BYTES).ok_or_else(damage)?;
    let (covered, tail) = bytes.split_at_mut_checked(body).ok_or_else(damage)?;
    let sum = tail.last_chunk_mut::<4>().ok_or_else(damage)?;
    let (right, found) = (u32::from_le_bytes(*sum), crc32fast::hash(covered));
    if right == found {
        return Ok(false);
    }
    if (right ^ found).is_power_of_two() {
        *sum = found.to_le_bytes();
    } else {
        let bit = flipped_bit::find(right, found, covered.len()).ok_or_else(damage)?;
        flipped_bit::flip(covered, bit);
    }
    write_over(path, &bytes, "sled's snapshot")?;
    Ok(true)
}

/// The file that holds the log.
struct Log<'a> {
    file: File,
    path: &'a Path,
    bytes: u64,
    segment_bytes: usize,
    durable_end: u64,
    /// What begins before this is read by sled when it is needed.
    since: u64,
    mended: AtomicU64,
    is_unsure: AtomicBool,
}

/// A segment: where in the file, and where in the log.
#[derive(Clone, Copy, Debug)]
struct Segment {
    at: u64,
    start: u64,
}

impl Log<'_> {
    fn segment_length(&self) -> u64 {
        self.segment_bytes as u64
    }

    fn read(&self, extent: Extent) -> Result<(), Trouble> {
        let segments = self.segments()?;
        let last_start = self.durable_end - self.durable_end % self.segment_length();
        let is_there = segments.iter().any(|segment| segment.start == last_start);
        if !is_there && self.durable_end > 0 && last_start >= self.since {
            let path = self.path.display();
            return Err(Trouble::Damage(format!("the end of its file {path} is missing")));
        }
        let segments = segments
            .into_iter()
            .filter(|segment| segment.start >= self.since || extent == Extent::Everything);
        // A log of 1.5 GB has ninety of them, and opening waits for this.
        let left = Mutex::new(segments);
        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        thread::scope(|scope| {
            let readers: Vec<_> = (0..threads.min(THREADS_MAX))
                .map(|_| scope.spawn(|| self.read_segments(&left)))
                .collect();
            readers.into_iter().try_for_each(|reader| {
                let read = reader.join();
                read.unwrap_or_else(|_| Err(Trouble::Damage("its reader panicked".to_owned())))
            })
        })
    }

    fn read_segments(&self, left: &Mutex<impl Iterator<Item = Segment>>) -> Result<(), Trouble> {
        let mut buffer = vec![0; self.segment_bytes];
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some(segment) = next() {
            let bytes = usize::try_from(self.bytes - segment.at).unwrap_or(usize::MAX);
            let bytes = buffer.get_mut(..bytes.min(self.segment_bytes)).unwrap_or_default();
            self.file.read_exact_at(bytes, segment.at)?;
            self.read_segment(segment, bytes)?;
        }
        Ok(())
    }

    fn segments(&self) -> Result<Vec<Segment>, Trouble> {
        let mut found = Vec::new();
        let mut at = 0;
        while at + SEGMENT_HEADER_BYTES as u64 <= self.bytes {
            let mut header = [0; SEGMENT_HEADER_BYTES];
            self.file.read_exact_at(&mut header, at)?;
            let mut start = message::segment_start(&header);
            if start.is_none() && header != [0; SEGMENT_HEADER_BYTES] {
                start = self.mend_header(&mut header, at)?;
            }
            found.extend(start.map(|start| Segment { at, start }));
            at += self.segment_length();
        }
        Ok(found)
    }

    fn mend_header(
        &self,
        header: &mut [u8; SEGMENT_HEADER_BYTES],
        at: u64,
    ) -> Result<Option<u64>, Trouble> {
        for bit in 0..SEGMENT_HEADER_BYTES * 8 {
            flipped_bit::flip(header, bit);
            let start = message::segment_start(header);
            if start.is_some() {
                self.write(at, bit, header)?;
            }
            if start.is_some() || *header == [0; SEGMENT_HEADER_BYTES] {
                return Ok(start);
            }
            flipped_bit::flip(header, bit);
        }
        Err(self.damage(at))
    }

    fn read_segment(&self, segment: Segment, bytes: &mut [u8]) -> Result<(), Trouble> {
        let number = segment.start / self.segment_length();
        let mut at = SEGMENT_HEADER_BYTES;
        while at + HEADER_BYTES_MAX <= self.segment_bytes {
            let rest = bytes.get(at..).unwrap_or_default();
            if let Some(message) = message::whole(rest, number) {
                if message.is_cap {
                    break;
                }
                at += message.bytes;
                continue;
            }
            if segment.start + at as u64 > self.durable_end {
                break;
            }
            if let Some(bit) = message::flipped_bit(rest, number) {
                let rest = bytes.get_mut(at..).unwrap_or_default();
                flipped_bit::flip(rest, bit);
                self.write(segment.at + at as u64, bit, rest)?;
            } else if segment.start < self.since {
                let next = (at + 1..bytes.len()).find(|at| {
                    message::whole(bytes.get(*at..).unwrap_or_default(), number).is_some()
                });
                let Some(next) = next else { break };
                at = next;
            } else if self.is_being_written_anew(bytes.get(at..).unwrap_or_default()) {
                break;
            } else if number < self.durable_end / self.segment_length() {
                let (file, byte) = (self.path.display(), segment.at + at as u64);
                tracing::warn!(%file, byte, "a part of the database can't be read");
                self.is_unsure.store(true, Ordering::Relaxed);
                break;
            } else {
                return Err(self.damage(segment.at + at as u64));
            }
        }
        Ok(())
    }

    /// True when a message from behind the durable end lies here.
    fn is_being_written_anew(&self, bytes: &[u8]) -> bool {
        let behind = self.durable_end / self.segment_length() + 1;
        (0..bytes.len()).any(|at| {
            let here = bytes.get(at..).unwrap_or_default();
            [behind, behind + 1].iter().any(|number| message::whole(here, *number).is_some())
        })
    }

    /// Writes the byte of a flipped bit, mended in `bytes`, which begin there in the file.
    fn write(&self, at: u64, bit: usize, bytes: &[u8]) -> io::Result<()> {
        let byte = bit / 8;
        self.file.write_all_at(bytes.get(byte..=byte).unwrap_or_default(), at + byte as u64)?;
        self.mended.fetch_add(1, Ordering::Relaxed);
        let (file, byte) = (self.path.display(), at + byte as u64);
        tracing::error!(%file, byte, "a flipped bit in the database was mended; look to the disk");
        Ok(())
    }

    fn damage(&self, at: u64) -> Trouble {
        Trouble::Damage(format!("its file {} can't be read from byte {at} on", self.path.display()))
    }
}
