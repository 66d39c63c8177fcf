//! One life of a store: from the image that a cut has left to the next cut.

use std::path::Path;
use std::sync::Arc;

use pulk::clock::{ManualClock, Timestamp};
use pulk::queue::examine;
use pulk::store::sled::{Limit, Limits};
use pulk::store::{JournaledStore, Sizes, Store, WriteSet};
use pulk_proof_disk::chance::Bytes;
use pulk_proof_disk::{Base, Chance, History, Operation, Recording};
use tempfile::TempDir;

use super::Fates;
use super::clients::Clients;
use super::contents::{Contents, Witness};
use super::evidence::{self, Evidence};
use super::told::Told;

/// A journal file of so many bytes is moved into sled: a few commits.
const JOURNAL_FILE_BYTES: u64 = 16 << 10;
/// As small as the rules of sled's use allow for what is written here: an image is made of whole
/// segments.
const SEGMENT_BYTES: usize = 4 << 20;

/// A store in use.
pub(super) struct Life {
    directory: TempDir,
    base: Base,
    recording: Arc<Recording>,
    before: Contents,
    store: Arc<Witness>,
    clients: Clients,
    clock: ManualClock,
}

/// A life that is over: what was done to the files in it, and what that was for.
pub(super) struct Past {
    history: Arc<History>,
    before: Contents,
    commits: Vec<WriteSet>,
    told: Told,
    clock: ManualClock,
}

impl Life {
    /// In an empty directory.
    pub(super) fn first(fates: &mut Fates<'_>) -> Life {
        let clock = ManualClock::new(Timestamp::from_ms(1_700_000_000_000));
        let told = |_| Told::default();
        Life::begin((scratch(), Base::empty()), &[Contents::default()], fates, (clock, told))
    }

    /// Opens what lies in a directory, whose contents must be one of those.
    fn begin(
        (directory, base): (TempDir, Base),
        allowed: &[Contents],
        fates: &mut Fates<'_>,
        (clock, told): (ManualClock, impl FnOnce(usize) -> Told),
    ) -> Life {
        let recording = Arc::new(Recording::start(directory.path()).unwrap());
        let store = open(directory.path(), fates.below(4) == 1);
        let place = check(&*store, allowed).unwrap_or_else(|wrong| panic!("{wrong}"));
        let store = Arc::new(Witness::new(store, recording.clone()));
        let told = told(place);
        let seed = fates.below(1 << 16);
        let clients = Clients::open(store.clone(), clock.clone(), told, seed);
        let before = allowed[place].clone();
        Life { directory, base, recording, before, store, clients, clock }
    }

    /// A group of commands, and what is due.
    pub(super) fn work(&mut self, commands: &mut Bytes<'_>) {
        for _ in 0..=commands.below(4) {
            self.clients.ask(commands);
        }
        self.clients.step();
    }

    /// The end, orderly or by a cut.
    pub(super) fn end(mut self, closes: bool) -> Past {
        if closes {
            self.clients.close();
        }
        let operations = self.recording.operations();
        let commits = self.store.commits();
        let told = self.clients.told();
        let history = Arc::new(History { base: self.base, operations });
        drop(self.directory);
        Past { history, before: self.before, commits, told, clock: self.clock }
    }
}

impl Past {
    /// Cuts the power, and opens what a disk may have kept. Only a life that `goes_on` may have a
    /// past.
    pub(super) fn crash(&self, input: &[u8], fates: &mut Fates<'_>, goes_on: bool) -> Life {
        let operations = &self.history.operations;
        let cut = fates.below(operations.len() as u64 + 1) as usize;
        let is_mark = |operation: &&Operation| matches!(operation, Operation::Mark(_));
        let acknowledged = operations[..cut].iter().filter(is_mark).count();
        let mut contents = self.before.clone();
        let (surely, perhaps) = self.commits.split_at(acknowledged);
        surely.iter().for_each(|writes| contents.apply(writes));
        let mut allowed = vec![contents];
        if let Some(under_way) = perhaps.first() {
            let mut contents = allowed[0].clone();
            contents.apply(under_way);
            allowed.push(contents);
        }
        let directory = scratch();
        let choices = (fates.bytes.rest().to_vec(), fates.seeded.clone());
        let (history, input) = (self.history.clone(), input.to_vec());
        let evidence = Evidence { input, history, cut, fates: choices, allowed: allowed.clone() };
        evidence::keep(evidence);
        self.history.image(cut, fates, directory.path()).unwrap();
        let base = if goes_on { Base::read(directory.path()).unwrap() } else { Base::empty() };
        let told = |place: usize| self.told.survived(acknowledged + place);
        let life = Life::begin((directory, base), &allowed, fates, (self.clock.clone(), told));
        evidence::forget();
        life
    }
}

/// An empty directory, in memory where there is such a place.
pub(super) fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap()
}

/// Opens a store that moves its journal often, and compacts it while it is in use when it should.
pub(super) fn open(directory: &Path, compacts: bool) -> Box<dyn Store> {
    let limit = Limit { spare_bytes: 64 << 10, ratio: 1 };
    let compaction =
        if compacts { Limits { plenty: limit, short: limit } } else { Limits::default() };
    let (journal_file_bytes, segment_bytes) = (JOURNAL_FILE_BYTES, SEGMENT_BYTES);
    let sizes = Sizes { journal_file_bytes, compaction, segment_bytes };
    let opened = JournaledStore::open_with_sizes(directory, 0, sizes);
    Box::new(opened.unwrap_or_else(|error| panic!("what a cut left does not open: {error}")))
}

/// Which of the contents a store has; it must be sound as well.
pub(super) fn check(store: &dyn Store, allowed: &[Contents]) -> Result<usize, String> {
    let found = Contents::of(store).map_err(|error| error.to_string())?;
    let place = allowed.iter().position(|contents| *contents == found).ok_or_else(|| {
        let differences: Vec<String> =
            allowed.iter().map(|contents| found.difference(contents)).collect();
        format!("neither before nor after the commit under way:\n{}", differences.join("\n"))
    })?;
    let report = examine(store).map_err(|error| error.to_string())?;
    match report.is_sound() {
        true => Ok(place),
        false => Err(format!("not sound: {:?}", report.problems)),
    }
}
