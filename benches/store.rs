//! What the store costs: `cargo bench --bench store`.
//!
//! - `commit/queue`: one commit of the store for a group of 1 to 1,000 jobs of 256 bytes; nothing
//!   else of the queue is timed. Commits follow each other without a pause: where the move into
//!   sled can't keep up, they wait for it, and that counts.
//! - `commit/append` and `commit/overwrite`: the limit. The same bytes (keys and values) appended
//!   to a file and synced with fdatasync; and written over a file that has its size, as a journal
//!   does.
//! - `recovery`: opening the library after an unclean end. A process fills a directory and is
//!   killed with SIGKILL; each time a copy of what it left is opened.
//!
//! `PULK_BENCH_DIR` names the directory, `PULK_BENCH_WAITING` the jobs of the large recovery
//! (1,000,000). `cargo bench --bench store -- --test` runs each once with few jobs.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    dead_code,
    reason = "a bench measures real time, and uses a part of the rig"
)]

#[path = "rig/stepped.rs"]
mod rig;

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use pulk::store::JournaledStore;

use rig::{Rig, directory, is_trial, job, number};

/// Set for the process that fills a directory: how many jobs, and where.
const FILL_JOBS: &str = "PULK_BENCH_FILL_JOBS";
const FILL_DIR: &str = "PULK_BENCH_FILL_DIR";

fn main() {
    if let Some(dir) = std::env::var_os(FILL_DIR) {
        fill(Path::new(&dir));
    }
    let mut criterion = Criterion::default().configure_from_args();
    commit(&mut criterion);
    recovery(&mut criterion);
    criterion.final_summary();
}

// ---- commit ----

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    group.sample_size(20).sampling_mode(SamplingMode::Flat);
    for jobs in [1, 10, 100, 1_000] {
        let dir = directory();
        let mut rig = Rig::on(JournaledStore::open(&dir.path().join("store")).unwrap());
        let before = rig.committed_bytes();
        rig.enqueue(jobs);
        let bytes = vec![b'x'; rig.committed_bytes() - before];
        group.throughput(Throughput::Elements(jobs as u64));
        group.bench_function(format!("queue/{jobs}"), |bencher| {
            bencher.iter_custom(|rounds| (0..rounds).map(|_| rig.enqueue(jobs).commit).sum());
        });
        let path = dir.path().join("limit");
        let mut file = File::create(&path).unwrap();
        group.bench_function(format!("append/{jobs}"), |bencher| {
            bencher.iter(|| write_and_sync(&mut file, &bytes));
        });
        let size_bytes = 16 << 20;
        file.rewind().unwrap();
        file.write_all(&vec![0; size_bytes as usize]).unwrap();
        file.sync_all().unwrap();
        group.bench_function(format!("overwrite/{jobs}"), |bencher| {
            bencher.iter(|| {
                if file.stream_position().unwrap() + bytes.len() as u64 > size_bytes {
                    file.rewind().unwrap();
                }
                write_and_sync(&mut file, &bytes);
            });
        });
    }
    group.finish();
}

fn write_and_sync(file: &mut File, bytes: &[u8]) {
    file.write_all(bytes).unwrap();
    file.sync_data().unwrap();
}

// ---- recovery ----

fn recovery(criterion: &mut Criterion) {
    let few = if is_trial() { 100 } else { 10_000 };
    let many = number("PULK_BENCH_WAITING", 100 * few);
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(1));
    for jobs in [few, many] {
        // Filled when the first one asks: not at all when the filter leaves it out.
        let mut killed = None;
        group.bench_function(format!("{jobs} waiting"), |bencher| {
            let killed = killed.get_or_insert_with(|| kill_with(jobs));
            bencher.iter_custom(|rounds| (0..rounds).map(|_| open_copy(killed.path(), jobs)).sum());
        });
    }
    group.finish();
}

/// Opens a copy, and gives what that took.
fn open_copy(dir: &Path, jobs: usize) -> Duration {
    let copied = directory();
    copy(dir, copied.path());
    let started = Instant::now();
    let rig = Rig::on(JournaledStore::open(copied.path()).unwrap());
    let took = started.elapsed();
    assert_eq!(rig.queue.opened().ready_jobs, jobs as u64);
    took
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// What a process leaves that was killed with so many jobs waiting.
fn kill_with(jobs: usize) -> tempfile::TempDir {
    let dir = directory();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .envs([(FILL_JOBS, jobs.to_string().as_ref()), (FILL_DIR, dir.path().as_os_str())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(process.stdout.as_mut().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(said, "full");
    process.kill().unwrap();
    process.wait().unwrap();
    dir
}

/// The life of that process.
fn fill(dir: &Path) -> ! {
    let mut rig = Rig::on(JournaledStore::open(dir).unwrap());
    rig.fill(number(FILL_JOBS, 0), |_| job());
    println!("full");
    // Until it is killed, or the bench is gone.
    std::io::stdin().lines().for_each(drop);
    std::process::exit(1);
}
