//! Sends jobs in batches, and waits where the node has no room.
//!
//! A batch is taken whole or not at all. One that finds no room is halved until it fits; only a
//! single job that finds none waits, as long as the node says.

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::super::client::{Failure, Node, Refusal};
use super::super::{output, table};
use super::lines::{Line, Lines};
use crate::error::{Error, ErrorKind, Result};

/// Most jobs sent at once.
const BATCH_JOBS_MAX: usize = 1_000;
/// Most bytes sent at once, unless a single job is longer.
pub(super) const BATCH_BYTES_MAX: usize = 3 << 20;
/// The longest single wait, in seconds.
const WAIT_S_MAX: u64 = 300;
/// How long one job may wait for room in all, in seconds.
const WAITS_S_MAX: u64 = 600;

/// How to send.
#[derive(Clone, Copy)]
pub(super) struct Options {
    pub(super) waits: bool,
    pub(super) prints_ids: bool,
    pub(super) draws: bool,
}

/// Sends all lines.
///
/// # Errors
/// When a line is wrong, the node is gone, or it has no room for too long. The sentence says what
/// was enqueued before, and where to go on.
pub(super) fn send(node: &Node, lines: Lines, options: Options) -> Result<()> {
    let bar = bar(options.draws, lines.bytes);
    let pending = VecDeque::new();
    let mut sender = Sender { node, lines, options, bar, pending, is_at_end: false, enqueued: 0 };
    let sent = sender.send_all();
    sender.bar.finish_and_clear();
    sent?;
    let told = format!("{} enqueued\n", table::jobs(sender.enqueued));
    if options.prints_ids {
        eprint!("{told}");
        return Ok(());
    }
    output::print(&told)
}

struct Sender<'a> {
    node: &'a Node,
    lines: Lines,
    options: Options,
    bar: ProgressBar,
    /// Read and not yet enqueued.
    pending: VecDeque<Line>,
    is_at_end: bool,
    enqueued: u64,
}

impl Sender<'_> {
    fn send_all(&mut self) -> Result<()> {
        loop {
            let filled = self.fill();
            match filled {
                Ok(()) if self.pending.is_empty() => return Ok(()),
                Ok(()) => self.send_some()?,
                Err(wrong) => {
                    while !self.pending.is_empty() {
                        self.send_some()?;
                    }
                    let line = self.lines.number();
                    return Err(self.stopped(wrong.kind(), &wrong.to_string(), line));
                }
            }
        }
    }

    /// Reads up to a full batch; afterwards nothing is pending only at the end of all. After an
    /// error, what was read before it is pending.
    fn fill(&mut self) -> Result<()> {
        let mut bytes: usize = self.pending.iter().map(|line| line.job.len() + 1).sum();
        while !self.is_at_end && self.pending.len() < BATCH_JOBS_MAX && bytes < BATCH_BYTES_MAX {
            match self.lines.next()? {
                Some(line) => {
                    bytes += line.job.len() + 1;
                    self.pending.push_back(line);
                }
                None => self.is_at_end = true,
            }
        }
        Ok(())
    }

    /// Sends a first part of what is pending: as much as the node has room for.
    fn send_some(&mut self) -> Result<()> {
        let mut jobs = self.fitting();
        let mut waited_s = 0;
        loop {
            let refusal = match self.node.post("/v1/jobs/batch", self.body(jobs)) {
                Ok(answer) => {
                    self.done(jobs);
                    return match self.options.prints_ids {
                        true => output::print(&answer.text()),
                        false => Ok(()),
                    };
                }
                Err(Failure::Refused(refusal)) => refusal,
                Err(Failure::Unreachable(sentence)) => {
                    return Err(self.stopped(ErrorKind::Conflict, &sentence, self.first_line()));
                }
                Err(Failure::Lost(sentence)) => return Err(self.in_doubt(&sentence, jobs)),
            };
            if !may_pass(&refusal) {
                return Err(self.refused(refusal, jobs));
            }
            let wait_s = refusal.retry_after_s.unwrap_or(1).clamp(1, WAIT_S_MAX);
            if !self.options.waits || waited_s + wait_s > WAITS_S_MAX {
                return Err(self.refused(refusal, jobs));
            }
            if refusal.code == "queue_full" && jobs > 1 {
                jobs /= 2;
                continue;
            }
            self.wait(&refusal.sentence, wait_s, waited_s == 0);
            waited_s += wait_s;
        }
    }

    /// How many of the pending lines go into one batch.
    fn fitting(&self) -> usize {
        let mut bytes = 0;
        let fitting = self.pending.iter().take(BATCH_JOBS_MAX).take_while(|line| {
            bytes += line.job.len() + 1;
            bytes <= BATCH_BYTES_MAX
        });
        fitting.count().max(1)
    }

    fn body(&self, jobs: usize) -> Vec<u8> {
        let mut body = b"{\"jobs\":[".to_vec();
        for (number, line) in self.pending.iter().take(jobs).enumerate() {
            if number > 0 {
                body.push(b',');
            }
            body.extend_from_slice(&line.job);
        }
        body.extend_from_slice(b"]}");
        body
    }

    fn done(&mut self, jobs: usize) {
        self.pending.drain(..jobs.min(self.pending.len()));
        self.enqueued += jobs as u64;
        let pending: u64 = self.pending.iter().map(|line| line.job.len() as u64 + 1).sum();
        self.bar.set_position(self.lines.bytes_read.saturating_sub(pending));
        self.bar.set_message(table::jobs(self.enqueued));
    }

    fn wait(&self, sentence: &str, wait_s: u64, is_first: bool) {
        if self.options.draws {
            self.bar.set_message(format!("{}; waits: {sentence}", table::jobs(self.enqueued)));
        } else if is_first {
            eprintln!("pulk: waits {wait_s} s, as often as needed: {sentence}");
        }
        thread::sleep(Duration::from_secs(wait_s));
    }

    fn first_line(&self) -> u64 {
        self.pending.front().map_or(self.lines.number(), |line| line.number)
    }

    /// The node refused a batch: the line at fault, where it names one of its jobs.
    fn refused(&self, refusal: Refusal, jobs: usize) -> Error {
        let place = refusal.field.as_deref().and_then(|field| field.strip_prefix("jobs["));
        let place = place.and_then(|rest| rest.split_once(']')?.0.parse::<usize>().ok());
        let line = place.and_then(|place| self.pending.get(place)).map(|line| line.number);
        let sentence = match (place, line) {
            (Some(place), Some(line)) => {
                let said = refusal.sentence.replace(&format!("jobs[{place}]."), "");
                format!("line {line}: {said}")
            }
            _ if jobs == 1 => format!("line {}: {}", self.first_line(), refusal.sentence),
            _ => refusal.sentence.clone(),
        };
        let kind = Error::from(Failure::Refused(refusal)).kind();
        self.stopped(kind, &sentence, self.first_line())
    }

    fn stopped(&self, kind: ErrorKind, sentence: &str, from_line: u64) -> Error {
        let before = table::jobs(self.enqueued);
        let sentence = format!(
            "{sentence}; {before} enqueued before, none from line {from_line} on: go on with \
             --from-line {from_line}"
        );
        Error::new(kind, sentence)
    }

    fn in_doubt(&self, sentence: &str, jobs: usize) -> Error {
        let (first, before) = (self.first_line(), table::jobs(self.enqueued));
        let last = self.pending.get(jobs - 1).map_or(first, |line| line.number);
        let sentence = format!(
            "{sentence}; {before} enqueued before; look whether those of lines {first} to {last} \
             are there before you go on with --from-line"
        );
        Error::new(ErrorKind::Conflict, sentence)
    }
}

/// True when the same call may be taken later.
fn may_pass(refusal: &Refusal) -> bool {
    ["queue_full", "disk_full", "starting", "draining", "too_many_connections"]
        .contains(&refusal.code.as_str())
}

fn bar(draws: bool, bytes: Option<u64>) -> ProgressBar {
    if !draws {
        return ProgressBar::hidden();
    }
    let (bar, style) = match bytes {
        Some(bytes) => (
            ProgressBar::new(bytes),
            "{wide_bar} {percent:>3} %  {bytes_per_sec}  {eta} left  {msg}",
        ),
        None => (ProgressBar::new_spinner(), "{spinner} {bytes}  {bytes_per_sec}  {msg}"),
    };
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
