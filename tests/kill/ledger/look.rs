//! What a single job must look like to somebody who asks for it.

use super::{End, Ledger, RESULT_TTL_MS};
use crate::clients::now_ms;
use crate::node::Answer;

/// What is known of a job at one moment.
#[derive(Clone, Copy)]
pub struct Known {
    end: End,
    /// Nobody has asked for its end.
    lives: bool,
}

impl Known {
    pub fn is_gone(&self) -> bool {
        matches!(self.end, End::Gone { .. })
    }
}

impl Ledger {
    /// To be asked before and after the look.
    pub fn known(&self, id: &str) -> Known {
        self.book(|book| {
            let job = book.job(id);
            Known { end: job.end, lives: job.is_there && job.ends_asked == 0 }
        })
    }

    /// `GET /v1/jobs/{id}` was asked at `asked_ms` with `before` known, and answered now.
    pub fn looked_at(&self, id: &str, answer: &Answer, before: &Known, asked_ms: u64) {
        let after = self.known(id);
        let reply = answer.json();
        let state = if answer.status == 200 { reply["state"].as_str().unwrap() } else { "none" };
        match (before.end, after.end) {
            (End::Acked { .. }, _) => self.is_done(id, answer, asked_ms),
            (End::Gone { .. }, _) => {
                let ending = state == "running" && reply["cancelled"] == true;
                let done = state == "done" && self.book(|book| book.job(id).maybe_result);
                let is_gone = state == "none" || ending || done;
                assert!(is_gone, "L8: {id} was cancelled or purged: {reply}");
            }
            _ if before.lives && after.lives => {
                assert!(state != "none" && state != "done", "L4: {id} is lost: {reply}");
            }
            _ => {}
        }
    }

    /// An answer of the list names these jobs; it was asked with `began` answers told.
    pub fn listed(&self, id: &str, state: &str, began: u64) {
        self.book(|book| {
            let end = book.job(id).end;
            let acked = matches!(end, End::Acked { at, .. } if at <= began);
            assert!(!acked, "L1: {id} is listed as {state} after its ack");
            let gone = matches!(end, End::Gone { at } if at <= began);
            assert!(!gone || state == "running", "L8: {id} is gone, and listed as {state}");
        });
    }

    /// The job was acked: its result must be there, and nothing else.
    fn is_done(&self, id: &str, answer: &Answer, asked_ms: u64) {
        let now_ms = now_ms();
        self.book(|book| match &book.job(id).result {
            Some(kept) if now_ms < kept.from_ms + RESULT_TTL_MS => {
                assert_eq!(answer.status, 200, "L9: the result of {id}: {answer:?}");
                let reply = answer.json();
                assert_eq!((&reply["state"], &reply["result"]), (&"done".into(), &kept.result));
            }
            Some(kept) if asked_ms < kept.until_ms + RESULT_TTL_MS => {}
            _ => assert_eq!(answer.status, 404, "L1, L9: {id} is done: {answer:?}"),
        });
    }
}
