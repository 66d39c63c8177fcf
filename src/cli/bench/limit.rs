//! The limit of the disk: the same bytes, appended to a file and synced in the same groups. Nothing
//! that is on the disk before it answers can be faster.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::process;

use tokio::time::Instant;

/// Appends so many bytes to a new file in the directory, in so many groups of one size, each synced
/// before the next. Gives how long it took, in seconds.
///
/// # Errors
/// When the file can't be made or written; it is removed again in any case.
pub(super) fn append_and_sync(directory: &Path, bytes: u64, groups: u64) -> io::Result<f64> {
    let path = directory.join(format!("pulk-bench-limit-{}", process::id()));
    let mut file = OpenOptions::new().append(true).create_new(true).open(&path)?;
    let groups = groups.max(1);
    let largest = usize::try_from(bytes.div_ceil(groups)).unwrap_or(usize::MAX);
    let text = vec![b'x'; largest];
    let started = Instant::now();
    let appended = sizes(bytes, groups).try_for_each(|size| {
        file.write_all(text.get(..size).unwrap_or_default())?;
        file.sync_data()
    });
    let seconds = started.elapsed().as_secs_f64();
    drop(file);
    fs::remove_file(&path)?;
    appended.map(|()| seconds)
}

/// The sizes of the groups: together all bytes, none more than one byte larger than another.
fn sizes(bytes: u64, groups: u64) -> impl Iterator<Item = usize> {
    let (size, larger) = (bytes / groups, bytes % groups);
    let sizes = (0..groups).map(move |number| size + u64::from(number < larger));
    sizes.map(|size| usize::try_from(size).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_groups_are_all_bytes() {
        assert_eq!(sizes(10, 3).collect::<Vec<_>>(), [4, 3, 3]);
        assert_eq!(sizes(2, 4).collect::<Vec<_>>(), [1, 1, 0, 0]);
    }

    #[test]
    fn the_file_is_gone_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        assert!(append_and_sync(directory.path(), 1_000, 3).unwrap() > 0.0);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(append_and_sync(&directory.path().join("nowhere"), 1, 1).is_err());
    }
}
