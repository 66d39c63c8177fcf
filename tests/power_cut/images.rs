//! Images at many moments of a recording, each of them checked.

use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use pulk_proof_disk::chance::Seeded;
use pulk_proof_disk::{Chance, History, Operation};

use crate::recording::Recording;

/// How many images are made at the same time.
const THREADS: usize = 2;

/// Recordings and images take up to half of this.
const MEMORY_BYTES_MIN: u64 = 2 << 30;

/// The number in an environment variable.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|number| number.parse().unwrap())
}

/// How many images of each kind: as many as the environment says, in the same proportion.
pub fn counts([first, generations, again]: [u64; 3]) -> [u64; 3] {
    match number("PULK_IMAGES") {
        Some(images) => [images, (generations * images).div_ceil(first), again],
        None => [first, generations, again],
    }
}

/// Where the recording is that a failure has kept.
pub fn folder_to_go_through() -> Option<PathBuf> {
    std::env::var_os("PULK_TRACE").map(PathBuf::from)
}

/// The seed of this run, which is printed when it fails.
pub fn seed() -> u64 {
    let seed = number("PULK_SEED").unwrap_or_else(|| {
        use rand::{RngExt, SeedableRng, rngs::StdRng};
        StdRng::try_from_rng(&mut rand::rngs::SysRng).unwrap().random()
    });
    println!("PULK_SEED={seed}");
    seed
}

/// A new directory for a recording, which stays unless it is removed.
pub fn directory() -> PathBuf {
    tempfile::Builder::new().prefix("pulk-power-cut-").tempdir_in(scratch()).unwrap().keep()
}

/// A new directory for an image.
pub fn scratch_directory() -> tempfile::TempDir {
    tempfile::tempdir_in(scratch()).unwrap()
}

/// Where images are made: in memory if there is enough, where syncs cost nothing.
fn scratch() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |volume| volume.f_bavail * volume.f_frsize);
    if free >= MEMORY_BYTES_MIN { memory.to_owned() } else { std::env::temp_dir() }
}

/// One image that is to be made.
struct Draft {
    /// How many operations were done.
    cut: usize,
    seed: u64,
}

/// Makes images of a recording, and checks each: `check` gets the directory and the moment of the
/// cut. Panics with all that is needed to see a failure again.
pub fn all_hold(
    recording: &Recording,
    (seed, count): (u64, u64),
    check: impl Fn(&Path, usize) + Sync,
) {
    let history = &recording.history;
    let drafts = drafts(history, (seed, count));
    let (failed, began) = (AtomicUsize::new(0), Instant::now());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let drafts = drafts.iter().skip(thread).step_by(THREADS);
            let (failed, check) = (&failed, &check);
            scope.spawn(move || {
                let mut disk = history.disk();
                for draft in drafts.take_while(|_| failed.load(Ordering::Relaxed) == 0) {
                    disk.advance(draft.cut);
                    let into = tempfile::tempdir_in(scratch()).unwrap();
                    disk.image(&mut Seeded::new(draft.seed), into.path()).unwrap();
                    let checked = AssertUnwindSafe(|| check(into.path(), draft.cut));
                    if panic::catch_unwind(checked).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                        println!(
                            "a power cut after {} of {} operations; again: PULK_IMAGE={0}:{} \
                             PULK_TRACE={}",
                            draft.cut,
                            history.operations.len(),
                            draft.seed,
                            recording.keep().display()
                        );
                    }
                }
            });
        }
    });
    assert_eq!(failed.into_inner(), 0, "an image does not hold what was answered");
    report(history, drafts.len(), began.elapsed());
}

/// The images that are to be made, the earliest cut first.
fn drafts(history: &History, (seed, count): (u64, u64)) -> Vec<Draft> {
    if let Ok(only) = std::env::var("PULK_IMAGE") {
        let (cut, seed) = only.split_once(':').unwrap();
        return vec![Draft { cut: cut.parse().unwrap(), seed: seed.parse().unwrap() }];
    }
    let (mut chance, interesting) = (Seeded::new(seed), interesting(history));
    let drafts = (0..count).map(|_| {
        let cut = cut(history, &interesting, &mut chance);
        Draft { cut, seed: chance.below(u64::MAX) }
    });
    let mut drafts: Vec<Draft> = drafts.collect();
    drafts.sort_by_key(|draft| draft.cut);
    drafts
}

fn report(history: &History, images: usize, took: Duration) {
    let bytes = history.operations.iter().map(|operation| match operation {
        Operation::Write { bytes, .. } => bytes.len(),
        _ => 0,
    });
    let syncs = history.operations.iter().filter(|o| matches!(o, Operation::SyncEnded { .. }));
    println!(
        "{images} images of {} operations ({} syncs, {} MB) in {} ms",
        history.operations.len(),
        syncs.count(),
        bytes.sum::<usize>() / 1_000_000,
        took.as_millis(),
    );
}

/// Makes one image of a recording; gives the moment of the cut.
pub fn draw(history: &History, chance: &mut Seeded, into: &Path) -> usize {
    let cut = cut(history, &interesting(history), chance);
    history.image(cut, chance, into).unwrap();
    cut
}

/// The operations at which something may go wrong that goes well elsewhere.
fn interesting(history: &History) -> Vec<usize> {
    let all = history.operations.iter().enumerate();
    let found = all.filter(|(_, operation)| match operation {
        Operation::Write { .. } | Operation::Mark(_) => false,
        Operation::SyncBegan { .. } | Operation::SyncEnded { .. } => false,
        Operation::MakeDirectory { .. }
        | Operation::RemoveDirectory { .. }
        | Operation::Create { .. }
        | Operation::SetLength { .. }
        | Operation::Rename { .. }
        | Operation::Remove { .. } => true,
    });
    found.map(|(at, _)| at).collect()
}

/// A third of the cuts falls anywhere, a third behind a change of names or lengths, a third
/// about a sync.
fn cut(history: &History, interesting: &[usize], chance: &mut dyn Chance) -> usize {
    let count = history.operations.len();
    let anywhere = chance.below(count as u64 + 1) as usize;
    match chance.below(3) {
        0 => anywhere,
        1 if !interesting.is_empty() => {
            let at = interesting[chance.below(interesting.len() as u64) as usize];
            (at + chance.below(8) as usize).min(count)
        }
        _ => {
            let is_sync = |at: usize| {
                let operation = &history.operations[at];
                matches!(operation, Operation::SyncBegan { .. } | Operation::SyncEnded { .. })
            };
            (anywhere..count).find(|at| is_sync(*at)).unwrap_or(count) + chance.below(2) as usize
        }
    }
    .min(count)
}
