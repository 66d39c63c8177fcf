//! What a power cut may leave.
//!
//! # What is certain
//! What a sync covers: of a file its bytes and its length, of a directory its entries, as they were
//! when the sync began, once it has ended. A sync of a file does not make its name durable, nor
//! does one of a directory that of the directory; both are stricter than ext4.
//!
//! # What is not
//! Of all that was done since:
//! - Of each file any subset of the sectors, 512 or 4096 bytes each. A sector that was changed
//!   several times may be as it was after any of the changes, or before. The sector where the
//!   newest write ended may be torn at any byte.
//! - A file's length may be as after any of its changes, or anywhere on the way to a longer one.
//!   Bytes within it that never reached the disk are zeros. What was cut off is not seen again
//!   once the cut is on the disk, nor is what was written behind it after that, before.
//! - Of each directory's changes any first part, each whole: journaling file systems write their
//!   metadata in order, and a rename as one. Two directories, or a name and what the file holds,
//!   don't wait for each other.
//!
//! # What is likely
//! Random bits would hardly ever leave a file whole beside a lost one, which is what real disks
//! do. So each image has a mood, see [`mood`].

mod directory;
mod file;
mod mood;
mod sparse;

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use self::directory::{Directory, EntryChange};
use self::file::{Change, File};
use self::mood::{Mood, Survival};
use crate::Operation;
use crate::chance::{Bytes, Chance};
use crate::history::{Base, History};

/// What a path leads to: the place in [`Disk::inodes`].
type Number = usize;

/// A directory (no bytes) or a file by its path.
type Survivor<'s> = (PathBuf, Option<Cow<'s, [u8]>>);

/// A disk at one moment of a history: what is durable, and what is pending.
pub struct Disk<'a> {
    operations: &'a [Operation],
    done: usize,
    /// The first is the root.
    inodes: Vec<Inode<'a>>,
    /// Syncs under way: what they sync, and when they began.
    syncs: HashMap<u64, (Number, usize)>,
}

enum Inode<'a> {
    File(File<'a>),
    Directory(Directory),
}

impl<'a> Disk<'a> {
    pub(crate) fn new(history: &'a History) -> Disk<'a> {
        let root = Inode::Directory(Directory::default());
        let mut disk = Disk {
            operations: &history.operations,
            done: 0,
            inodes: vec![root],
            syncs: HashMap::new(),
        };
        for (path, bytes) in &history.base.entries {
            disk.add(
                path,
                match bytes {
                    Some(bytes) => Inode::File(File::durable(bytes.clone())),
                    None => Inode::Directory(Directory::default()),
                },
            );
        }
        for inode in &mut disk.inodes {
            if let Inode::Directory(directory) = inode {
                directory.harden(usize::MAX);
            }
        }
        disk
    }

    /// Does the operations up to this many in all; it can't go back.
    ///
    /// # Panics
    /// When an operation does not fit what was done before it.
    pub fn advance(&mut self, cut: usize) {
        let operations = self.operations;
        assert!(self.done <= cut && cut <= operations.len(), "{cut} operations can't be done");
        while self.done < cut {
            self.apply(&operations[self.done]);
            self.done += 1;
        }
    }

    fn apply(&mut self, operation: &'a Operation) {
        match operation {
            Operation::MakeDirectory { path } => {
                self.add(path, Inode::Directory(Directory::default()));
            }
            Operation::Create { path } => self.add(path, Inode::File(File::default())),
            Operation::Remove { path } | Operation::RemoveDirectory { path } => {
                let done = self.done;
                let (parent, name) = self.parent(path);
                parent.change(done, EntryChange::Removed { name });
            }
            Operation::Rename { from, to } => {
                // Two directories that must change at once are nobody's need so far.
                assert_eq!(from.parent(), to.parent(), "a move between directories");
                let done = self.done;
                let (_, to) = self.parent(to);
                let (parent, from) = self.parent(from);
                parent.change(done, EntryChange::Renamed { from, to });
            }
            Operation::Write { path, offset, bytes } => {
                self.change_file(path, Change::Written { offset: *offset, bytes });
            }
            Operation::SetLength { path, length } => {
                self.change_file(path, Change::SetLength(*length));
            }
            Operation::SyncBegan { number, path } => {
                let began = (self.find(path), self.done);
                self.syncs.insert(*number, began);
            }
            Operation::SyncEnded { number } => {
                let (inode, began) =
                    self.syncs.remove(number).expect("a sync ended before it began");
                match &mut self.inodes[inode] {
                    Inode::File(file) => file.harden(began),
                    Inode::Directory(directory) => directory.harden(began),
                }
            }
            Operation::Mark(_) => {}
        }
    }

    fn add(&mut self, path: &Path, inode: Inode<'a>) {
        let number = self.inodes.len();
        self.inodes.push(inode);
        let done = self.done;
        let (parent, name) = self.parent(path);
        parent.change(done, EntryChange::Added { name, inode: number });
    }

    fn change_file(&mut self, path: &Path, change: Change<'a>) {
        let (number, done) = (self.find(path), self.done);
        match &mut self.inodes[number] {
            Inode::File(file) => file.change(done, change),
            Inode::Directory(_) => panic!("{path:?} is a directory, and was written to"),
        }
    }

    fn find(&self, path: &Path) -> Number {
        path.iter().fold(0, |at, name| match &self.inodes[at] {
            Inode::Directory(directory) => directory.find(name).unwrap_or_else(|| {
                panic!("operation {} needs {path:?}, which is not there", self.done)
            }),
            Inode::File(_) => panic!("{path:?} leads through a file"),
        })
    }

    fn parent(&mut self, path: &Path) -> (&mut Directory, OsString) {
        let parent = self.find(path.parent().expect("the root has no name"));
        let name = path.file_name().expect("a path ends with a name").to_owned();
        match &mut self.inodes[parent] {
            Inode::Directory(directory) => (directory, name),
            Inode::File(_) => panic!("{path:?} leads through a file"),
        }
    }

    /// Writes a directory as a power cut at this moment could leave it. `into` must be an empty
    /// directory, or is made.
    ///
    /// # Errors
    /// What writing met.
    pub fn image(&self, chance: &mut dyn Chance, into: &Path) -> io::Result<()> {
        fs::create_dir_all(into)?;
        for (path, bytes) in self.survivors(chance) {
            match bytes {
                Some(bytes) => sparse::write(&into.join(path), &bytes)?,
                None => fs::create_dir(into.join(path))?,
            }
        }
        Ok(())
    }

    /// What is there now, seen by a program.
    pub(crate) fn present(&self) -> Base {
        let (mut survivors, root) = (Vec::new(), (0, Path::new("")));
        let everything = Mood::everything();
        self.survivors_below(root, Some(&everything), &mut Bytes::new(&[]), &mut survivors);
        let survivors = survivors.into_iter();
        let owned = survivors.map(|(path, bytes)| (path, bytes.map(Cow::into_owned)));
        Base { entries: owned.collect() }
    }

    /// What a power cut at this moment leaves: directories (no bytes) and files by their paths,
    /// what contains before what is contained.
    fn survivors(&self, chance: &mut dyn Chance) -> Vec<Survivor<'_>> {
        let mut named = vec![0];
        let mut at = 0;
        while let Some(number) = named.get(at) {
            if let Inode::Directory(directory) = &self.inodes[*number] {
                named.extend(directory.ever_named());
            }
            at += 1;
        }
        let pending = |number: Number| Some((number, self.inodes[number].oldest_pending()?));
        named.sort_unstable();
        named.dedup();
        let (changed, oldest): (Vec<Number>, Vec<usize>) =
            named.into_iter().filter_map(pending).unzip();
        let oldest = oldest.into_iter().min();
        let mood = oldest.map(|oldest| Mood::draw(chance, &changed, oldest..self.done));
        let mut survivors = Vec::new();
        self.survivors_below((0, Path::new("")), mood.as_ref(), chance, &mut survivors);
        survivors
    }

    fn survivors_below<'s>(
        &'s self,
        (number, path): (Number, &Path),
        mood: Option<&Mood>,
        chance: &mut dyn Chance,
        survivors: &mut Vec<Survivor<'s>>,
    ) {
        let inode = &self.inodes[number];
        let (survival, sector_bytes) = match (mood, inode.oldest_pending()) {
            (Some(mood), Some(_)) => (mood.survival(number, chance), mood.sector_bytes),
            _ => (Survival::Nothing, 0),
        };
        match inode {
            Inode::File(file) => {
                let bytes = file.survived(survival, sector_bytes, chance);
                survivors.push((path.to_owned(), Some(bytes)));
            }
            Inode::Directory(directory) => {
                if number != 0 {
                    survivors.push((path.to_owned(), None));
                }
                for (name, inode) in directory.entries(survival, chance) {
                    self.survivors_below((inode, &path.join(name)), mood, chance, survivors);
                }
            }
        }
    }
}

impl Inode<'_> {
    fn oldest_pending(&self) -> Option<usize> {
        match self {
            Inode::File(file) => file.oldest_pending(),
            Inode::Directory(directory) => directory.oldest_pending(),
        }
    }
}

#[cfg(test)]
mod tests;
