//! `key_order`: the order of the bytes is the order of what they say, and they say one thing.

use std::fmt::Debug;

use super::draw::Draw;
use crate::clock::Timestamp;
use crate::job::{JobId, QueueId};
use crate::priority::Priority;
use crate::store::Tree;
use crate::store::key::{
    self, ChunkId, Ending, KeyKind, LaneId, LinePlace, Named, OfSchedule, SharedKey,
};

/// Two keys of each kind drawn from the bytes, and the bytes as a key of each kind.
///
/// # Panics
/// When two keys are not in the order of what they say, or are not read as they were written.
pub fn key_order(input: &[u8]) {
    let mut draw = Draw(input);
    let a = Parts::draw(&mut draw);
    // Mostly they differ in one thing: everything else must not matter then.
    let other = Parts::draw(&mut draw);
    let b = match draw.below(9) {
        0 => other,
        1 => Parts { queue: other.queue, ..a.clone() },
        2 => Parts { place: other.place, ..a.clone() },
        3 => Parts { job: other.job, ..a.clone() },
        4 => Parts { priority: other.priority, part: other.part, ..a.clone() },
        5 => Parts { text: other.text, tree: other.tree, ..a.clone() },
        _ => Parts { moment: other.moment, shard: other.shard, ..a.clone() },
    };
    let chunk = |parts: &Parts| parts.chunk();
    in_order(&a, &b, chunk, |id| id.progress_key(), ChunkId::from_progress_key);
    let in_lane = |parts: &Parts| ChunkId { lane: a.chunk().lane, ..parts.chunk() };
    let from_key = |key: &[u8]| ChunkId::from_key(a.chunk().lane.priority, key);
    in_order(&a, &b, in_lane, |id| id.key(), from_key);
    in_order(&a, &b, |parts| parts.queue, |id| key::queue(*id), key::queue_from);
    let timer = |parts: &Parts| (parts.moment, parts.job);
    in_order(&a, &b, timer, |(due, id)| key::timer(*due, *id), key::timer_from);
    let dead = |parts: &Parts| (parts.queue, parts.moment, parts.job);
    in_order(&a, &b, dead, |(queue, at, id)| key::dead(*queue, *at, *id), key::dead_from);
    in_order(&a, &b, |parts| parts.job, |id| key::job(*id), key::job_from);
    let part = |parts: &Parts| (parts.job, parts.part);
    in_order(&a, &b, part, |(id, n)| key::payload_part(*id, *n), key::payload_part_from);
    in_order(&a, &b, |parts| parts.place, |number| key::replay(*number), key::replay_from);
    in_order(&a, &b, Parts::line, LinePlace::key, LinePlace::from_key);
    let places = |parts: &Parts| parts.line().of.key();
    assert_eq!(places(&a) == places(&b), a.line().of == b.line().of);
    assert_eq!(SharedKey::from_key(&places(&a)), Some(a.line().of));
    names_and_ends_are_apart(&a, &b);
    ids_are_in_the_order_of_their_parts(&a, &b);
    damaged_keys_are_apart(&a, &b);
    what_nobody_wrote_is_refused(input);
}

/// What keys are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Parts {
    priority: Priority,
    queue: QueueId,
    place: u64,
    moment: Timestamp,
    job: JobId,
    part: u16,
    shard: u16,
    text: String,
    tree: Tree,
}

impl Parts {
    fn draw(draw: &mut Draw<'_>) -> Parts {
        Parts {
            priority: Priority::from_number(draw.below(5)).unwrap(),
            queue: QueueId(draw.number(17) as u32),
            place: draw.number(44) as u64,
            moment: Timestamp::from_ms(draw.number(48) as u64),
            job: JobId::from_u128(draw.number(128)),
            part: draw.number(16) as u16,
            shard: draw.number(16) as u16,
            text: draw.text(),
            tree: Tree::from_number(draw.below(Tree::ALL.len() as u8)).unwrap(),
        }
    }

    fn chunk(&self) -> ChunkId {
        let lane = LaneId { priority: self.priority, queue: self.queue };
        ChunkId { lane, first_place: self.place }
    }

    /// A key that jobs share is never empty.
    fn line(&self) -> LinePlace {
        let is_ordering = self.part.is_multiple_of(2);
        let kind = if is_ordering { KeyKind::Ordering } else { KeyKind::Concurrency };
        let of = SharedKey { queue: self.queue, kind, text: format!("k{}", self.text) };
        LinePlace { of, urgency: self.priority, order: self.place }
    }

    fn ending(&self) -> Ending {
        match self.part % 3 {
            0 => Ending::Job(self.job),
            1 => Ending::Result(self.job),
            _ => Ending::Idempotency(self.queue, self.text.clone()),
        }
    }
}

#[track_caller]
fn in_order<T: Ord + Debug>(
    a: &Parts,
    b: &Parts,
    choose: impl Fn(&Parts) -> T,
    key: impl Fn(&T) -> Vec<u8>,
    from: impl Fn(&[u8]) -> Option<T>,
) {
    let (a, b) = (choose(a), choose(b));
    assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b), "{a:?} and {b:?}");
    assert_eq!(from(&key(&a)), Some(a));
    assert_eq!(from(&key(&b)), Some(b));
}

/// Names and ends: one key for each, those of a moment together, in its order.
fn names_and_ends_are_apart(a: &Parts, b: &Parts) {
    let unique = |parts: &Parts| key::unique(parts.queue, &parts.text);
    let asked = |parts: &Parts| key::idempotency(parts.queue, &parts.text);
    let named = |parts: &Parts| (parts.queue, parts.text.clone());
    assert_eq!(unique(a) == unique(b), named(a) == named(b));
    assert_eq!(unique(a).cmp(&unique(b)), named(a).cmp(&named(b)));
    assert_eq!(asked(a).cmp(&asked(b)), named(a).cmp(&named(b)));
    assert_ne!(unique(a), asked(b));
    let schedule = |parts: &Parts| key::schedule(&parts.text);
    let progress = |parts: &Parts| key::schedule_progress(&parts.text);
    assert_eq!(schedule(a).cmp(&schedule(b)), a.text.cmp(&b.text));
    assert_eq!(progress(a).cmp(&progress(b)), a.text.cmp(&b.text));
    assert_ne!(schedule(a), progress(b));
    if !a.text.is_empty() {
        let text = || a.text.clone();
        assert_eq!(key::schedule_from(&schedule(a)), Some(OfSchedule::Definition(text())));
        assert_eq!(key::schedule_from(&progress(a)), Some(OfSchedule::Progress(text())));
    }
    let (queue, text) = named(a);
    assert_eq!(key::named_from(&unique(a)), Some(Named::Unique(queue, text.clone())));
    assert_eq!(key::named_from(&asked(a)), Some(Named::Idempotency(queue, text)));

    let expiry = |parts: &Parts| key::expiry(parts.moment, &parts.ending());
    assert_eq!(expiry(a) == expiry(b), (a.moment, a.ending()) == (b.moment, b.ending()));
    if a.moment != b.moment {
        assert_eq!(expiry(a).cmp(&expiry(b)), a.moment.cmp(&b.moment));
    }
    assert_eq!(key::expiry_from(&expiry(a)), Some((a.moment, a.ending())));
}

/// An id is ordered by birth, shard, queue, priority and sequence, as number and as text.
fn ids_are_in_the_order_of_their_parts(a: &Parts, b: &Parts) {
    let parts = |p: &Parts| (p.moment, p.shard, p.queue, p.priority, p.place);
    let id = |p: &Parts| JobId::new(p.moment, p.shard, p.queue, p.priority, p.place);
    let (of_a, of_b) = (id(a), id(b));
    assert_eq!(of_a.cmp(&of_b), parts(a).cmp(&parts(b)));
    assert_eq!(of_a.to_string().cmp(&of_b.to_string()), of_a.cmp(&of_b));
    assert_eq!(a.job.to_string().cmp(&b.job.to_string()), a.job.cmp(&b.job));
    assert_eq!(a.job.to_string().parse::<JobId>().unwrap(), a.job);
    assert_eq!((of_a.born_at(), of_a.shard(), of_a.queue()), (a.moment, a.shard, a.queue));
    assert_eq!((of_a.birth_priority(), of_a.sequence()), (Some(a.priority), a.place));
}

fn damaged_keys_are_apart(a: &Parts, b: &Parts) {
    let damaged = |parts: &Parts| key::damaged(parts.tree, parts.text.as_bytes());
    let is_same = (a.tree, &a.text) == (b.tree, &b.text);
    assert_eq!(damaged(a) == damaged(b), is_same);
}

/// A key that is read is the key that would be written for it.
fn what_nobody_wrote_is_refused(input: &[u8]) {
    let is_same = |key: Option<Vec<u8>>| assert!(key.is_none_or(|key| key == input));
    // A moment beyond the last one is read as the last one.
    let is_same_or_bounded = |moment: Option<Timestamp>, key: Option<Vec<u8>>| {
        if moment != Some(Timestamp::MAX) {
            is_same(key);
        }
    };
    is_same(ChunkId::from_progress_key(input).map(ChunkId::progress_key));
    for priority in Priority::ALL {
        is_same(ChunkId::from_key(priority, input).map(ChunkId::key));
    }
    is_same(key::queue_from(input).map(key::queue));
    is_same(key::job_from(input).map(key::job));
    is_same(key::payload_part_from(input).map(|(id, part)| key::payload_part(id, part)));
    is_same(LinePlace::from_key(input).map(|place| place.key()));
    is_same(SharedKey::from_key(input).map(|shared| shared.key()));
    is_same(key::queue_lines_from(input).map(key::queue_lines));
    is_same(key::replay_from(input).map(key::replay));
    is_same(key::named_from(input).map(|named| match named {
        Named::Unique(queue, text) => key::unique(queue, &text),
        Named::Idempotency(queue, text) => key::idempotency(queue, &text),
    }));
    is_same(key::schedule_from(input).map(|of| match of {
        OfSchedule::Definition(name) => key::schedule(&name),
        OfSchedule::Progress(name) => key::schedule_progress(&name),
    }));
    let timer = key::timer_from(input);
    is_same_or_bounded(timer.map(|(due, _)| due), timer.map(|(due, id)| key::timer(due, id)));
    let dead = key::dead_from(input);
    let again = dead.map(|(queue, died_at, id)| key::dead(queue, died_at, id));
    is_same_or_bounded(dead.map(|(_, died_at, _)| died_at), again);
    let expiry = key::expiry_from(input);
    let again = expiry.as_ref().map(|(moment, ending)| key::expiry(*moment, ending));
    is_same_or_bounded(expiry.map(|(moment, _)| moment), again);
}
