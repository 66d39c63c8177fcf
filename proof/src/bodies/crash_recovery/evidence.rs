//! What is saved when an image is not as it must be.

use std::cell::RefCell;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};
use std::{fs, panic};

use pulk::store::Tree;
use pulk_proof_disk::chance::{Bytes, Seeded};
use pulk_proof_disk::{Base, History, Operation};

use super::Fates;
use super::contents::Contents;
use super::life::{check, open, scratch};

/// What a crash came from.
pub(super) struct Evidence {
    pub(super) input: Vec<u8>,
    pub(super) history: Arc<History>,
    pub(super) cut: usize,
    /// What the disk's choices come from.
    pub(super) fates: (Vec<u8>, Seeded),
    /// What it may hold.
    pub(super) allowed: Vec<Contents>,
}

thread_local! {
    /// The crash that this thread looks at.
    static KEPT: RefCell<Option<Evidence>> = const { RefCell::new(None) };
}

pub(super) fn keep(evidence: Evidence) {
    KEPT.set(Some(evidence));
}

pub(super) fn forget() {
    KEPT.set(None);
}

/// From now on, a panic of a thread that looks at a crash saves it first. cargo-fuzz ends the
/// process at a panic, so this can't wait until it has unwound.
pub(super) fn save_when_panicking() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let next = panic::take_hook();
        panic::set_hook(Box::new(move |about| {
            if let Some(evidence) = KEPT.take() {
                let place = save(&evidence);
                eprintln!("crash_recovery: image, expectation and recording are in {place:?}");
            }
            next(about);
        }));
    });
}

/// `image/`: the disk; `allowed.0`, `allowed.1`: what it may hold; `recording`: what was done, and
/// where it was cut, for people; `input`: what the fuzzer gave.
fn save(evidence: &Evidence) -> PathBuf {
    let place = tempfile::Builder::new().prefix("crash_recovery.").tempdir().unwrap().keep();
    fs::write(place.join("input"), &evidence.input).unwrap();
    let (bytes, seeded) = &evidence.fates;
    let mut fates = Fates { bytes: Bytes::new(bytes), seeded: seeded.clone() };
    evidence.history.image(evidence.cut, &mut fates, &place.join("image")).unwrap();
    for (number, contents) in evidence.allowed.iter().enumerate() {
        fs::write(place.join(format!("allowed.{number}")), written(contents)).unwrap();
    }
    let mut recording = String::new();
    for (number, operation) in evidence.history.operations.iter().enumerate() {
        if number == evidence.cut {
            recording.push_str("---- here the power failed ----\n");
        }
        let _ = match operation {
            Operation::Write { path, offset, bytes } => {
                writeln!(recording, "Write {path:?} {} at {offset}", bytes.len())
            }
            other => writeln!(recording, "{other:?}"),
        };
    }
    fs::write(place.join("recording"), recording).unwrap();
    place
}

/// Looks at a saved crash once more: a copy of its image must open, and hold what is allowed.
///
/// # Panics
/// When it does not.
pub fn crash_again(saved: &Path) {
    let directory = scratch();
    let base = Base::read(&saved.join("image")).unwrap();
    let image = History { base, operations: Vec::new() };
    image.image(0, &mut Seeded::new(0), directory.path()).unwrap();
    let allowed = ["allowed.0", "allowed.1"].map(|name| fs::read(saved.join(name)));
    let allowed: Vec<_> = allowed.into_iter().flatten().map(|bytes| read(&bytes)).collect();
    let store = open(directory.path(), false);
    check(&*store, &allowed).unwrap_or_else(|wrong| panic!("{}: {wrong}", saved.display()));
}

/// Tree, length and bytes of the key, length and bytes of the value, again and again.
fn written(contents: &Contents) -> Vec<u8> {
    let mut bytes = Vec::new();
    for ((tree, key), value) in &contents.0 {
        bytes.push(tree.number());
        for part in [key.as_slice(), value] {
            bytes.extend((part.len() as u32).to_le_bytes());
            bytes.extend(part);
        }
    }
    bytes
}

fn read(mut bytes: &[u8]) -> Contents {
    fn part<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
        let (length, rest) = bytes.split_first_chunk().unwrap();
        let (part, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
        *bytes = rest;
        part
    }
    let mut contents = Contents::default();
    while let Some((tree, rest)) = bytes.split_first() {
        bytes = rest;
        let key = part(&mut bytes).to_vec();
        let value = part(&mut bytes).to_vec();
        contents.0.insert((Tree::from_number(*tree).unwrap(), key), value.into());
    }
    contents
}
