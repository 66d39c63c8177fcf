//! One request for one job, from its admission to its outcome.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::breaker::{Admission, Pass, Verdict};
use super::client::NoAnswer;
use super::target::Target;
use super::{Shared, request};
use crate::clock::Timestamp;
use crate::worker::{Job, Outcome};

/// Longer than any attempt may take.
const NO_LIMIT: Duration = Duration::from_secs(366 * 24 * 3_600);

/// The right to send one request. Dropped before its end it is told as given up.
pub(super) struct Exchange {
    shared: Arc<Shared>,
    target: Arc<Target>,
    pass: Pass,
    began: Instant,
    deadline: Option<Timestamp>,
    is_told: bool,
}

impl Exchange {
    /// Asks the target; `Err` says how long it takes no request.
    pub(super) fn begin(
        shared: &Arc<Shared>,
        target: &Arc<Target>,
        deadline: Option<Timestamp>,
    ) -> Result<Exchange, Duration> {
        match target.admit() {
            Admission::Granted(pass) => Ok(Exchange {
                shared: shared.clone(),
                target: target.clone(),
                pass,
                began: Instant::now(),
                deadline,
                is_told: false,
            }),
            Admission::Refused(delay) => Err(delay),
        }
    }

    /// Sends it and waits for the answer.
    pub(super) async fn run(mut self, job: Job) -> Outcome {
        let config = &self.target.config;
        let now = self.shared.clock.now();
        let headers = request::headers(&job, &config.url, config.secret.as_ref(), now);
        let body = job.payload.bytes().clone();
        let limit = self.limit(now);
        let posted = self.target.client.post(&config.url, headers, body);
        let posted = timeout_at(Instant::now() + limit, posted).await;
        let name = &config.name;
        let (outcome, verdict, word) = match posted {
            Ok(Ok(answer)) => {
                let now = self.shared.clock.now();
                let (outcome, verdict) = self.shared.answers.judge(&answer, now);
                let word = in_a_word(&outcome);
                (outcome, verdict, word)
            }
            Ok(Err(NoAnswer::Unreachable(reason))) => {
                let error = format!("the target {name} can't be reached: {reason}");
                (Outcome::fail(error), Verdict::Unreachable, "unreachable")
            }
            Ok(Err(NoAnswer::Broken(reason))) => {
                let error = format!("the connection to the target {name} broke: {reason}");
                (Outcome::fail(error), Verdict::Failed, "broken")
            }
            Err(_) => {
                let error = format!(
                    "timed out: the target {name} did not answer within {} ms",
                    limit.as_millis()
                );
                (Outcome::fail(error), Verdict::Failed, "timed_out")
            }
        };
        let was_known = self.tell(verdict, word);
        // Nothing of it was sent, and that says nothing new: the job is as it was.
        if verdict == Verdict::Unreachable && was_known {
            return Outcome::Snooze { delay_ms: 0 };
        }
        outcome
    }

    /// The job's own time, and at most the target's.
    fn limit(&self, now: Timestamp) -> Duration {
        let target = Some(self.target.config.timeout_ms).filter(|timeout_ms| *timeout_ms > 0);
        let job = self.deadline.map(|deadline| deadline.ms_since(now));
        job.into_iter().chain(target).min().map_or(NO_LIMIT, Duration::from_millis)
    }

    fn tell(&mut self, verdict: Verdict, word: &str) -> bool {
        self.is_told = true;
        let seconds = self.began.elapsed().as_secs_f64();
        if let Some(metrics) = self.shared.metrics.get() {
            metrics.pushed(&self.target.config.name, word, seconds);
        }
        self.target.tell(self.pass, verdict)
    }
}

impl Drop for Exchange {
    /// The worker gave it up: at the job's deadline, or because the job was cancelled or the
    /// worker stops.
    fn drop(&mut self) {
        if self.is_told {
            return;
        }
        let is_late = self.deadline.is_some_and(|deadline| self.shared.clock.now() >= deadline);
        match is_late {
            true => self.tell(Verdict::Failed, "timed_out"),
            false => self.tell(Verdict::Unknown, "given_up"),
        };
    }
}

/// What metrics call it.
fn in_a_word(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Done | Outcome::DoneWith(_) => "acked",
        Outcome::Fail { .. } => "failed",
        Outcome::Reject { .. } => "rejected",
        Outcome::Snooze { .. } => "snoozed",
    }
}
