//! What the load is made of.

use std::time::{SystemTime, UNIX_EPOCH};

/// Queues that workers ask at a pace; one more is polled.
const QUEUES: u64 = 6;
/// The queue of the workers that wait for jobs.
pub(crate) const POLLED: &str = "polled";
/// Longer than any run.
const LATER_MS: u64 = 30 * 24 * 3_600_000;
/// How many jobs are in a batch, and how many calls of a hundred are batches.
pub(crate) const BATCH: u64 = 20;
const BATCHES_PERCENT: u64 = 4;
/// How many jobs a large claim takes, and how many claims of a hundred are large.
pub(crate) const CLAIM: u64 = 10;
const LARGE_CLAIMS_PERCENT: u64 = 20;

/// Jobs of an enqueue call on average.
pub(crate) const JOBS_PER_ENQUEUE: f64 = (100 + BATCHES_PERCENT * (BATCH - 1)) as f64 / 100.0;
/// Jobs that a claim takes at most, on average.
pub(crate) const JOBS_PER_CLAIM: f64 = (100 + LARGE_CLAIMS_PERCENT * (CLAIM - 1)) as f64 / 100.0;

/// A source of numbers that look random; quick, and good enough for a mix.
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(number: u64) -> Chance {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        Chance((now ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15)) | 1)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % end
    }
}

/// One call that enqueues.
pub(crate) struct Enqueue {
    pub(crate) path: &'static str,
    pub(crate) body: String,
    pub(crate) jobs: u64,
    /// How many of them are delayed beyond the end, and the bytes of their payloads.
    pub(crate) later: u64,
    pub(crate) later_bytes: u64,
}

impl Enqueue {
    pub(crate) fn new(chance: &mut Chance) -> Enqueue {
        let is_batch = chance.below(100) < BATCHES_PERCENT;
        let jobs = if is_batch { BATCH } else { 1 };
        let path = if is_batch { "/v1/jobs/batch" } else { "/v1/jobs" };
        let mut call = Enqueue { path, body: String::new(), jobs, later: 0, later_bytes: 0 };
        let texts: Vec<String> = (0..jobs).map(|_| call.job(chance)).collect();
        let texts = texts.join(",");
        call.body = if is_batch { format!(r#"{{"jobs":[{texts}]}}"#) } else { texts };
        call
    }

    fn job(&mut self, chance: &mut Chance) -> String {
        let kind = kind(chance);
        let payload_bytes = match chance.below(100) {
            0 => 16 * 1024,
            1..=5 => 1024,
            _ => 256,
        };
        let queue = match chance.below(50) {
            0 => POLLED.to_owned(),
            _ => format!("q{}", chance.below(QUEUES)),
        };
        let priority = match chance.below(20) {
            0 => "critical",
            1..=3 => "high",
            4..=13 => "default",
            14..=17 => "low",
            _ => "bulk",
        };
        let more = match (kind, chance.below(100)) {
            ("later", _) => {
                self.later += 1;
                self.later_bytes += payload_bytes;
                format!(r#","delay_ms":{LATER_MS}"#)
            }
            ("lost", _) => r#","max_interruptions":1000"#.to_owned(),
            ("work", 0) => format!(r#","unique":{{"key":"{:x}"}}"#, chance.below(u64::MAX)),
            ("work", 1) => format!(r#","concurrency_key":"{}""#, chance.below(1_000)),
            ("work", 2) => r#","expires_in_ms":86400000"#.to_owned(),
            _ => String::new(),
        };
        let payload = "x".repeat(payload_bytes as usize - 2);
        let head = format!(r#""queue":"{queue}","kind":"{kind}","priority":"{priority}""#);
        format!(r#"{{{head},"payload":"{payload}"{more}}}"#)
    }
}

/// What becomes of a job, which its worker knows by this.
fn kind(chance: &mut Chance) -> &'static str {
    match chance.below(1_000) {
        // The stragglers: delayed beyond the end, and dead after a retry.
        0..=4 => "later",
        5..=9 => "doomed",
        // Fails once, is given back once, is taken by a worker that vanishes with it.
        10..=29 => "flaky",
        30..=34 => "return",
        35 => "lost",
        _ => "work",
    }
}

/// How many jobs a claim asks for.
pub(crate) fn claim_limit(chance: &mut Chance) -> u64 {
    if chance.below(100) < LARGE_CLAIMS_PERCENT { CLAIM } else { 1 }
}

/// The queues that workers ask at a pace, as JSON.
pub(crate) fn paced_queues() -> String {
    let names: Vec<String> = (0..QUEUES).map(|number| format!(r#""q{number}""#)).collect();
    names.join(",")
}
