//! pulk and other queues through the same workloads; `run` installs and builds what it needs.

mod load;
mod measure;
mod peer;
mod peers;
mod process;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::measure::Size;
use crate::peer::Peer;
use crate::table::{Cell, Row};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Jobs of a workload with single calls; a client alone does a tenth, batches ten times that.
    #[arg(long, default_value_t = 100_000)]
    jobs: u64,
    /// Jobs that wait when memory, disk and the restart are looked at; 0 leaves that out.
    #[arg(long, default_value_t = 1_000_000)]
    backlog: u64,
    /// Rounds, of which the median counts.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// A workload ends after so many seconds, also when it has not done its jobs.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Only these queues.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// One round with few jobs: it shows that all works.
    #[arg(long)]
    quick: bool,
    /// Where the servers' data lies while they run.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    dir: PathBuf,
    /// Also writes all values there, those of each round among them.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// pulk's HTTP server with a handler that does nothing; the bench starts it itself.
    #[command(hide = true)]
    EmptyServer { address: String },
}

fn main() -> Result<ExitCode> {
    let mut arguments = Arguments::parse();
    if let Some(Command::EmptyServer { address }) = &arguments.command {
        peers::http::serve(address)?;
        return Ok(ExitCode::SUCCESS);
    }
    if arguments.quick {
        (arguments.jobs, arguments.backlog, arguments.rounds) = (2_000, 10_000, 1);
    }
    // One thread for all clients: the other processor is the server's.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminated = signal(SignalKind::terminate())?;
        // What is given up here kills its server when it is dropped.
        tokio::select! {
            code = run(&arguments) => code,
            _ = tokio::signal::ctrl_c() => Ok(ExitCode::FAILURE),
            _ = terminated.recv() => Ok(ExitCode::FAILURE),
        }
    })
}

async fn run(arguments: &Arguments) -> Result<ExitCode> {
    let size = Size {
        jobs: arguments.jobs,
        backlog: arguments.backlog,
        limit_ms: arguments.seconds * 1_000,
    };
    ensure!(arguments.rounds > 0 && size.jobs > 0, "nothing to measure");
    let all = peers::all();
    for name in &arguments.only {
        let known = all.iter().any(|peer| peer.name() == name);
        ensure!(known, "--only {name}: there is no such queue");
    }
    let chosen = |peer: &dyn Peer| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == peer.name())
    };
    let mut measured: Vec<(Box<dyn Peer>, Row)> = Vec::new();
    for peer in all.into_iter().filter(|peer| chosen(peer.as_ref())) {
        let row = installed(peer.as_ref());
        measured.push((peer, row));
    }
    for number in 0..arguments.rounds {
        eprintln!("round {} of {}", number + 1, arguments.rounds);
        for (peer, row) in measured.iter_mut().filter(|(_, row)| row.errors.is_empty()) {
            let done = measure::round(peer.as_ref(), &arguments.dir, &size, row).await;
            note(row, done, 0..6);
        }
    }
    for (peer, row) in &mut measured {
        if size.backlog > 0 && row.errors.is_empty() && !peer.has_only_enqueues() {
            let done = measure::backlog(peer.as_ref(), &arguments.dir, &size, row).await;
            note(row, done, 6..9);
        }
    }
    let rows: Vec<Row> = measured.into_iter().map(|(_, row)| row).collect();
    report(arguments, &rows)
}

fn installed(peer: &dyn Peer) -> Row {
    let values = std::array::from_fn(|_| Cell::Nothing);
    let (version, errors) = match peer.version() {
        Ok(version) => (version, Vec::new()),
        Err(error) => ("?".into(), vec![format!("{error:#}")]),
    };
    let mut row = Row { peer: peer.name(), version, values, errors };
    if !row.errors.is_empty() {
        row.values.fill(Cell::Failed("not installed".into()));
    }
    row
}

/// A failure stands in every cell that is empty because of it, and the others go on.
fn note(row: &mut Row, done: Result<()>, columns: std::ops::Range<usize>) {
    let Err(error) = done else { return };
    eprintln!("{}: failed: {error:#}", row.peer);
    row.errors.push(format!("{error:#}"));
    for cell in row.values.get_mut(columns).into_iter().flatten() {
        if *cell == Cell::Nothing {
            *cell = Cell::Failed("failed".into());
        }
    }
}

fn report(arguments: &Arguments, rows: &[Row]) -> Result<ExitCode> {
    println!("{}\n", table::markdown(rows));
    let versions = rows.iter().map(|row| format!("{} {}", row.peer, row.version));
    println!("Versions: {}.", versions.collect::<Vec<_>>().join(", "));
    println!("In parentheses: the ratio to pulk. {} rounds.", arguments.rounds);
    for row in rows {
        row.errors.iter().for_each(|error| println!("{}: {error}", row.peer));
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_vec_pretty(&rows)?)?;
    }
    let failed = rows.iter().any(|row| !row.errors.is_empty());
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
