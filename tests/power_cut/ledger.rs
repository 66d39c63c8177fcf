//! What must be true of every job after a power cut at some moment, given who was told what
//! before it.
//!
//! # Invariants
//! - L1 What was answered has happened, and what must have happened before it.
//! - L2 Of what was not answered, whatever had been asked has happened whole or not at all.
//! - L3 Nothing else has happened.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use pulk_proof_disk::Operation;

use crate::clients::{Asked, Call, Held, Keys};
use crate::recording::Recording;

/// What a job may be found as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Is {
    Absent,
    Waiting,
    Later,
    Running,
    Retrying,
    Dead,
}

impl Is {
    /// The words of the API for it.
    pub fn states(self) -> &'static [&'static str] {
        match self {
            Is::Absent => &["absent"],
            Is::Waiting => &["ready", "scheduled"],
            Is::Later => &["scheduled"],
            Is::Running => &["running"],
            Is::Retrying => &["retrying", "ready"],
            Is::Dead => &["dead"],
        }
    }
}

/// Something that happened to a job, in the order of (delivery, step).
#[derive(Clone, Debug)]
struct Event {
    delivery: u64,
    step: u8,
    becomes: Is,
    /// The call, by its place among all calls.
    call: usize,
    token: Option<String>,
}

#[derive(Clone, Debug, Default)]
struct Job {
    name: String,
    events: Vec<Event>,
    keys: Keys,
}

/// All calls, and when they were answered.
pub struct Ledger {
    calls: Vec<Call>,
    /// For each call the operation at which its answer began to be sent.
    answered_at: Vec<Option<usize>>,
    /// For each call the operation before which it can't have been asked.
    asked_at: Vec<usize>,
    jobs: BTreeMap<String, Job>,
    /// Names of jobs whose ids nobody was told.
    untold: BTreeSet<String>,
    /// When the first claim was made whose answer nobody heard.
    unheard_claim_at: Option<usize>,
}

/// What may be found after a power cut.
pub struct Expected<'a> {
    /// For each id: as what it may be found, and the name in its payload.
    pub jobs: BTreeMap<&'a str, (BTreeSet<Is>, &'a str)>,
    /// Batches of which all jobs are there or none.
    pub batches: Vec<&'a [String]>,
    /// Names of jobs that may be there under ids that nobody knows.
    pub untold: BTreeSet<&'a str>,
    /// Tokens that must be good.
    pub good: Vec<(&'a str, &'a str)>,
    /// Tokens that must be good no more.
    pub spent: Vec<(&'a str, &'a str)>,
    /// Jobs that hold a unique key.
    pub unique: Vec<(&'a str, &'a Keys)>,
    /// Jobs that were enqueued under a key which is remembered.
    pub idempotent: Vec<(&'a str, &'a Keys)>,
}

impl Ledger {
    pub fn new(recording: &Recording, calls: Vec<Call>) -> Ledger {
        let answers = answers(recording);
        let at = |call: &Call| answers.get(&(call.life, call.port, call.nth)).copied();
        let answered_at: Vec<Option<usize>> = calls.iter().map(at).collect();
        let before =
            |call: &Call| answers.get(&(call.life, call.port, call.nth.checked_sub(1)?)).copied();
        let asked_at = calls.iter().map(|call| before(call).unwrap_or(0)).collect();
        for (call, answered) in calls.iter().zip(&answered_at) {
            assert!(call.told.is_none() || answered.is_some(), "no answer was seen to {call:?}");
        }
        let mut ledger = Ledger {
            calls: Vec::new(),
            answered_at,
            asked_at,
            jobs: BTreeMap::new(),
            untold: BTreeSet::new(),
            unheard_claim_at: None,
        };
        for (number, call) in calls.iter().enumerate() {
            ledger.note(number, call);
        }
        ledger.calls = calls;
        for job in ledger.jobs.values_mut() {
            job.events.sort_by_key(|event| (event.delivery, event.step));
        }
        ledger
    }

    /// Notes what a call made of jobs, if it was carried out.
    fn note(&mut self, number: usize, call: &Call) {
        match (&call.asked, &call.told) {
            (Asked::Enqueue { names, later, keys }, Some(told)) => {
                assert_eq!(names.len(), told.ids.len());
                let becomes = if *later { Is::Later } else { Is::Waiting };
                for (id, name) in told.ids.iter().zip(names) {
                    let job = self.event(number, id, (0, 0), becomes);
                    (job.name, job.keys) = (name.clone(), keys.clone());
                }
            }
            (Asked::Enqueue { names, .. }, None) => self.untold.extend(names.iter().cloned()),
            (Asked::Claim { acks }, told) => {
                self.ended(number, acks, Is::Absent);
                for held in told.iter().flat_map(|told| &told.jobs) {
                    let job = self.event(number, &held.id, (held.delivery(), 0), Is::Running);
                    job.name.clone_from(&held.name);
                    job.events.last_mut().unwrap().token = Some(held.token.clone());
                }
                if told.is_none() {
                    let asked_at = self.asked_at[number];
                    let first = self.unheard_claim_at.get_or_insert(asked_at);
                    *first = asked_at.min(*first);
                }
            }
            (Asked::Ack { held }, _) => self.ended(number, held, Is::Absent),
            (Asked::Retry { held }, _) => self.ended(number, [held], Is::Retrying),
            (Asked::Bury { held }, _) => self.ended(number, [held], Is::Dead),
            (Asked::Release { held, later }, _) => {
                self.ended(number, [held], if *later { Is::Later } else { Is::Waiting });
            }
            (Asked::Cancel { id }, _) => {
                self.event(number, id, (0, 1), Is::Absent);
            }
            (Asked::Replay { id, delivery }, _) => {
                self.event(number, id, (*delivery, 2), Is::Waiting);
            }
            (Asked::Extend { .. }, _) => {}
        }
    }

    fn ended<'h>(&mut self, call: usize, held: impl IntoIterator<Item = &'h Held>, becomes: Is) {
        for held in held {
            self.event(call, &held.id, (held.delivery(), 1), becomes);
        }
    }

    fn event(
        &mut self,
        call: usize,
        id: &str,
        (delivery, step): (u64, u8),
        becomes: Is,
    ) -> &mut Job {
        let job = self.jobs.entry(id.to_owned()).or_default();
        job.events.push(Event { delivery, step, becomes, call, token: None });
        job
    }

    /// What may be found after a power cut when so many operations were done.
    pub fn expected(&self, cut: usize) -> Expected<'_> {
        let answered = |event: &Event| self.answered_at[event.call].is_some_and(|at| at < cut);
        let mut expected = Expected {
            jobs: BTreeMap::new(),
            batches: Vec::new(),
            untold: self.untold.iter().map(String::as_str).collect(),
            good: Vec::new(),
            spent: Vec::new(),
            unique: Vec::new(),
            idempotent: Vec::new(),
        };
        let unheard_claim = self.unheard_claim_at.is_some_and(|at| at < cut);
        for (id, job) in &self.jobs {
            let told = job.events.iter().rposition(answered).map_or(0, |last| last + 1);
            let asked = |event: &&Event| self.asked_at[event.call] < cut;
            let perhaps = job.events[told..].iter().take_while(asked);
            let known_from = job.events[..told].last();
            let mut may_be: BTreeSet<Is> = perhaps.map(|event| event.becomes).collect();
            may_be.insert(known_from.map_or(Is::Absent, |event| event.becomes));
            if known_from.is_none() && !(job.events[0].step == 0 && job.events[0].delivery == 0) {
                // Its enqueue was never answered: it may be there as soon as that was asked.
                may_be.insert(Is::Waiting);
            }
            if let (Some(Event { token: Some(token), .. }), 1) = (known_from, may_be.len()) {
                expected.good.push((id, token));
            }
            for event in &job.events[..told.saturating_sub(1)] {
                let spent = event.token.as_deref().map(|token| (id.as_str(), token));
                expected.spent.extend(spent);
            }
            let waits = may_be.iter().any(|is| matches!(is, Is::Waiting | Is::Retrying));
            if unheard_claim && waits {
                may_be.insert(Is::Running);
            }
            if told > 0 {
                let present = !may_be.contains(&Is::Absent) && !may_be.contains(&Is::Dead);
                if job.keys.unique.is_some() && present {
                    expected.unique.push((id, &job.keys));
                }
                if job.keys.idempotency.is_some() {
                    expected.idempotent.push((id, &job.keys));
                }
            }
            expected.jobs.insert(id, (may_be, &job.name));
        }
        for (call, answered_at) in self.calls.iter().zip(&self.answered_at) {
            if let (Asked::Enqueue { .. }, Some(told)) = (&call.asked, &call.told)
                && answered_at.is_none_or(|at| at >= cut)
            {
                expected.batches.push(&told.ids);
            }
        }
        expected
    }
}

/// The operations at which answers began to be sent, by process, port and number.
fn answers(recording: &Recording) -> HashMap<(usize, u16, usize), usize> {
    let (mut counts, mut answers) = (HashMap::<(usize, u16), usize>::new(), HashMap::new());
    for (at, operation) in recording.history.operations.iter().enumerate() {
        let Operation::Mark(mark) = operation else { continue };
        let (life, sent) = &recording.sent[*mark as usize];
        if sent.bytes.starts_with(b"HTTP/1.1 ") {
            let count = counts.entry((*life, sent.to_port)).or_default();
            answers.insert((*life, sent.to_port, *count), at);
            *count += 1;
        }
    }
    answers
}
