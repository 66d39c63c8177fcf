//! `pulk bench`: how fast a node, or a queue in this process, is, beside the limit of its disk.

mod arguments;
mod call;
mod counters;
mod directory;
mod limit;
mod load;
mod remote;
mod report;
mod rounds;
mod show;
mod target;
mod workload;

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

pub(super) use self::arguments::BenchArguments;
use self::directory::RunDirectory;
use self::remote::Remote;
use self::report::Report;
use self::rounds::Bench;
use self::target::Target;
use self::workload::Plan;
use super::{failed, output};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::handle::Queue;
use crate::priority::PerPriority;
use crate::server;

pub(super) fn run(arguments: &BenchArguments) -> Result<()> {
    let before = arguments.against.as_deref().map(saved).transpose()?;
    let plans = arguments.plans()?;
    let report = server::runtime()?.block_on(arguments.measure(&plans))?;
    if arguments.json {
        let text = serde_json::to_string(&report)
            .map_err(|reason| failed(format!("no JSON can be made: {reason}")))?;
        return output::print(&(text + "\n"));
    }
    output::print(&match before {
        Some(before) => show::compared(&before, &report),
        None => show::measured(&report),
    })
}

/// A run that was saved.
fn saved(path: &Path) -> Result<Report> {
    let told = path.display();
    let wrong = |sentence: String| Error::new(ErrorKind::Configuration, sentence);
    let text = fs::read(path)
        .map_err(|reason| wrong(format!("--against: {told} can't be read: {reason}")))?;
    serde_json::from_slice(&text).map_err(|reason| {
        wrong(format!("--against: {told} is not what pulk bench --json prints: {reason}"))
    })
}

impl BenchArguments {
    /// Measures all, and takes away what that left, also when it was stopped.
    async fn measure(&self, plans: &[Plan]) -> Result<Report> {
        let now = SystemClock.now();
        if let Some(address) = &self.url {
            let target = Target::Node(Remote::new(address)?);
            let bench = self.bench(target, self.limit_dir.clone(), now);
            bench.check().await?;
            let measured = measured(&bench, plans, address.shown(), now).await;
            return with_end(measured, bench.remove_queue().await);
        }
        let directory = RunDirectory::new(self.data_dir.as_deref(), now)?;
        let measured = self.measure_embedded(plans, &directory, now).await;
        with_end(measured, directory.remove())
    }

    async fn measure_embedded(
        &self,
        plans: &[Plan],
        directory: &RunDirectory,
        now: Timestamp,
    ) -> Result<Report> {
        let queue = Queue::open(Config {
            data_dir: directory.queue(),
            queue_capacity: PerPriority::default(),
            disk_reserve_bytes: 0,
            ..Config::default()
        });
        let queue = queue.await?;
        let limit_directory = Some(directory.root().to_owned());
        let bench = self.bench(Target::Embedded(queue.clone()), limit_directory, now);
        let measured = measured(&bench, plans, "embedded".to_owned(), now).await;
        with_end(measured, queue.close().await)
    }

    fn bench(&self, target: Target, limit_directory: Option<PathBuf>, now: Timestamp) -> Bench {
        let queue = format!("pulk-bench-{}-{}", now.as_ms(), std::process::id());
        Bench { target, queue, limit_directory, rounds: self.rounds() }
    }
}

/// Measures one workload after the other.
///
/// # Errors
/// The first failure, or that the program was to end.
async fn measured(
    bench: &Bench,
    plans: &[Plan],
    target: String,
    started_at: Timestamp,
) -> Result<Report> {
    let bar = bar(plans.len());
    let measured = bench.measure_all(plans, |workload| {
        bar.set_message(workload);
        bar.inc(1);
    });
    let workloads = tokio::select! {
        measured = measured => measured,
        stopped = stopped() => Err(stopped),
    };
    bar.finish_and_clear();
    let limit_directory = bench.limit_directory.as_ref().map(|it| it.display().to_string());
    Ok(Report {
        pulk: env!("CARGO_PKG_VERSION").to_owned(),
        started_at,
        target,
        limit_directory,
        processors: std::thread::available_parallelism().map_or(1, Into::into),
        rounds: bench.rounds,
        workloads: workloads?,
    })
}

/// What came of the run; of two failures the first, the second being told at once.
fn with_end(measured: Result<Report>, end: Result<()>) -> Result<Report> {
    match (measured, end) {
        (measured, Ok(())) => measured,
        (Ok(_), Err(error)) => Err(error),
        (Err(first), Err(second)) => {
            eprintln!("pulk: {second}");
            Err(first)
        }
    }
}

/// Returns when somebody wants the program to end.
async fn stopped() -> Error {
    let listen = |kind| signal(kind).map_err(|reason| failed(format!("no signals: {reason}")));
    let (mut interrupt, mut terminate) =
        match (listen(SignalKind::interrupt()), listen(SignalKind::terminate())) {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => return error,
        };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    failed("stopped by a signal; nothing was measured to the end")
}

/// A bar on a terminal, nothing elsewhere.
fn bar(workloads: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(workloads as u64);
    match ProgressStyle::with_template("{wide_bar} {pos} of {len}  {msg}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
