//! The volume of a data directory: how much of it is left, and the part that is kept.
//!
//! # Overview
//! While there is plenty, bytes are kept in the file `DIR/reserve`, the ballast, which holds
//! nothing. When the volume gets full, parts of it are given up to whoever has to write: the
//! journal, sled, opening. What sled is about to append is allocated behind the end of its file
//! before it writes: nobody else can take that, and sled meets no error that poisons the store.
//! The ballast is made again once the volume has room.
//!
//! # Invariants
//! - New jobs are taken only while free bytes and ballast come to more than the reserve; so
//!   whoever fills the rest, the ballast is there.
//! - Only one process touches the ballast: whoever holds the lock of the directory.
//!
//! # Failure handling
//! What can't be allocated, given up or measured is no error here: the write that then finds no
//! room fails, and is told of by its own caller.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::Errno;

use super::DiskSpace;
use crate::error::{Error, ErrorKind, Result};

/// The name of the ballast.
const BALLAST: &str = "reserve";
/// What is allocated behind the end of sled's file while the volume is nearly full: a segment,
/// more than any portion that is moved into it was seen to append.
pub(crate) const AHEAD_BYTES: u64 = 16 << 20;
/// With more than this free, nobody fills the volume between two looks at it.
const PLENTY_BYTES: u64 = 256 << 20;
/// What the ballast leaves free when it is made, so that it is not given up at once.
const LEFT_FREE_BYTES: u64 = AHEAD_BYTES + (16 << 20);
/// With less than this, a copy of the database does not go on: the journal needs what there is.
pub(crate) const COPY_BYTES_MIN: u64 = 3 << 20;
/// What a portion of a copy finds free, when there is so much.
const COPY_BYTES: u64 = 12 << 20;
/// Less than this can't be worked with.
const LEAST_BYTES: u64 = 4 << 20;
/// How many bytes of the volume a byte of jobs may take at first: once in the journal, which is
/// there already, and twice to three times in sled, which writes its pages anew as they grow.
const GROWTH_OF_JOBS: u64 = 3;
/// The volume is full when there is room for fewer bytes of jobs than this.
const ROOM_BYTES_FULL: u64 = 1 << 20;
/// It is full no more when there is room for so many; what lies between keeps it from flapping.
const ROOM_BYTES_BACK: u64 = 8 << 20;
/// With less room than this, sled's file is compacted earlier.
const ROOM_BYTES_SHORT: u64 = 32 << 20;

/// How much is to be kept.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reserve {
    /// So many bytes.
    Bytes(u64),
    /// What an earlier node has left there; nothing is added.
    AsFound,
}

/// A volume, seen from a data directory that this process holds.
#[derive(Debug)]
pub(crate) struct Space {
    directory: PathBuf,
    /// Open, to ask the volume.
    handle: File,
    reserve_bytes: u64,
    /// How long the ballast is; locked while it changes.
    ballast_bytes: Mutex<u64>,
    full: AtomicBool,
}

impl Space {
    /// Looks at the volume of a directory, and at the ballast in it; makes nothing yet.
    pub(crate) fn open(directory: &Path, reserve: Reserve) -> io::Result<Space> {
        let found = match fs::metadata(directory.join(BALLAST)) {
            Ok(found) => allocated(&found).min(found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let space = Space {
            directory: directory.to_owned(),
            handle: File::open(directory)?,
            reserve_bytes: match reserve {
                Reserve::Bytes(bytes) => bytes,
                Reserve::AsFound => found,
            },
            ballast_bytes: Mutex::new(found),
            full: AtomicBool::new(false),
        };
        space.give_up(found.saturating_sub(space.reserve_bytes));
        Ok(space)
    }

    /// What there is, while `pending_bytes` of commits are on their way into sled.
    pub(crate) fn now(&self, pending_bytes: u64) -> Option<DiskSpace> {
        let volume = fstatvfs(&self.handle).ok()?;
        let free_bytes = volume.f_bavail.saturating_mul(volume.f_frsize);
        let total_bytes = volume.f_blocks.saturating_mul(volume.f_frsize);
        let room_bytes = self.room_bytes(free_bytes).saturating_sub(pending_bytes);
        let full = match self.full.load(Ordering::Relaxed) {
            true => room_bytes < ROOM_BYTES_BACK,
            false => room_bytes < ROOM_BYTES_FULL,
        };
        if self.full.swap(full, Ordering::Relaxed) != full {
            self.log(full, free_bytes);
        }
        Some(DiskSpace {
            total_bytes,
            free_bytes,
            reserve_bytes: self.reserve_bytes,
            room_bytes: if full { 0 } else { room_bytes },
        })
    }

    fn log(&self, full: bool, free_bytes: u64) {
        let (directory, reserve_bytes) = (self.directory.display(), self.reserve_bytes);
        let kept_bytes = *self.ballast();
        if full {
            tracing::warn!(
                %directory, free_bytes, kept_bytes, reserve_bytes,
                "Disk full: enqueues are refused until there is room; acks and fails go on"
            );
        } else {
            tracing::info!(
                %directory, free_bytes, kept_bytes, reserve_bytes,
                "The disk has room again: enqueues are taken"
            );
        }
    }

    /// Bytes of jobs that fit before the reserve is touched.
    fn room_bytes(&self, free_bytes: u64) -> u64 {
        (free_bytes + *self.ballast()).saturating_sub(self.reserve_bytes) / GROWTH_OF_JOBS
    }

    /// True when the room is so small that space is worth some work.
    pub(crate) fn is_short(&self) -> bool {
        self.free_bytes().is_some_and(|free| self.room_bytes(free) < ROOM_BYTES_SHORT)
    }

    /// True when jobs were refused at the last look.
    pub(crate) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    /// What could be written at once, the ballast given up for it.
    pub(crate) fn at_hand_bytes(&self) -> u64 {
        self.free_bytes().map_or(u64::MAX, |free| free + *self.ballast())
    }

    fn free_bytes(&self) -> Option<u64> {
        let volume = fstatvfs(&self.handle).ok()?;
        Some(volume.f_bavail.saturating_mul(volume.f_frsize))
    }

    // ---- giving up and making again ----

    /// Gives up as much of the ballast as it takes to have `bytes` free.
    pub(crate) fn make_room(&self, bytes: u64) {
        if let Some(free_bytes) = self.free_bytes() {
            self.give_up(bytes.saturating_sub(free_bytes));
        }
    }

    fn give_up(&self, bytes: u64) {
        let mut ballast_bytes = self.ballast();
        if bytes == 0 || *ballast_bytes == 0 {
            return;
        }
        let left_bytes = ballast_bytes.saturating_sub(bytes);
        let shortened = OpenOptions::new()
            .write(true)
            .open(self.directory.join(BALLAST))
            .and_then(|file| file.set_len(left_bytes));
        match shortened {
            Ok(()) => *ballast_bytes = left_bytes,
            Err(error) => tracing::warn!(%error, "a part of the reserve can't be given up"),
        }
    }

    /// Makes the ballast again, as far as the volume has room.
    pub(crate) fn restore(&self) {
        let Some(free_bytes) = self.free_bytes() else { return };
        let mut ballast_bytes = self.ballast();
        let missing_bytes = self.reserve_bytes.saturating_sub(*ballast_bytes);
        let more_bytes = missing_bytes.min(free_bytes.saturating_sub(LEFT_FREE_BYTES));
        if more_bytes == 0 {
            return;
        }
        match lengthen(&self.directory.join(BALLAST), *ballast_bytes, more_bytes) {
            Ok(()) => *ballast_bytes += more_bytes,
            Err(error) => tracing::warn!(%error, "the reserve can't be made"),
        }
    }

    /// True when a part of the ballast has been given up that could be made again.
    pub(crate) fn could_restore(&self, free_bytes: u64) -> bool {
        let missing_bytes = self.reserve_bytes.saturating_sub(*self.ballast());
        missing_bytes > 0 && free_bytes >= missing_bytes + LEFT_FREE_BYTES
    }

    // ---- ahead of sled ----

    /// Sees to it that a commit to sled finds room, on a nearly full volume behind the end of its
    /// own file.
    ///
    /// # Errors
    /// [`Storage`](ErrorKind::Storage) when next to nothing is left.
    pub(crate) fn see_to(&self, file: &File) -> Result<()> {
        let (Some(free_bytes), Ok(found)) = (self.free_bytes(), file.metadata()) else {
            return Ok(());
        };
        let mut ahead_bytes = allocated(&found).saturating_sub(found.len()).min(AHEAD_BYTES);
        if free_bytes < PLENTY_BYTES {
            let wanted_bytes = AHEAD_BYTES.min(ahead_bytes + self.at_hand_bytes());
            self.make_room(wanted_bytes - ahead_bytes);
            // Asked for again even if it is there: a file system may have lent it only.
            match fallocate(file, FallocateFlags::KEEP_SIZE, found.len(), wanted_bytes.max(1)) {
                Ok(()) => ahead_bytes = wanted_bytes,
                // Where it can't be allocated, it is free at least.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(_) => ahead_bytes = as_far_as_possible(file, found.len(), wanted_bytes),
            }
        }
        match ahead_bytes + self.at_hand_bytes() < LEAST_BYTES {
            true => Err(self.too_full(AHEAD_BYTES)),
            false => Ok(()),
        }
    }

    /// Sees to it that a portion of a copy finds room, of what nothing else needs.
    ///
    /// # Errors
    /// [`Storage`](ErrorKind::Storage) when too little is left.
    pub(crate) fn see_to_copy(&self) -> Result<()> {
        if self.at_hand_bytes() < COPY_BYTES_MIN {
            return Err(self.too_full(COPY_BYTES_MIN));
        }
        self.make_room(COPY_BYTES);
        Ok(())
    }

    /// What to say when so many bytes are needed.
    pub(crate) fn too_full(&self, needed_bytes: u64) -> Error {
        Error::new(
            ErrorKind::Storage,
            format!(
                "the volume of {} is full: up to {needed_bytes} bytes are needed to go on, and {} \
                 are left; free some or enlarge the volume, and start again; what was \
                 acknowledged is safe",
                self.directory.display(),
                self.at_hand_bytes()
            ),
        )
    }

    fn ballast(&self) -> std::sync::MutexGuard<'_, u64> {
        self.ballast_bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Allocates less than was wanted: some of what is free is not to be had.
fn as_far_as_possible(file: &File, from: u64, mut bytes: u64) -> u64 {
    while bytes > LEAST_BYTES / 4 {
        bytes /= 2;
        if fallocate(file, FallocateFlags::KEEP_SIZE, from, bytes).is_ok() {
            return bytes;
        }
    }
    0
}

fn allocated(found: &fs::Metadata) -> u64 {
    found.blocks().saturating_mul(512)
}

/// Makes a file longer by bytes that are really there.
fn lengthen(path: &Path, from: u64, bytes: u64) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
    file.set_len(from)?;
    let done = match fallocate(&file, FallocateFlags::empty(), from, bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            use std::io::{Read, Seek, SeekFrom};
            file.seek(SeekFrom::Start(from))?;
            io::copy(&mut io::repeat(0).take(bytes), &mut file)
                .and_then(|_| file.flush())
                .and_then(|()| file.sync_data())
        }
        done => done.map_err(io::Error::from),
    };
    if done.is_err() {
        file.set_len(from)?;
    }
    done
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
mod tests {
    use super::*;

    fn ballast(dir: &Path) -> (u64, u64) {
        let found = fs::metadata(dir.join(BALLAST)).unwrap();
        (found.len(), allocated(&found))
    }

    #[test]
    fn the_ballast_is_made_of_bytes_that_are_there_and_follows_the_setting() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::open(dir.path(), Reserve::Bytes(3 << 20)).unwrap();
        assert!(!dir.path().join(BALLAST).exists());
        space.restore();
        let (length, allocated) = ballast(dir.path());
        assert_eq!(length, 3 << 20);
        assert!(allocated >= length);
        // Given up in part, and made again.
        space.give_up(1 << 20);
        assert_eq!(ballast(dir.path()).0, 2 << 20);
        space.restore();
        assert_eq!(ballast(dir.path()).0, 3 << 20);
        // What is there is not needed while there is room.
        space.make_room(1 << 20);
        assert_eq!(ballast(dir.path()).0, 3 << 20);

        let found = Space::open(dir.path(), Reserve::AsFound).unwrap();
        found.restore();
        assert_eq!(ballast(dir.path()).0, 3 << 20);
        Space::open(dir.path(), Reserve::Bytes(1 << 20)).unwrap();
        assert_eq!(ballast(dir.path()).0, 1 << 20);
    }

    #[test]
    fn a_hole_in_the_ballast_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join(BALLAST)).unwrap().set_len(5 << 20).unwrap();
        let space = Space::open(dir.path(), Reserve::Bytes(5 << 20)).unwrap();
        space.restore();
        assert!(ballast(dir.path()).1 >= 5 << 20);
    }

    #[test]
    fn room_is_what_lies_beyond_the_reserve_and_does_not_flap() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::open(dir.path(), Reserve::Bytes(0)).unwrap();
        let room = |pending| space.now(pending).unwrap().room_bytes;
        let all = room(0);
        assert!(all > 20 << 20, "this test needs some room");
        assert!(room(all - ROOM_BYTES_FULL * 2) > 0);
        assert_eq!(room(all), 0);
        assert_eq!(room(all.saturating_sub(ROOM_BYTES_FULL * 2)), 0, "more must come back");
        assert!(room(0) > 0);

        let kept = Space::open(dir.path(), Reserve::Bytes(u64::MAX)).unwrap();
        assert_eq!(kept.now(0).unwrap().room_bytes, 0);
    }
}
