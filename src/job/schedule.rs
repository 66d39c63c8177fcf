//! What an operator hands in to have a job made again and again.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::clock::Timestamp;
use crate::error::{Error, Result};
use crate::job::new_job::validate_name;
use crate::job::{NewJob, RunAt, limits};

/// The header that names the schedule which made a job.
pub const SCHEDULE_HEADER: &str = "pulk-schedule";
/// The header with the moment for which a schedule made a job.
pub const SCHEDULED_AT_HEADER: &str = "pulk-scheduled-at";
/// Most headers in the job of a schedule: it adds two of its own.
const HEADERS_MAX: usize = limits::HEADERS_MAX - 2;

/// What becomes of the moments that nobody was there to see in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum CatchUp {
    /// They are skipped.
    None,
    /// The last of them is made up for, once.
    #[default]
    One,
    /// Each is made up for, the last 1,000 at most.
    All,
}

/// A job to be made at moments that a cron expression names.
///
/// ```
/// use pulk::NewJob;
/// use pulk::job::NewSchedule;
///
/// let nightly = NewSchedule::new("30 2 * * *", NewJob::new("report")).time_zone("Europe/Berlin");
/// # assert!(nightly.validate("nightly").is_ok());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NewSchedule {
    /// Minute, hour, day of the month, month, day of the week; with a sixth field in front, the
    /// second. Or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`. At most 256 bytes.
    pub cron: String,
    /// The IANA name of the time zone in which `cron` is meant.
    pub time_zone: String,
    /// The job. It runs as soon as it is made, has no idempotency key, concurrency key or ordering
    /// key, and its payload is at most 16 KiB.
    pub job: NewJob,
    /// What becomes of missed moments.
    pub catch_up: CatchUp,
    /// It makes no jobs until it is resumed.
    pub paused: bool,
}

impl NewSchedule {
    /// The time zone of a schedule that names none.
    pub const DEFAULT_TIME_ZONE: &str = "UTC";

    /// This job at the moments of `cron` in UTC.
    #[must_use]
    pub fn new(cron: impl Into<String>, job: NewJob) -> Self {
        NewSchedule {
            cron: cron.into(),
            time_zone: Self::DEFAULT_TIME_ZONE.to_owned(),
            job,
            catch_up: CatchUp::default(),
            paused: false,
        }
    }

    /// Means `cron` in this time zone.
    #[must_use]
    pub fn time_zone(mut self, time_zone: impl Into<String>) -> Self {
        self.time_zone = time_zone.into();
        self
    }

    /// Says what becomes of missed moments.
    #[must_use]
    pub fn catch_up(mut self, catch_up: CatchUp) -> Self {
        self.catch_up = catch_up;
        self
    }

    /// Checks everything but `cron` and `time_zone`, for a schedule of this name.
    ///
    /// # Errors
    /// [`Invalid`](crate::ErrorKind::Invalid) or [`TooLarge`](crate::ErrorKind::TooLarge), the
    /// field named as `job.kind`.
    pub fn validate(&self, name: &str) -> Result<()> {
        validate_name("name", name)?;
        self.validate_job(name).map_err(|error| error.inside("job"))
    }

    fn validate_job(&self, name: &str) -> Result<()> {
        let job = &self.job;
        match job.run_at {
            RunAt::Now => {}
            RunAt::DelayMs(_) => return Err(moment_is_the_schedules("delay_ms")),
            RunAt::At(_) => return Err(moment_is_the_schedules("run_at")),
        }
        if job.idempotency_key.is_some() {
            let message = "a schedule makes each of its jobs once already; leave it out";
            return Err(Error::invalid("idempotency_key", message));
        }
        for (field, key) in
            [("concurrency_key", &job.concurrency_key), ("ordering_key", &job.ordering_key)]
        {
            if key.is_some() {
                let message = "a schedule's job can't have one; give it a unique key, so that it \
                               is not made again before the one before is done";
                return Err(Error::invalid(field, message));
            }
        }
        if job.payload.bytes().len() > limits::SCHEDULE_PAYLOAD_BYTES_MAX {
            let most = limits::SCHEDULE_PAYLOAD_BYTES_MAX;
            let bytes = job.payload.bytes().len();
            let message = format!(
                "{bytes} bytes are too many in a schedule; at most {most} (store large data \
                 elsewhere and name where it is)"
            );
            return Err(Error::too_large("payload", message));
        }
        for own in [SCHEDULE_HEADER, SCHEDULED_AT_HEADER] {
            if job.headers.contains_key(own) {
                let message = format!("{own} is set by the schedule itself; leave it out");
                return Err(Error::invalid("headers", message));
            }
        }
        if job.headers.len() > HEADERS_MAX {
            let count = job.headers.len();
            let message = format!("{count} are too many in a schedule; at most {HEADERS_MAX}");
            return Err(Error::invalid("headers", message));
        }
        self.job_for(name, Timestamp::MAX).validate()
    }

    /// The job that a schedule of this name makes for a moment.
    #[must_use]
    pub fn job_for(&self, name: &str, moment: Timestamp) -> NewJob {
        let mut headers: BTreeMap<String, String> = self.job.headers.clone();
        headers.insert(SCHEDULE_HEADER.to_owned(), name.to_owned());
        headers.insert(SCHEDULED_AT_HEADER.to_owned(), moment.to_string());
        NewJob { headers, ..self.job.clone() }
    }
}

fn moment_is_the_schedules(field: &str) -> Error {
    Error::invalid(field, "the schedule says when its jobs run; leave it out")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Payload, Unique};

    #[track_caller]
    fn refused(job: NewJob) -> String {
        let schedule = NewSchedule::new("@daily", job);
        schedule.validate("s").unwrap_err().field().unwrap().to_owned()
    }

    #[test]
    fn what_the_job_of_a_schedule_cannot_have_is_refused_by_name() {
        let good = NewJob::new("report").unique(Unique::new("report"));
        assert!(NewSchedule::new("@daily", good.clone()).validate("a/b").is_ok());
        let later = good.clone().run_at(RunAt::DelayMs(0));
        assert_eq!(refused(later), "job.delay_ms");
        assert_eq!(refused(good.clone().run_at(RunAt::At(Timestamp::MAX))), "job.run_at");
        assert_eq!(refused(good.clone().idempotency_key("k")), "job.idempotency_key");
        let bytes = vec![0; limits::SCHEDULE_PAYLOAD_BYTES_MAX + 1];
        let large = good.clone().payload(Payload::Binary(bytes.into()));
        assert_eq!(refused(large), "job.payload");
        assert_eq!(refused(NewJob::new("")), "job.kind");
        let headers = |names: Vec<String>| NewJob {
            headers: names.into_iter().map(|name| (name, "x".to_owned())).collect(),
            ..good.clone()
        };
        assert_eq!(refused(headers(vec![SCHEDULE_HEADER.to_owned()])), "job.headers");
        assert_eq!(refused(headers((0..31).map(|n| n.to_string()).collect())), "job.headers");
        let most = headers((0..30).map(|n| n.to_string()).collect());
        assert!(NewSchedule::new("@daily", most).validate("s").is_ok());
        let bad_name = NewSchedule::new("@daily", good).validate("a b").unwrap_err();
        assert_eq!(bad_name.field(), Some("name"));
    }

    #[test]
    fn a_job_tells_its_schedule_and_its_moment() {
        let schedule = NewSchedule::new("@daily", NewJob::new("report"));
        let job = schedule.job_for("nightly", Timestamp::from_ms(1_800_000_000_000));
        assert_eq!(job.headers[SCHEDULE_HEADER], "nightly");
        assert_eq!(job.headers[SCHEDULED_AT_HEADER], "2027-01-15T08:00:00.000Z");
    }
}
