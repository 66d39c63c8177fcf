//! The ten rules by which sled is used (src/store/sled.rs), each by what it protects from.
//!
//! What must happen in a process of its own runs in this same binary, started again as `child`.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "the same")]
#![allow(clippy::disallowed_methods, reason = "tests of real processes wait in real time")]

mod roles;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::ops::Bound;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pulk::ErrorKind;
use pulk::store::sled::SledStore;
use pulk::store::{Direction, JournaledStore, KeyRange, Store, Tree, VALUE_BYTES_MAX, WriteSet};

const ALL: KeyRange = (Bound::Unbounded, Bound::Unbounded);
const PATIENCE: Duration = Duration::from_secs(50);

/// What the n-th commit of [`commit_many`] writes: the same number into two trees.
fn numbered(number: u64, value_bytes: usize) -> WriteSet {
    let mut value = vec![number as u8; value_bytes];
    value.splice(..8, number.to_be_bytes());
    let mut writes = WriteSet::default();
    for tree in [Tree::Timers, Tree::Dead] {
        writes.put(tree, number.to_be_bytes().to_vec(), Bytes::from(value.clone()));
    }
    writes
}

/// The numbers in one tree, which must be 0 and up without a gap, each with its whole value.
fn count(store: &SledStore, tree: Tree) -> u64 {
    let mut expected = 0;
    for entry in store.scan(tree, ALL, Direction::Ascending) {
        let (key, value) = entry.unwrap();
        assert_eq!(key, u64::to_be_bytes(expected));
        assert_eq!(value[..8], key[..]);
        assert!(value[8..].iter().all(|byte| *byte == expected as u8));
        expected += 1;
    }
    expected
}

fn commit_many(dir: &Path, commits: u64) {
    let store = SledStore::open(dir).unwrap();
    for number in 0..commits {
        store.commit(numbered(number, 1000)).unwrap();
    }
    store.close().unwrap();
}

fn assert_holds(dir: &Path, commits: u64) {
    let store = SledStore::open(dir).unwrap();
    assert_eq!(count(&store, Tree::Timers), commits);
    assert_eq!(count(&store, Tree::Dead), commits);
    store.close().unwrap();
}

/// A command that runs `child` in this role.
fn child_command(program: &[&str], role: &str, dir: &Path) -> Command {
    let this = std::env::current_exe().unwrap();
    let mut words: Vec<_> = program.iter().map(Into::into).collect();
    words.push(this.into_os_string());
    let mut command = Command::new(words.remove(0));
    command.args(words).args(["child", "--exact", "--ignored", "--nocapture"]);
    command.env("PULK_ROLE", role).env("PULK_DIR", dir);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Waits for the end of a child, and gives what it told by [`tell`].
fn told(mut child: Child) -> Vec<String> {
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > PATIENCE {
            child.kill().unwrap();
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| Some(line.split_once("told: ")?.1.to_owned())).collect()
}

fn tell(line: &str) {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "told: {line}").unwrap();
    stdout.flush().unwrap();
}

#[test]
#[ignore = "it is started by the other tests, with a role"]
fn child() {
    let dir = PathBuf::from(std::env::var_os("PULK_DIR").unwrap());
    roles::play(&std::env::var("PULK_ROLE").unwrap(), &dir);
}

#[test]
fn rule_1_only_the_release_that_was_checked_is_used() {
    let manifest = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")).unwrap();
    assert!(manifest.contains("sled = \"=0.34.7\""), "sled is pinned in Cargo.toml");
}

/// One system call that strace has seen: its name and first argument, and between which lines of
/// the trace it took place.
struct Call {
    name: String,
    subject: String,
    began: usize,
    ended: usize,
}

/// Runs the role `commit` under strace.
fn trace(dir: &Path, role: &str) -> Vec<Call> {
    let trace = dir.with_file_name("trace");
    let calls = "trace=write,pwrite64,fdatasync,fsync,rename,openat,ftruncate";
    let program = ["strace", "-f", "-y", "-s", "0", "-e", calls, "-o", trace.to_str().unwrap()];
    let child = child_command(&program, role, dir)
        .spawn()
        .expect("strace must be installed: this test reads the system calls of a commit");
    told(child);
    let mut seen: Vec<Call> = Vec::new();
    let mut unfinished = std::collections::HashMap::new();
    for (line_number, line) in fs::read_to_string(trace).unwrap().lines().enumerate() {
        let (thread, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        if call.contains(" resumed>") {
            let index: usize = unfinished.remove(thread).unwrap();
            seen[index].ended = line_number;
        } else if let Some((name, arguments)) = call.split_once('(') {
            if call.ends_with("<unfinished ...>") {
                unfinished.insert(thread.to_owned(), seen.len());
            }
            seen.push(Call {
                name: name.to_owned(),
                subject: arguments.to_owned(),
                began: line_number,
                ended: line_number,
            });
        }
    }
    seen
}

/// Holds ten traced commits to this: after the last write to the file, and before the commit
/// returns, the file is synced.
fn assert_synced_before_each_return(calls: &[Call], write: &str, file: &str) {
    let on_file = |call: &&Call| call.subject.contains(file);
    let returns: Vec<usize> = calls
        .iter()
        .filter(|call| call.name == "openat" && call.subject.contains("/returned "))
        .map(|call| call.began)
        .collect();
    assert_eq!(returns.len(), 10, "ten commits returned");
    let mut before = 0;
    for returned in returns {
        let last_write = calls
            .iter()
            .filter(on_file)
            .filter(|call| call.name == write && (before..returned).contains(&call.began))
            .map(|call| call.ended)
            .max()
            .expect("a commit writes");
        let synced = calls.iter().filter(on_file).any(|call| {
            call.name == "fdatasync" && call.began > last_write && call.ended < returned
        });
        assert!(synced, "no fdatasync between line {last_write} and line {returned}");
        before = returned;
    }
}

#[test]
fn rule_2_a_commit_returns_only_after_a_sync_that_followed_its_last_write() {
    let parent = tempfile::tempdir().unwrap();
    let calls = trace(&parent.path().join("data"), "commit");
    assert_synced_before_each_return(&calls, "pwrite64", "/data/sled/db>");
}

#[test]
fn a_commit_by_the_journal_returns_only_after_the_journal_is_synced() {
    let parent = tempfile::tempdir().unwrap();
    let calls = trace(&parent.path().join("data"), "commit by the journal");
    assert_synced_before_each_return(&calls, "write", "/data/journal.1>");
}

#[test]
fn a_new_database_is_durable_before_it_gets_its_name() {
    let parent = tempfile::tempdir().unwrap();
    let calls = trace(&parent.path().join("data"), "commit");
    let renamed = calls
        .iter()
        .find(|call| call.name == "rename" && call.subject.contains("data/sled.compact\""))
        .expect("a new database is built beside its place");
    let synced = |path: String, from: usize, to: usize| {
        let found = calls.iter().any(|call| {
            call.name == "fsync" && call.subject.contains(&path) && (from..to).contains(&call.ended)
        });
        assert!(found, "no fsync of {path}");
    };
    for name in ["/db", "/conf", "/blobs", ""] {
        let path = format!("{}/data/sled.compact{name}>", parent.path().display());
        synced(path, 0, renamed.began);
    }
    synced(format!("{}>", parent.path().display()), 0, renamed.began);
    synced(format!("{}/data>", parent.path().display()), renamed.ended, usize::MAX);
}

#[test]
fn rule_3_nothing_spills_into_files_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    for round in 0..20_u32 {
        let mut writes = WriteSet::default();
        for number in 0..180 {
            // Some new, some a second time; what an earlier round wrote goes.
            let key = |round: u32| (round * 150 + number).to_be_bytes().to_vec();
            writes.put(Tree::Payload, key(round), Bytes::from(vec![7; VALUE_BYTES_MAX]));
            if round > 2 && number % 3 != 0 {
                writes.remove(Tree::Payload, key(round - 3));
            }
        }
        store.commit(writes).unwrap();
        let blobs = fs::read_dir(dir.path().join("sled/blobs")).unwrap().count();
        assert_eq!(blobs, 0, "blob files after round {round}");
    }
}

/// Bytes that this process has written so far.
fn written_bytes() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("wchar: ")).unwrap().parse().unwrap()
}

#[test]
fn rule_4_the_largest_commits_stay_below_two_segments_of_log() {
    let dir = tempfile::tempdir().unwrap();
    let told = told(child_command(&["env"], "largest commits", dir.path()).spawn().unwrap());
    assert_eq!(told.len(), 6);
    for line in told {
        let log_bytes: u64 = line.split_once(' ').unwrap().0.parse().unwrap();
        assert!(log_bytes < 32 << 20, "{line}");
    }
}

#[test]
fn rule_5_no_thread_of_sled_flushes() {
    let dir = tempfile::tempdir().unwrap();
    let _store = SledStore::open(dir.path()).unwrap();
    for thread in fs::read_dir("/proc/self/task").unwrap() {
        // A thread may have ended since.
        let name = fs::read_to_string(thread.unwrap().path().join("comm")).unwrap_or_default();
        assert!(!name.starts_with("log flusher"), "sled's own flusher runs");
    }
}

#[test]
fn rule_6_a_half_written_snapshot_does_not_stop_it_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    commit_many(dir.path(), 10);
    let half_written = dir.path().join("sled/snap.7FFFFFFFFFFFFFFF.generating");
    fs::write(&half_written, "half").unwrap();
    assert_holds(dir.path(), 10);
    assert!(!half_written.exists());
}

#[test]
fn rule_6_what_stops_sled_between_the_steps_is_gone_when_it_is_open() {
    let dir = tempfile::tempdir().unwrap();
    commit_many(dir.path(), 10);
    let blobs = dir.path().join("sled/blobs");
    // A crash between the steps leaves it; a copy may have left out the empty folder.
    let prepare: [&dyn Fn(); 3] = [
        &|| fs::create_dir(blobs.join(i64::MAX.to_string())).unwrap(),
        &|| fs::remove_dir(&blobs).unwrap(),
        &|| {},
    ];
    for prepare in prepare {
        prepare();
        assert_holds(dir.path(), 10);
        assert_eq!(fs::read_dir(&blobs).unwrap().count(), 0);
    }
}

#[test]
fn rule_7_memory_stays_small() {
    let dir = tempfile::tempdir().unwrap();
    let told = told(child_command(&["env"], "fill", dir.path()).spawn().unwrap());
    let peak_kb: u64 = told.last().unwrap().parse().unwrap();
    assert!(peak_kb < 256_000, "{peak_kb} kB of memory for 120 MB of data");
}

#[test]
fn rule_8_an_interrupted_swap_loses_nothing() {
    // What is in the data directory besides the lock, when the process dies; every folder but
    // the first of a state is incomplete.
    let states: [(&str, &[&str]); 5] = [
        ("sled", &["sled.compact"]),
        ("sled.old", &["sled.compact"]),
        ("sled.old", &[]),
        ("sled", &["sled.old"]),
        ("sled", &["sled.old", "sled.compact"]),
    ];
    for (whole, incomplete) in states {
        let dir = tempfile::tempdir().unwrap();
        commit_many(dir.path(), 10);
        fs::rename(dir.path().join("sled"), dir.path().join("whole")).unwrap();
        for name in incomplete {
            fs::create_dir_all(dir.path().join(name).join("blobs")).unwrap();
            fs::write(dir.path().join(name).join("db"), "incomplete").unwrap();
        }
        fs::rename(dir.path().join("whole"), dir.path().join(whole)).unwrap();

        assert_holds(dir.path(), 10);
        let mut left: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["lock", "sled"], "after {whole} and {incomplete:?}");
    }
}

#[test]
fn a_database_that_was_never_finished_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("sled.compact")).unwrap();
    fs::write(dir.path().join("sled.compact/conf"), "segment_size: 1").unwrap();
    commit_many(dir.path(), 3);
    assert_holds(dir.path(), 3);
}

#[test]
fn rule_9_damaged_bytes_end_in_a_sentence() {
    let mut readable = 0;
    for seed in 1..=16_u64 {
        let dir = tempfile::tempdir().unwrap();
        commit_many(dir.path(), 40);
        let file = File::options().write(true).open(dir.path().join("sled/db")).unwrap();
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        for _ in 0..seed * 3 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            file.write_all_at(&random.to_le_bytes(), random % 200_000).unwrap();
        }
        let told = told(child_command(&["env"], "read it all", dir.path()).spawn().unwrap());
        assert_eq!(told.len(), 1, "a sentence, not a panic, with seed {seed}: {told:?}");
        readable += usize::from(told == ["readable"]);
    }
    assert!(readable < 16, "no damage was done");
}

#[test]
fn rule_9_a_damaged_snapshot_ends_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    commit_many(dir.path(), 10);
    assert_holds(dir.path(), 10);
    for entry in fs::read_dir(dir.path().join("sled")).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("snap.") {
            fs::write(path, "not a snapshot at all").unwrap();
        }
    }
    let error = SledStore::open(dir.path()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains("restore the data directory"), "{error}");
}

/// Commits in a child until the fault strikes, and checks what it was told and what is left.
fn assert_fails_well(program: &[&str], fault: &str) {
    let dir = tempfile::tempdir().unwrap();
    let mut told =
        told(child_command(program, "commit until it fails", dir.path()).spawn().unwrap());
    assert_eq!(told.pop().as_deref(), Some("refused all the rest"), "{fault}: {told:?}");
    let sentence = told.pop().unwrap();
    assert!(sentence.starts_with("the store failed: "), "{fault}: {sentence}");
    assert!(!sentence.contains('{'), "{fault}: not a sentence: {sentence}");
    assert!(!told.is_empty(), "{fault}: some commits came before it");

    let store = SledStore::open(dir.path()).unwrap();
    let found = count(&store, Tree::Timers);
    assert_eq!(found, count(&store, Tree::Dead), "{fault}: a commit is there whole or not at all");
    let acknowledged = told.len() as u64;
    let possible = acknowledged..=acknowledged + 1;
    assert!(possible.contains(&found), "{fault}: {found} of {acknowledged} acknowledged");
}

#[test]
fn rule_9_a_full_disk_ends_in_a_sentence_and_loses_nothing() {
    // Where the file ends decides which of sled's threads meets the error.
    for limit_kb in [16_384, 16_385, 19_777, 24_576, 32_768, 41_111] {
        let limited = format!("trap '' XFSZ; ulimit -f {limit_kb}; exec \"$@\"");
        assert_fails_well(&["bash", "-c", &limited, "bash"], &format!("{limit_kb} kB of space"));
    }
}

#[test]
fn rule_9_a_single_io_error_ends_in_a_sentence_and_loses_nothing() {
    // Later calls work again, so no second error wakes who waits for the first.
    for (call, number) in [
        ("pwrite64", 7),
        ("pwrite64", 16),
        ("pwrite64", 17),
        ("sync_file_range", 12),
        ("sync_file_range", 13),
        ("fdatasync", 9),
    ] {
        let fault = format!("inject={call}:error=EIO:when={number}");
        let trace = format!("trace={call}");
        let program = ["strace", "-f", "-qq", "-e", &trace, "-e", &fault, "-o", "/dev/null"];
        assert_fails_well(&program, &fault);
    }
}

#[test]
fn rule_10_a_second_opener_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let mut holder = child_command(&["env"], "hold", dir.path()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    while !lines.next().unwrap().unwrap().contains("told: held") {}

    let error = SledStore::open(dir.path()).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let expected = format!("held by process {} on host ", holder.id());
    assert!(error.to_string().contains(&expected), "{error}");

    holder.kill().unwrap();
    holder.wait().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    let error = SledStore::open(dir.path()).err().unwrap();
    assert!(error.to_string().contains(&format!("process {} ", std::process::id())), "{error}");
    drop(store);
    SledStore::open(dir.path()).unwrap();
}

#[test]
fn closing_under_a_scan_is_refused_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let store = SledStore::open(dir.path()).unwrap();
    store.commit(numbered(0, 100)).unwrap();
    let mut scan = store.scan(Tree::Timers, ALL, Direction::Ascending);
    let error = store.close().unwrap_err();
    assert!(error.to_string().contains("while a scan was going on"), "{error}");
    assert!(scan.next().unwrap().is_err());
    assert!(scan.next().is_none());
}
