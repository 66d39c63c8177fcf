//! Everything that clients and operators can ask a queue, as values that can be drawn and told.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use pulk::job::{Enqueued, Found, NewSchedule};
use pulk::queue::{
    Cancelled, Claim, Claimed, DeadEdit, DeadPage, DeadPurged, DeadQuery, Extended, Failed,
    Failure, JobPage, JobQuery, Limits, ManyReplayed, Next, Purge, PurgeDead, Purged, QueueView,
    Released, ReplayMany, ReplayView, SchedulePage, SchedulePut, ScheduleQuery, ScheduleView,
    Settle, SettleOutcome, Snapshot,
};
use pulk::{JobId, JobView, LeaseToken, NewJob, Queue};

/// One call on a queue.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// One job.
    Enqueue(Box<NewJob>),
    /// A batch.
    EnqueueMany(Vec<NewJob>),
    /// A question for jobs.
    Claim(Box<Claim>),
    /// The job is done.
    Ack(LeaseToken),
    /// The job is done, and this came of it.
    AckWithResult(LeaseToken, Bytes),
    /// The job failed.
    Fail(Failure),
    /// Acks and fails together.
    Settle(Settle),
    /// A longer lease, and progress.
    Extend(LeaseToken, Option<u64>, Option<u8>),
    /// The job back, perhaps for later.
    Release(LeaseToken, Option<u64>),
    /// A job.
    Job(JobId),
    /// A job or its result.
    Find(JobId),
    /// No more of this job.
    Cancel(JobId),
    /// All queues.
    Queues,
    /// One queue.
    Queue(String),
    /// Stop its claims.
    Pause(String),
    /// Let them go on.
    Resume(String),
    /// Limit what of a queue may run.
    SetLimits(String, Limits),
    /// Remove an empty queue.
    RemoveQueue(String),
    /// Remove many jobs of a queue.
    Purge(Purge),
    /// A page of jobs.
    Jobs(JobQuery),
    /// A page of dead letters.
    DeadLetters(DeadQuery),
    /// A dead letter.
    DeadLetter(JobId),
    /// Change a dead letter.
    EditDead(JobId, Box<DeadEdit>),
    /// Remove a dead letter.
    DeleteDead(JobId),
    /// Remove many.
    PurgeDead(PurgeDead),
    /// Put a dead letter back to work.
    Replay(JobId),
    /// Put many back.
    ReplayMany(ReplayMany),
    /// The background replays.
    Replays,
    /// One of them.
    ReplayStatus(u64),
    /// End one of them.
    CancelReplay(u64),
    /// What the next claim gets.
    ExplainNext,
    /// Make or replace a schedule.
    PutSchedule(String, Box<NewSchedule>),
    /// A schedule.
    Schedule(String),
    /// A page of them.
    Schedules(ScheduleQuery),
    /// Remove a schedule.
    RemoveSchedule(String),
    /// Let it make no jobs.
    PauseSchedule(String),
    /// Let it make them again.
    ResumeSchedule(String),
    /// Make one now.
    RunSchedule(String),
    /// The whole, for metrics.
    Snapshot,
    /// What time does.
    Tick,
    /// No more new jobs and claims.
    Drain,
    /// The orderly end.
    Close,
}

/// What a call gave when it was not refused.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each is what the call of its name gives")]
pub enum Answer {
    Done,
    Enqueued(Vec<Enqueued>),
    Claimed(Claimed),
    Failed(Failed),
    Outcomes(Vec<SettleOutcome>),
    Extended(Extended),
    Released(Released),
    Cancelled(Cancelled),
    Job(Box<JobView>),
    Found(Found),
    Queues(Vec<QueueView>),
    Queue(Box<QueueView>),
    Purged(Purged),
    Jobs(JobPage),
    DeadLetters(DeadPage),
    DeadPurged(DeadPurged),
    ManyReplayed(ManyReplayed),
    Replays(Vec<ReplayView>),
    Replay(ReplayView),
    Next(Box<Next>),
    SchedulePut(Box<SchedulePut>),
    Schedule(Box<ScheduleView>),
    Schedules(SchedulePage),
    Snapshot(Box<Snapshot>),
}

/// What a call came to.
pub type Told = pulk::Result<Answer>;

/// A call under way.
pub type Pending = Pin<Box<dyn Future<Output = Told>>>;

impl Command {
    /// The call itself. It is handed in when the future is first polled.
    #[must_use]
    pub fn call(self, queue: Queue) -> Pending {
        Box::pin(async move { self.run(&queue).await })
    }

    async fn run(self, queue: &Queue) -> Told {
        match self {
            Command::Enqueue(job) => {
                queue.enqueue(*job).await.map(|one| Answer::Enqueued(vec![one]))
            }
            Command::EnqueueMany(jobs) => queue.enqueue_many(jobs).await.map(Answer::Enqueued),
            Command::Claim(claim) => queue.claim(*claim).await.map(Answer::Claimed),
            Command::Ack(token) => queue.ack(token).await.map(done),
            Command::AckWithResult(token, result) => {
                queue.ack_with_result(token, result).await.map(done)
            }
            Command::Fail(failure) => queue.fail(failure).await.map(Answer::Failed),
            Command::Settle(settle) => queue.settle(settle).await.map(Answer::Outcomes),
            Command::Extend(token, lease_ms, progress) => {
                queue.extend(token, lease_ms, progress).await.map(Answer::Extended)
            }
            Command::Release(token, delay_ms) => {
                queue.release(token, delay_ms).await.map(Answer::Released)
            }
            Command::Cancel(id) => queue.cancel(id).await.map(Answer::Cancelled),
            Command::Tick => queue.tick().await.map(done),
            Command::Drain => queue.drain().await.map(done),
            Command::Close => queue.close().await.map(done),
            question_or_operator => question_or_operator.run_other(queue).await,
        }
    }

    async fn run_other(self, queue: &Queue) -> Told {
        match self {
            Command::Job(id) => queue.job(id).await.map(job),
            Command::Find(id) => queue.find(id).await.map(Answer::Found),
            Command::Queues => queue.queues().await.map(Answer::Queues),
            Command::Queue(name) => queue.queue(&name).await.map(one_queue),
            Command::Pause(name) => queue.pause(&name).await.map(one_queue),
            Command::Resume(name) => queue.resume(&name).await.map(one_queue),
            Command::SetLimits(name, limits) => {
                queue.set_limits(&name, limits).await.map(one_queue)
            }
            Command::RemoveQueue(name) => queue.remove_queue(&name).await.map(done),
            Command::Purge(purge) => queue.purge(purge).await.map(Answer::Purged),
            Command::Jobs(query) => queue.jobs(query).await.map(Answer::Jobs),
            Command::DeadLetters(query) => queue.dead_letters(query).await.map(Answer::DeadLetters),
            Command::DeadLetter(id) => queue.dead_letter(id).await.map(job),
            Command::EditDead(id, edit) => queue.edit_dead_letter(id, *edit).await.map(job),
            Command::DeleteDead(id) => queue.delete_dead_letter(id).await.map(done),
            Command::PurgeDead(purge) => {
                queue.purge_dead_letters(purge).await.map(Answer::DeadPurged)
            }
            Command::Replay(id) => queue.replay(id).await.map(|one| Answer::Enqueued(vec![one])),
            Command::ReplayMany(replay) => {
                queue.replay_many(replay).await.map(Answer::ManyReplayed)
            }
            Command::Replays => queue.replays().await.map(Answer::Replays),
            Command::ReplayStatus(id) => queue.replay_status(id).await.map(Answer::Replay),
            Command::CancelReplay(id) => queue.cancel_replay(id).await.map(Answer::Replay),
            Command::ExplainNext => {
                queue.explain_next().await.map(|(_, next)| Answer::Next(Box::new(next)))
            }
            Command::Snapshot => {
                queue.snapshot().await.map(|whole| Answer::Snapshot(Box::new(whole)))
            }
            of_schedules => of_schedules.run_of_schedules(queue).await,
        }
    }

    async fn run_of_schedules(self, queue: &Queue) -> Told {
        let one = |view: ScheduleView| Answer::Schedule(Box::new(view));
        match self {
            Command::PutSchedule(name, schedule) => {
                let put = queue.put_schedule(&name, *schedule).await;
                put.map(|put| Answer::SchedulePut(Box::new(put)))
            }
            Command::Schedule(name) => queue.schedule(&name).await.map(one),
            Command::Schedules(query) => queue.schedules(query).await.map(Answer::Schedules),
            Command::RemoveSchedule(name) => queue.remove_schedule(&name).await.map(done),
            Command::PauseSchedule(name) => queue.pause_schedule(&name).await.map(one),
            Command::ResumeSchedule(name) => queue.resume_schedule(&name).await.map(one),
            Command::RunSchedule(name) => {
                queue.run_schedule(&name).await.map(|job| Answer::Enqueued(vec![job]))
            }
            _ => Ok(Answer::Done),
        }
    }

    /// What it is called in statistics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Command::Enqueue(_) => "enqueue",
            Command::EnqueueMany(_) => "enqueue_many",
            Command::Claim(_) => "claim",
            Command::Ack(_) => "ack",
            Command::AckWithResult(..) => "ack_with_result",
            Command::Fail(_) => "fail",
            Command::Settle(_) => "settle",
            Command::Extend(..) => "extend",
            Command::Release(..) => "release",
            Command::Job(_) => "job",
            Command::Find(_) => "find",
            Command::Cancel(_) => "cancel",
            Command::Queues => "queues",
            Command::Queue(_) => "queue",
            Command::Pause(_) => "pause",
            Command::Resume(_) => "resume",
            Command::SetLimits(..) => "set_limits",
            Command::RemoveQueue(_) => "remove_queue",
            Command::Purge(_) => "purge",
            Command::Jobs(_) => "jobs",
            Command::DeadLetters(_) => "dead_letters",
            Command::DeadLetter(_) => "dead_letter",
            Command::EditDead(..) => "edit_dead_letter",
            Command::DeleteDead(_) => "delete_dead_letter",
            Command::PurgeDead(_) => "purge_dead_letters",
            Command::Replay(_) => "replay",
            Command::ReplayMany(_) => "replay_many",
            Command::Replays => "replays",
            Command::ReplayStatus(_) => "replay_status",
            Command::CancelReplay(_) => "cancel_replay",
            Command::ExplainNext => "explain_next",
            Command::PutSchedule(..) => "put_schedule",
            Command::Schedule(_) => "schedule",
            Command::Schedules(_) => "schedules",
            Command::RemoveSchedule(_) => "remove_schedule",
            Command::PauseSchedule(_) => "pause_schedule",
            Command::ResumeSchedule(_) => "resume_schedule",
            Command::RunSchedule(_) => "run_schedule",
            Command::Snapshot => "snapshot",
            Command::Tick => "tick",
            Command::Drain => "drain",
            Command::Close => "close",
        }
    }

    /// True for calls that are refused from the moment on at which the queue drains.
    #[must_use]
    pub fn is_refused_while_draining(&self) -> bool {
        match self {
            Command::Enqueue(_)
            | Command::EnqueueMany(_)
            | Command::Replay(_)
            | Command::ReplayMany(_)
            | Command::RunSchedule(_) => true,
            Command::Claim(claim) => claim.settle.is_empty(),
            _ => false,
        }
    }
}

fn done((): ()) -> Answer {
    Answer::Done
}

fn job(view: JobView) -> Answer {
    Answer::Job(Box::new(view))
}

fn one_queue(view: QueueView) -> Answer {
    Answer::Queue(Box::new(view))
}
