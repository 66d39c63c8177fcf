//! A recording, and what was on the disk when it began.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Operation;
use crate::chance::Chance;
use crate::image::Disk;

/// What lies below a directory. All of it is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base {
    /// Directories (no bytes) and files by their paths from there, what contains before what is
    /// contained.
    pub(crate) entries: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Base {
    /// An empty directory.
    #[must_use]
    pub fn empty() -> Base {
        Base::default()
    }

    /// Reads what lies below a directory now.
    ///
    /// # Errors
    /// What reading met.
    pub fn read(directory: &Path) -> io::Result<Base> {
        let mut base = Base::default();
        base.read_below(directory, Path::new(""))?;
        Ok(base)
    }

    /// The bytes of a file.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<&[u8]> {
        let found = self.entries.iter().find(|(entry, _)| entry == path)?;
        found.1.as_deref()
    }

    fn read_below(&mut self, directory: &Path, path: &Path) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory.join(path))? {
            let entry = entry?;
            names.push((entry.file_name(), entry.file_type()?.is_dir()));
        }
        names.sort();
        for (name, is_directory) in names {
            let path = path.join(name);
            if is_directory {
                self.entries.push((path.clone(), None));
                self.read_below(directory, &path)?;
            } else {
                let bytes = fs::read(directory.join(&path))?;
                self.entries.push((path, Some(bytes)));
            }
        }
        Ok(())
    }
}

/// A recording, and what was on the disk when it began.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// What was there.
    pub base: Base,
    /// What was done then.
    pub operations: Vec<Operation>,
}

impl History {
    /// Writes a directory as a power cut could leave it when the first `cut` operations were done.
    /// `into` must be an empty directory, or is made.
    ///
    /// # Errors
    /// What writing met.
    ///
    /// # Panics
    /// When an operation does not fit what was done before it: the recording is wrong then.
    pub fn image(&self, cut: usize, chance: &mut dyn Chance, into: &Path) -> io::Result<()> {
        let mut disk = self.disk();
        disk.advance(cut);
        disk.image(chance, into)
    }

    /// What is there when all of it was done and no power was cut.
    #[must_use]
    pub fn end(&self) -> Base {
        let mut disk = self.disk();
        disk.advance(self.operations.len());
        disk.present()
    }

    /// The disk as it was at the beginning; for many images, it is cheaper to go through the
    /// recording once.
    #[must_use]
    pub fn disk(&self) -> Disk<'_> {
        Disk::new(self)
    }
}
