//! A database in whose log a part can't be read.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;

use bytes::Bytes;

use super::*;
use crate::store::sled::{Limits, SledStore};
use crate::store::space::{Reserve, Space};
use crate::store::{Store, WriteSet};

const SEGMENT_BYTES: usize = 64 << 10;

fn open_store(dir: &Path) -> Result<SledStore> {
    let data_dir = Arc::new(DataDir::open(dir).unwrap());
    let space = Space::open(dir, Reserve::AsFound).unwrap();
    SledStore::open_in(&data_dir, Arc::new(space), Limits::default(), SEGMENT_BYTES)
}

/// What a killed process leaves of a log of some segments, the older ones mostly dead.
fn killed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = open_store(dir.path()).unwrap();
    for commit in 0..100_u32 {
        let mut writes = WriteSet::default();
        for number in 0..30 {
            let key = ((commit * 30 + number) % 900).to_be_bytes().to_vec();
            writes.put(Tree::Dead, key, Bytes::from(vec![commit as u8; 200]));
        }
        store.commit_all(&writes).unwrap();
    }
    let killed = copy_of(dir.path());
    store.close().unwrap();
    killed
}

fn copy_of(dir: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("sled")).unwrap();
    for entry in fs::read_dir(dir.join("sled")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), copy.path().join("sled").join(entry.file_name())).unwrap();
        }
    }
    copy
}

fn segments(dir: &Path) -> u64 {
    fs::metadata(dir.join("sled/db")).unwrap().len() / SEGMENT_BYTES as u64
}

/// Writes over a part of the segment with this number, as one that is written anew begins.
fn write_over(dir: &Path, segment: u64) {
    let file = OpenOptions::new().write(true).open(dir.join("sled/db")).unwrap();
    let at = segment * SEGMENT_BYTES as u64 + 4096;
    file.write_all_at(&[0x55; 512], at).unwrap();
}

#[test]
fn a_part_that_can_not_be_read_is_refused_or_asks_for_a_count_until_there_was_one() {
    let killed = killed();
    assert!(segments(killed.path()) > 6, "only {} segments", segments(killed.path()));
    let mut asked = 0;
    for segment in 0..segments(killed.path()) {
        let dir = copy_of(killed.path());
        write_over(dir.path(), segment);
        let store = match open_store(dir.path()) {
            Ok(store) => store,
            Err(refused) => {
                assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
                continue;
            }
        };
        assert!(store.wants_count(), "segment {segment} was left out silently");
        store.close().unwrap();
        let store = open_store(dir.path()).unwrap();
        assert!(store.wants_count(), "segment {segment} was forgotten");
        store.counted().unwrap();
        store.close().unwrap();
        assert!(!open_store(dir.path()).unwrap().wants_count());
        asked += 1;
    }
    assert!(asked > 0, "every segment was refused");
}

#[test]
fn what_is_whole_asks_for_none() {
    let killed = killed();
    assert!(!open_store(killed.path()).unwrap().wants_count());
}
