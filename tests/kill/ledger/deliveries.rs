//! Leases: handed out, ended, and what the job became by it.

use serde_json::Value;

use super::{Book, Delivery, End, Job, Kept, Ledger};
use crate::clients::now_ms;

/// A job in somebody's hands.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: String,
    pub token: String,
    /// The lease lives until then, or longer.
    pub until_ms: u64,
}

impl Held {
    pub fn delivery(&self) -> u64 {
        self.token.rsplit_once('-').unwrap().1.parse().unwrap()
    }
}

/// What its holder wants to become of a job.
#[derive(Clone, Debug)]
pub enum How {
    Ack(Option<Value>),
    /// Dead at once.
    Bury,
    /// It goes back, and comes not before a moment.
    Back(u64),
}

/// What the node said to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Done,
    Cancelled,
    LeaseLost,
}

impl Ledger {
    /// A claim that was sent when `began` answers had come handed out a job.
    pub fn claimed(&self, held: &Held, name: &str, began: u64) {
        let now_ms = now_ms();
        self.book(|book| {
            book.is_there(&held.id, name);
            book.deliveries += 1;
            book.is_in_time(held, name, now_ms);
            book.has_its_key_alone(held, name, now_ms);
            let job = book.job(&held.id);
            job.may_be_handed_out(held, began, now_ms);
            let delivery = Delivery { until_ms: held.until_ms, asked_to_end: false };
            let twice = job.deliveries.insert(held.delivery(), delivery).is_some();
            assert!(!twice, "L2: {} was handed out twice", held.token);
        });
    }

    /// The last one that anybody heard of; 0 for none.
    pub fn last_delivery(&self, id: &str) -> u64 {
        self.book(|book| book.job(id).deliveries.keys().next_back().copied().unwrap_or(0))
    }

    pub fn extended(&self, held: &Held, cancelled: bool) {
        self.book(|book| {
            book.delivery(held).until_ms = held.until_ms;
            let asked = book.job(&held.id).cancel_asked;
            assert!(asked || !cancelled, "L8: nobody cancelled {held:?}");
        });
    }

    /// Its holder is about to end a lease.
    pub fn ending(&self, held: &Held, how: &How) {
        self.book(|book| {
            book.delivery(held).asked_to_end = true;
            let job = book.job(&held.id);
            job.ends_asked += u32::from(matches!(how, How::Ack(_)) || job.cancel_asked);
            job.maybe_result |= matches!(how, How::Ack(Some(_)));
            job.maybe_dead |= matches!(how, How::Bury);
        });
    }

    /// The node has not ended it: the call never came to it.
    pub fn not_ended(&self, held: &Held) {
        self.book(|book| book.delivery(held).asked_to_end = false);
    }

    /// What was said to a call, sent at `asked_ms` when `began` answers had come, that ends a
    /// lease.
    pub fn ended(&self, held: &Held, how: How, outcome: Outcome, (began, asked_ms): (u64, u64)) {
        let (at, now_ms, delivery) = (self.answers(), now_ms(), held.delivery());
        self.book(|book| {
            let job = book.job(&held.id);
            match outcome {
                Outcome::LeaseLost => {
                    assert!(now_ms >= held.until_ms, "L3: {held:?} at {now_ms}");
                }
                Outcome::Cancelled => {
                    assert!(job.cancel_asked, "L8: nobody cancelled {held:?}");
                    job.gone(at);
                }
                Outcome::Done => {
                    let cancelled = matches!(job.end, End::Gone { at } if at <= began);
                    assert!(!cancelled, "L8: {held:?} was cancelled, and nobody told its holder");
                    let is_ack = matches!(how, How::Ack(_));
                    job.becomes(how, at, delivery, asked_ms..now_ms);
                    book.acks += u64::from(is_ack);
                }
            }
        });
    }
}

impl Book {
    /// No other job that shares its key is under way, as far as anybody heard.
    fn has_its_key_alone(&mut self, held: &Held, name: &str, now_ms: u64) {
        let Some(shared) = self.names[name].shared.clone() else { return };
        let is_untouched = self.job(&held.id).is_untouched();
        let others = self.sharing.entry(shared.clone()).or_default();
        others.retain(|other| self.jobs[other].end == End::None);
        for other in others.iter().filter(|other| **other != held.id) {
            let job = &self.jobs[other];
            // The lease of a claim may be over when its answer comes.
            let both_out = job.is_out(now_ms) && held.until_ms > now_ms;
            let overtaken = shared.is_ordering && is_untouched && job.has_its_turn();
            assert!(!both_out && !overtaken, "L14: {held:?} and {other} share {shared:?}");
        }
        others.insert(held.id.clone());
    }

    fn delivery(&mut self, held: &Held) -> &mut Delivery {
        self.job(&held.id).deliveries.get_mut(&held.delivery()).unwrap()
    }

    fn is_in_time(&self, held: &Held, name: &str, now_ms: u64) {
        let (known, job) = (&self.names[name], &self.jobs[&held.id]);
        let early_ms = known.not_before_ms.max(job.not_before_ms).saturating_sub(now_ms);
        assert_eq!(early_ms, 0, "L6: {name} came early: {held:?}");
    }
}

impl Job {
    /// A lease of it lives whose end nobody asked for.
    fn is_out(&self, now_ms: u64) -> bool {
        self.deliveries.values().any(|lease| !lease.asked_to_end && lease.until_ms > now_ms)
    }

    /// It was handed out, and nobody asked for its end.
    fn has_its_turn(&self) -> bool {
        !self.deliveries.is_empty() && self.is_untouched()
    }

    fn is_untouched(&self) -> bool {
        self.end == End::None && self.ends_asked == 0 && !self.maybe_dead && !self.cancel_asked
    }

    fn may_be_handed_out(&self, held: &Held, began: u64, now_ms: u64) {
        let delivery = held.delivery();
        match self.end {
            End::Acked { delivery: acked, .. } => {
                assert!(delivery < acked, "L1: {held:?} after the ack of {acked}");
            }
            End::Gone { at } => {
                assert!(at > began, "L8: {held:?} was cancelled or purged before");
            }
            End::None | End::Dead => {}
        }
        // Answers may be written down in another order than they were given in.
        for (other, lease) in &self.deliveries {
            let earlier_until_ms = if *other < delivery {
                if lease.asked_to_end {
                    continue;
                }
                lease.until_ms
            } else {
                held.until_ms
            };
            let left_ms = earlier_until_ms.saturating_sub(now_ms);
            assert_eq!(left_ms, 0, "L7: {held:?} and delivery {other} are both out");
        }
    }

    fn becomes(&mut self, how: How, at: u64, delivery: u64, within: std::ops::Range<u64>) {
        match how {
            How::Ack(result) => {
                let last = self.deliveries.keys().next_back().copied();
                assert!(last <= Some(delivery), "L1: {delivery} was acked, {last:?} is out");
                self.end = End::Acked { at, delivery };
                self.result = result.map(|result| Kept {
                    result,
                    from_ms: within.start,
                    until_ms: within.end,
                });
            }
            How::Bury => {
                // Somebody may have cancelled the dead letter before this was written down.
                if self.end == End::None {
                    self.end = End::Dead;
                }
            }
            How::Back(not_before_ms) => self.not_before_ms = not_before_ms,
        }
    }
}
