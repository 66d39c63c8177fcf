//! A recording has all that changed the files: done again, it gives the same files.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test ends at the first wrong")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use pulk_proof_disk::{Operation, Recording};

/// Files with their bytes; directories without.
type Tree = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// The files of a directory, as they are.
fn found(directory: &Path) -> Tree {
    fn walk(root: &Path, directory: &Path, tree: &mut Tree) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_owned();
            if path.is_dir() {
                tree.insert(name, None);
                walk(root, &path, tree);
            } else {
                tree.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    let mut tree = Tree::new();
    walk(directory, directory, &mut tree);
    tree
}

/// Does the operations again. Whatever they say of a file that is not there, or is there when it
/// is made, is a mistake of the recording.
fn replay(operations: &[Operation]) -> Tree {
    let mut tree = Tree::new();
    for operation in operations {
        match operation.clone() {
            Operation::MakeDirectory { path } => assert!(tree.insert(path, None).is_none()),
            Operation::RemoveDirectory { path } => assert_eq!(tree.remove(&path), Some(None)),
            Operation::Create { path } => assert!(tree.insert(path, Some(vec![])).is_none()),
            Operation::Write { path, offset, bytes } => {
                let file = file(&mut tree, &path);
                let (from, until) = (offset as usize, offset as usize + bytes.len());
                file.resize(file.len().max(until), 0);
                file[from..until].copy_from_slice(&bytes);
            }
            Operation::SetLength { path, length } => {
                file(&mut tree, &path).resize(length as usize, 0);
            }
            Operation::Rename { from, to } => rename(&mut tree, &from, &to),
            Operation::Remove { path } => assert!(tree.remove(&path).unwrap().is_some()),
            Operation::SyncBegan { path, .. } => {
                assert!(path.as_os_str().is_empty() || tree.contains_key(&path), "{path:?}");
            }
            Operation::SyncEnded { .. } | Operation::Mark(_) => {}
        }
    }
    tree
}

fn file<'a>(tree: &'a mut Tree, path: &Path) -> &'a mut Vec<u8> {
    let file = tree.get_mut(path).unwrap_or_else(|| panic!("no {path:?}"));
    file.as_mut().unwrap()
}

fn rename(tree: &mut Tree, from: &Path, to: &Path) {
    let moved: Vec<PathBuf> = tree.keys().filter(|path| path.starts_with(from)).cloned().collect();
    assert!(!moved.is_empty(), "no {from:?}");
    for path in moved {
        let behind = path.strip_prefix(from).unwrap();
        let name = if behind.as_os_str().is_empty() { to.to_owned() } else { to.join(behind) };
        let contents = tree.remove(&path).unwrap();
        tree.insert(name, contents);
    }
}

fn syncs(operations: &[Operation]) -> (usize, usize) {
    let count = |wanted: fn(&Operation) -> bool| operations.iter().filter(|it| wanted(it)).count();
    let began = count(|it| matches!(it, Operation::SyncBegan { .. }));
    (began, count(|it| matches!(it, Operation::SyncEnded { .. })))
}

#[test]
fn a_session_of_std_is_recorded_whole() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::start(dir.path()).unwrap();
    session(dir.path()).unwrap();
    recording.mark(7);
    assert_eq!(recording.operations().last(), Some(&Operation::Mark(7)));
    let operations = recording.stop();
    fs::write(dir.path().join("later"), "not recorded").unwrap();
    fs::remove_file(dir.path().join("later")).unwrap();

    let found = found(dir.path());
    assert_eq!(replay(&operations), found);
    let names: Vec<&str> = found.keys().map(|path| path.to_str().unwrap()).collect();
    assert_eq!(names, ["copy", "deep", "deep/b", "deep/d", "streamed"]);
    assert_eq!(syncs(&operations), (3, 3), "{operations:#?}");
}

/// Everything that std does with files, so that each kind of call leaves its mark.
fn session(dir: &Path) -> io::Result<()> {
    fs::write(dir.join("a"), "first")?;
    fs::write(dir.join("a"), "second, longer")?;
    fs::create_dir_all(dir.join("deep/er/still"))?;
    fs::remove_dir(dir.join("deep/er/still"))?;
    fs::rename(dir.join("a"), dir.join("deep/er/b"))?;
    fs::rename(dir.join("deep/er/b"), dir.join("deep/b"))?;
    fs::remove_dir_all(dir.join("deep/er"))?;

    let mut appended = OpenOptions::new().append(true).open(dir.join("deep/b"))?;
    appended.write_all(b", appended")?;
    let pieces = [IoSlice::new(b" one"), IoSlice::new(b""), IoSlice::new(b" two")];
    assert_eq!(appended.write_vectored(&pieces)?, 8);
    // Linux appends all the same.
    appended.write_all_at(b" three", 0)?;
    appended.sync_data()?;

    let mut placed = File::create(dir.join("deep/c"))?;
    placed.set_len(10_000)?;
    placed.write_all_at(&[1; 100], 9_950)?;
    placed.seek(SeekFrom::Start(50))?;
    placed.write_all(&[2; 60])?;
    placed.set_len(9_000)?;
    // Another name while it is open, and a directory of another name.
    fs::create_dir(dir.join("early"))?;
    fs::rename(dir.join("deep/c"), dir.join("early/c"))?;
    fs::rename(dir.join("early"), dir.join("late"))?;
    placed.write_all(&[3; 60])?;
    fs::rename(dir.join("late/c"), dir.join("deep/d"))?;
    placed.sync_all()?;
    fs::remove_dir(dir.join("late"))?;

    // A file that has no name any more.
    let mut gone = File::create(dir.join("gone"))?;
    fs::remove_file(dir.join("gone"))?;
    gone.write_all(b"nobody sees this")?;
    gone.sync_all()?;

    fs::copy(dir.join("deep/d"), dir.join("copy"))?;
    let mut streamed = File::create_new(dir.join("streamed"))?;
    io::copy(&mut File::open(dir.join("deep/b"))?.take(20), &mut streamed)?;
    assert_eq!(fs::hard_link(dir.join("copy"), dir.join("link")).unwrap_err().kind(), DENIED);
    File::open(dir)?.sync_all()
}

const DENIED: io::ErrorKind = io::ErrorKind::PermissionDenied;

#[test]
fn a_database_of_sled_is_recorded_whole_by_all_its_threads() {
    let dir = tempfile::tempdir().unwrap();
    let recording = Recording::start(dir.path()).unwrap();
    for round in 0..2u32 {
        let config = sled::Config::new().path(dir.path().join("sled")).cache_capacity(1 << 20);
        let sled = config.flush_every_ms(Some(1)).open().unwrap();
        std::thread::scope(|scope| {
            for worker in 0..4u32 {
                let tree = sled.open_tree([worker as u8]).unwrap();
                scope.spawn(move || {
                    for number in 0..400u32 {
                        let key = (number * 4 + worker).to_be_bytes();
                        let size = 10 + (number as usize * 37) % 9_000;
                        tree.insert(key, vec![round as u8; size]).unwrap();
                        if number % 3 == 0 {
                            tree.remove(number.to_be_bytes()).unwrap();
                        }
                        if number % 50 == 0 {
                            tree.flush().unwrap();
                        }
                    }
                });
            }
        });
        sled.insert("blob", vec![round as u8; 3 << 20]).unwrap();
        sled.flush().unwrap();
        drop(sled);
        // One of sled's threads may hold the file, and its lock, for a moment longer.
        File::open(dir.path().join("sled/db")).unwrap().lock().unwrap();
    }
    let operations = recording.stop();
    let (replayed, found) = (replay(&operations), found(dir.path()));
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&replayed), names(&found));
    assert!(replayed == found, "the bytes of a file differ");
    assert!(found.len() > 4, "{:?}", names(&found));
    let (began, ended) = syncs(&operations);
    assert!(ended > 10 && began == ended, "{began} syncs, {ended} ended");
}

#[test]
fn recordings_see_their_own_directory_and_no_other() {
    let outer = tempfile::tempdir().unwrap();
    fs::create_dir(outer.path().join("inner")).unwrap();
    fs::create_dir(outer.path().join("inner-not")).unwrap();
    let all = Recording::start(outer.path()).unwrap();
    let inner = Recording::start(&outer.path().join("inner")).unwrap();
    fs::write(outer.path().join("inner/a"), "a").unwrap();
    fs::write(outer.path().join("inner-not/b"), "b").unwrap();
    let over_the_border =
        fs::rename(outer.path().join("inner-not/b"), outer.path().join("inner/b"));
    assert_eq!(over_the_border.unwrap_err().kind(), io::ErrorKind::CrossesDevices);
    drop(inner.stop());
    fs::rename(outer.path().join("inner-not/b"), outer.path().join("inner/b")).unwrap();

    let inner = Recording::start(&outer.path().join("inner")).unwrap();
    fs::write(outer.path().join("inner/b"), "c").unwrap();
    let (path, bytes) = (PathBuf::from("b"), b"c".to_vec());
    let expected = [
        Operation::SetLength { path: path.clone(), length: 0 },
        Operation::Write { path, offset: 0, bytes },
    ];
    assert_eq!(inner.stop(), expected);
    let paths: Vec<PathBuf> = all.stop().iter().filter_map(created).collect();
    assert_eq!(paths, [PathBuf::from("inner/a"), PathBuf::from("inner-not/b")]);
}

fn created(operation: &Operation) -> Option<PathBuf> {
    match operation {
        Operation::Create { path } => Some(path.clone()),
        _ => None,
    }
}
