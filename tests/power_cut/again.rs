//! The power goes again: while a node comes up on what the first cut has left, and after that.

use std::fs;
use std::path::Path;

use pulk_proof_disk::Chance;
use pulk_proof_disk::chance::Seeded;

use crate::images::{all_hold, draw};
use crate::recording::Recording;

/// The moment of the first cut, in the folder of the second recording.
const CUT: &str = "cut";

/// Draws images, has each opened once under strace, and checks images of that: `open` works on
/// the directory of a recording until it is done with it; `check` gets the moment of the first
/// cut, the second recording, an image of it and the moment of that cut.
pub fn all_hold_again(
    first: &Recording,
    (seed, generations, count): (u64, u64, u64),
    open: impl Fn(&mut Recording),
    check: impl Fn(usize, &Recording, &Path, usize) + Sync,
) {
    let mut chance = Seeded::new(!seed);
    for generation in 0..generations {
        let kept_in = first.keep().join(format!("again.{generation}"));
        fs::create_dir(&kept_in).unwrap();
        let image = tempfile::tempdir_in(first.keep()).unwrap();
        let cut = draw(&first.history, &mut chance, image.path());
        fs::write(kept_in.join(CUT), cut.to_string()).unwrap();
        let mut second = Recording::begin_on(&kept_in, image);
        open(&mut second);
        let check = |image: &Path, at: usize| check(cut, &second, image, at);
        all_hold(&second, (chance.below(u64::MAX), count), check);
    }
}

/// The recordings that were kept in a folder: the first one, and that of a second generation with
/// the moment of the first cut.
pub fn kept(folder: &Path) -> (Recording, Option<(usize, Recording)>) {
    match fs::read_to_string(folder.join(CUT)) {
        Ok(cut) => {
            let second = Some((cut.parse().unwrap(), Recording::again(folder)));
            (Recording::again(folder.parent().unwrap()), second)
        }
        Err(_) => (Recording::again(folder), None),
    }
}
