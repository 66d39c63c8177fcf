//! A process under strace, and what it has done and sent.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::Command;

use pulk_proof_disk::strace::{self, Sent};
use pulk_proof_disk::{Base, History, Operation};
use tempfile::TempDir;

/// What processes have done below one directory, one after the other.
#[derive(Debug)]
pub struct Recording {
    /// Everything that is needed to go through it again.
    kept_in: PathBuf,
    /// The directory, as the processes called it.
    root: PathBuf,
    pub history: History,
    /// What was sent, and by which process: 0 for the first.
    pub sent: Vec<(usize, Sent)>,
    traces: usize,
}

impl Recording {
    /// An empty directory in which processes are to work.
    pub fn begin(kept_in: &Path) -> Recording {
        let root = fs::canonicalize(kept_in).unwrap().join("disk");
        fs::create_dir(&root).unwrap();
        fs::write(kept_in.join("root"), root.to_str().unwrap()).unwrap();
        Self::with(kept_in, root, Base::empty())
    }

    /// Processes are to go on in a directory that is there.
    pub fn begin_on(kept_in: &Path, directory: TempDir) -> Recording {
        let root = fs::canonicalize(kept_in).unwrap().join("disk");
        let base = Base::read(directory.path()).unwrap();
        let (untouched, path) = (kept_in.join("base"), directory.keep());
        let copied = Command::new("cp").arg("-r").arg(&path).arg(&untouched).status().unwrap();
        assert!(copied.success());
        fs::rename(path, &root).unwrap();
        fs::write(kept_in.join("root"), root.to_str().unwrap()).unwrap();
        Self::with(kept_in, root, base)
    }

    fn with(kept_in: &Path, root: PathBuf, base: Base) -> Recording {
        let history = History { base, operations: Vec::new() };
        Recording { kept_in: kept_in.to_owned(), root, history, sent: Vec::new(), traces: 0 }
    }

    /// A recording that was kept.
    pub fn again(kept_in: &Path) -> Recording {
        let root = fs::read_to_string(kept_in.join("root")).unwrap().into();
        let base = Base::read(&kept_in.join("base")).unwrap_or_default();
        let mut recording = Self::with(kept_in, root, base);
        while recording.next_trace().exists() {
            let settled = fs::read(kept_in.join(format!("settled.{}", recording.traces))).unwrap();
            let under_way = recording.read();
            let settled: Vec<(usize, usize)> = serde_json::from_slice(&settled).unwrap();
            settle(&mut recording.history, &under_way, &settled);
        }
        recording
    }

    /// Where processes are to work.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn next_trace(&self) -> PathBuf {
        self.kept_in.join(format!("trace.{}", self.traces))
    }

    /// strace with this program, whose arguments the caller adds.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("strace");
        command.args(strace::OPTIONS).arg("-o").arg(self.next_trace()).arg("--").arg(program);
        command
    }

    /// How often something was renamed so that its name begins like this then.
    pub fn renames_to(&self, prefix: &str) -> usize {
        let is_one = |operation: &&Operation| match operation {
            Operation::Rename { to, .. } => {
                to.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
            }
            _ => false,
        };
        self.history.operations.iter().filter(is_one).count()
    }

    /// How many segments of this size were written over of the files with this name.
    pub fn segments_written_over(&self, name: &str, segment_bytes: u64) -> usize {
        let (mut highest, mut over) = (HashMap::<&Path, u64>::new(), HashSet::new());
        for operation in &self.history.operations {
            let Operation::Write { path, offset, .. } = operation else { continue };
            if path.file_name().is_some_and(|found| found == name) {
                let segment = offset / segment_bytes;
                let highest = highest.entry(path).or_default();
                *highest = segment.max(*highest);
                if segment < *highest {
                    over.insert((path, segment));
                }
            }
        }
        over.len()
    }

    /// Where it stays after a failure.
    pub fn keep(&self) -> &Path {
        &self.kept_in
    }

    /// Removes it: all is well.
    pub fn forget(self) {
        fs::remove_dir_all(self.kept_in).unwrap();
    }

    /// Reads what the process has done that has just ended.
    pub fn ended(&mut self) {
        let settled = self.kept_in.join(format!("settled.{}", self.traces));
        let under_way = self.read();
        let there = Base::read(&self.root).unwrap();
        // Nobody knows what became of the calls during which a process was killed, but that it
        // must come to what is there.
        let found = (0..1 << under_way.len()).rev().find_map(|chosen: u32| {
            let is_chosen = |nth: &usize| chosen >> nth & 1 == 1;
            let chosen = (0..under_way.len()).filter(is_chosen);
            let chosen: Vec<(usize, usize)> =
                chosen.map(|nth| (nth, bytes_done(&under_way[nth], &there))).collect();
            let mut history = self.history.clone();
            settle(&mut history, &under_way, &chosen);
            (history.end() == there).then_some(chosen)
        });
        let kept_in = self.kept_in.display();
        let found = found.unwrap_or_else(|| {
            panic!("what was recorded does not come to what is there: see {kept_in}")
        });
        settle(&mut self.history, &under_way, &found);
        fs::write(settled, serde_json::to_vec(&found).unwrap()).unwrap();
    }

    /// Reads the next trace; gives what was under way at its end.
    fn read(&mut self) -> Vec<Operation> {
        let trace = fs::File::open(self.next_trace()).expect("strace is needed for this test");
        let trace = BufReader::with_capacity(1 << 20, trace);
        let mut read = strace::read(trace, &self.root, &self.history.end()).unwrap();
        let (marks, syncs) = (self.sent.len() as u64, self.history.operations.len() as u64);
        for operation in &mut read.operations {
            match operation {
                Operation::Mark(mark) => *mark += marks,
                // Each trace numbers its syncs from 1; there were fewer than operations.
                Operation::SyncBegan { number, .. } | Operation::SyncEnded { number } => {
                    *number += syncs;
                }
                _ => {}
            }
        }
        self.history.operations.append(&mut read.operations);
        self.sent.extend(read.sent.into_iter().map(|sent| (self.traces, sent)));
        self.traces += 1;
        read.under_way
    }
}

/// Adds what was done of the operations under way: which, and how many bytes.
fn settle(history: &mut History, under_way: &[Operation], done: &[(usize, usize)]) {
    for (nth, count) in done {
        let mut operation = under_way[*nth].clone();
        if let Operation::Write { bytes, .. } = &mut operation {
            bytes.truncate(*count);
        }
        history.operations.push(operation);
    }
}

/// How much of a write can have been done, when this is what is there.
fn bytes_done(operation: &Operation, there: &Base) -> usize {
    let Operation::Write { path, offset, bytes } = operation else { return 0 };
    let there = there.file(path).and_then(|there| there.get(*offset as usize..)).unwrap_or(&[]);
    bytes.iter().zip(there).take_while(|(written, there)| written == there).count()
}
