//! The rounds of workloads of one queue, and its backlog.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

use crate::load::{Load, Work};
use crate::peer::{FreshClient, Peer, Place};
use crate::process::{Server, disk_bytes, free_port};
use crate::table::{Cell, Row};

/// From the start to the first answer, and from SIGKILL to the first job.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// A count that is behind gets so long to be right.
const COUNT_LIMIT: Duration = Duration::from_secs(15);
const FILL_LIMIT_MS: u64 = 300_000;
/// What a server frees by itself, it may free before its memory is looked at.
const REST: Duration = Duration::from_secs(3);

/// How much is measured.
pub(crate) struct Size {
    pub(crate) jobs: u64,
    pub(crate) backlog: u64,
    pub(crate) limit_ms: u64,
}

impl Size {
    /// The workloads of a round, with the columns of rate and median time.
    fn loads(&self) -> [(Load, usize, Option<usize>); 5] {
        let load =
            |work, clients, size, jobs| Load { work, clients, size, jobs, limit_ms: self.limit_ms };
        [
            (load(Work::Enqueue, 1, 1, self.jobs.div_ceil(10)), 0, Some(1)),
            (load(Work::Enqueue, 64, 1, self.jobs), 2, None),
            (load(Work::Batch, 8, 100, self.jobs * 10), 3, None),
            (load(Work::Take, 64, 1, self.jobs), 4, None),
            (load(Work::Take, 8, 10, self.jobs * 4), 5, None),
        ]
    }
}

/// A server on a fresh directory, with its queue made.
struct Running {
    _dir: TempDir,
    place: Place,
    server: Server,
}

async fn start(peer: &dyn Peer, root: &Path) -> Result<Running> {
    let dir = tempfile::Builder::new().prefix("peers-").tempdir_in(root)?;
    let (port, second_port, third_port) = (free_port()?, free_port()?, free_port()?);
    // A server that does not run as root must be able to come in.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open)?;
    let inner = dir.path().join("server");
    std::fs::create_dir(&inner)?;
    let place = Place { dir: inner, port, second_port, third_port };
    peer.prepare(&place)?;
    let server = peer.launch(&place)?;
    let until = Instant::now() + READY_LIMIT;
    loop {
        let attempt = timeout(Duration::from_secs(20), peer.create_queue(&place)).await;
        match attempt.context("no answer").and_then(|made| made) {
            Ok(()) => return Ok(Running { _dir: dir, place, server }),
            Err(error) if Instant::now() > until => {
                let log = std::fs::read_to_string(place.dir.join("server.log"));
                let log = log.unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(5).collect();
                return Err(error.context(format!("is not ready: {}", tail.join(" / "))));
            }
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One round of all workloads; the values are added to the row.
pub(crate) async fn round(peer: &dyn Peer, root: &Path, size: &Size, row: &mut Row) -> Result<()> {
    let running = start(peer, root).await?;
    let mut expected = 0;
    for (load, rate, p50) in size.loads() {
        if peer.has_only_enqueues() && load.work == Work::Take {
            continue;
        }
        let limit = Duration::from_millis(load.limit_ms) + READY_LIMIT;
        let measured = timeout(limit, peer.run(&running.place, &load)).await;
        let measured = measured
            .context("did not end in time")
            .and_then(|measured| measured)
            .with_context(|| format!("{:?} with {} clients", load.work, load.clients))?;
        ensure!(measured.jobs > 0, "no job was done in {load:?}");
        match load.work {
            Work::Take => expected -= measured.jobs,
            Work::Enqueue | Work::Batch => expected += measured.jobs,
        }
        if !peer.has_only_enqueues() {
            let wrong = || format!("after {load:?}");
            count(peer, &running.place, expected).await.with_context(wrong)?;
        }
        eprintln!("{}: {load:?}: {:.0} jobs/s", peer.name(), measured.rate());
        add(row, rate, measured.rate());
        if let Some(p50) = p50 {
            add(row, p50, measured.p50_us);
        }
    }
    running.server.stop();
    Ok(())
}

fn add(row: &mut Row, column: usize, value: f64) {
    if let Some(cell) = row.values.get_mut(column) {
        cell.add(value);
    }
}

/// Every job that was acknowledged waits, and none that was finished.
async fn count(peer: &dyn Peer, place: &Place, expected: u64) -> Result<()> {
    let until = Instant::now() + COUNT_LIMIT;
    loop {
        let waiting = timeout(READY_LIMIT, peer.waiting(place)).await?;
        match waiting {
            Ok(waiting) if waiting == expected => return Ok(()),
            Ok(waiting) if Instant::now() > until => bail!("{waiting} jobs wait, not {expected}"),
            Err(error) if Instant::now() > until => return Err(error),
            _ => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Fills a queue, looks at memory and disk, kills the server and waits for the first job.
pub(crate) async fn backlog(
    peer: &dyn Peer,
    root: &Path,
    size: &Size,
    row: &mut Row,
) -> Result<()> {
    let Running { _dir, place, server } = start(peer, root).await?;
    let limit_ms = FILL_LIMIT_MS;
    let fill = Load { work: Work::Batch, clients: 8, size: 100, jobs: size.backlog, limit_ms };
    let filled = peer.run(&place, &fill).await?;
    ensure!(filled.jobs == size.backlog, "{} jobs were filled in within 300 s", filled.jobs);
    count(peer, &place, size.backlog).await?;
    sleep(REST).await;
    let memory = server.memory_bytes();
    let disk = disk_bytes(&place.dir);
    ensure!(memory > 0 && disk > 0, "no memory or no disk was found");
    add(row, 6, memory as f64 / 1e6);
    add(row, 7, disk as f64 / 1e6);
    let claimer = peer.claimer(&place)?;
    let mut claimer = claimer.unwrap_or_else(|| Box::new(FreshClient { peer, place: &place }));
    sleep(Duration::from_secs(1)).await;
    let killed = Instant::now();
    server.kill();
    let _server = peer.launch(&place)?;
    while !claimer.claims().await.unwrap_or(false) {
        if killed.elapsed() > READY_LIMIT {
            let why = format!("did not come back within {} s", READY_LIMIT.as_secs());
            if let Some(cell) = row.values.get_mut(8) {
                *cell = Cell::Failed(why.clone());
            }
            bail!(why);
        }
        sleep(Duration::from_millis(10)).await;
    }
    let seconds = killed.elapsed().as_secs_f64();
    eprintln!("{}: backlog: {memory} B memory, {disk} B disk, {seconds:.2} s", peer.name());
    add(row, 8, seconds);
    Ok(())
}
