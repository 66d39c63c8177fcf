//! Whose turn it is costs no more with many queues or a long backlog, however old it is.

use super::*;
use crate::job::JobId;
use crate::queue::claim::LOOKS_MAX;

/// A seek, the chunk it passes, and the chunk it finds: what it costs at most to serve a lane, and
/// to know what it counts as next.
const TURN_READS_MAX: u64 = 3;

impl Node {
    fn put(&mut self, jobs: Vec<NewJob>) {
        self.cost(|state, context| state.enqueue(jobs, context).map(drop)).unwrap();
    }

    /// Claims one job, in as many groups as it takes: its queue and priority, and the most reads
    /// of one group.
    fn claim_one(&mut self) -> (Option<(JobId, String, Priority)>, u64) {
        let (mut reads_max, mut got, mut saw_all) = (0, None, false);
        while got.is_none() && !saw_all {
            let reads = self.cost(|state, context| {
                let taken = state.claim(&Claim::default(), context)?;
                saw_all = taken.saw_all;
                got = taken.jobs.into_iter().next().map(|job| (job.id, job.queue, job.priority));
                Ok(())
            });
            reads_max = reads_max.max(reads.unwrap());
        }
        (got, reads_max)
    }

    /// What the next claim gets, as it is told.
    fn explained(&mut self) -> Option<JobId> {
        let mut next = None;
        while next.is_none() {
            let explain = |state: &mut QueueState, context: &mut Context<'_>| {
                next = state.explain_next(context.now)?;
                Ok(())
            };
            self.cost(explain).unwrap();
        }
        next.unwrap().job.map(|job| job.id)
    }

    fn reopen(self) -> (Node, u64) {
        let Node { store, mut random, now, .. } = self;
        let before = store.reads.load(Ordering::Relaxed);
        let config = self.state.config.clone();
        let state = QueueState::open(store.clone(), config, now, &mut random).unwrap();
        let reads = store.reads.load(Ordering::Relaxed) - before;
        (Node { store, state, random, now }, reads)
    }
}

fn unlimited() -> Config {
    Config { queue_capacity: Default::default(), ..Config::default() }
}

#[test]
fn a_critical_job_is_next_with_a_hundred_thousand_bulk_jobs_before_it() {
    let mut node = Node::with_queues(0, unlimited());
    for number in 0..20 {
        let bulk = NewJob::new("k").queue(format!("bulk-{}", number % 10)).priority(Priority::Bulk);
        node.put(vec![bulk; 5_000]);
    }
    let critical = || vec![NewJob::new("k").queue("urgent").priority(Priority::Critical)];
    node.put(critical());
    let (got, reads) = node.claim_one();
    assert_eq!(got.unwrap().1, "urgent");
    assert!(reads <= TURN_READS_MAX, "{reads}");
    // When all of them count as critical by now, it waits for one turn of each queue at most.
    node.now = node.now.plus_ms(24 * 3_600_000);
    node.put(critical());
    let mut before = Vec::new();
    loop {
        let explained = node.explained();
        let (got, reads) = node.claim_one();
        let (id, queue, priority) = got.unwrap();
        assert_eq!(explained, Some(id));
        assert!(reads <= TURN_READS_MAX, "{reads}");
        if priority == Priority::Critical {
            break;
        }
        assert!(!before.contains(&queue), "{queue} comes before it a second time");
        before.push(queue);
    }
    assert!(before.len() <= 10);
}

#[test]
fn opening_reads_nothing_of_the_backlog_and_each_head_is_looked_up_once() {
    let mut config = unlimited();
    config.max_queues = 2_000;
    let mut node = Node::with_queues(1_000, config);
    let low = (0..1_000)
        .map(|number| NewJob::new("mail").queue(format!("queue-{number}")).priority(Priority::Low));
    node.put(low.collect());
    node.now = node.now.plus_ms(24 * 3_600_000);
    let (mut node, reads) = node.reopen();
    // The queues' records, and a look at each tree.
    assert!(reads <= 1_000 + 20, "{reads}");
    // The first claim knows none of 2,000 heads. Both priorities count as critical by now, and take
    // turns, by queue.
    let mut served = Vec::new();
    for turn in 0..2_000 {
        let (got, reads) = node.claim_one();
        let most = if turn == 0 { LOOKS_MAX as u64 * TURN_READS_MAX } else { TURN_READS_MAX };
        assert!(reads <= most, "{reads} reads at turn {turn}");
        served.extend(got.map(|(_, queue, priority)| (queue, priority)));
    }
    let number = |queue: usize| format!("queue-{queue}");
    let expected = (0..1_000)
        .flat_map(|queue| [(number(queue), Priority::Default), (number(queue), Priority::Low)]);
    assert!(served.into_iter().eq(expected), "each lane once, in turn");
}

#[test]
fn a_claim_for_many_gets_what_as_many_claims_for_one_would_get() {
    let nodes = [1_usize, 7, 1_000].map(|limit| {
        let mut node = Node::with_queues(20, unlimited());
        for (number, priority) in Priority::ALL.into_iter().rev().enumerate() {
            let batch = (0..60).map(|job: usize| {
                let queue = format!("queue-{}", (job * 7 + number) % 23);
                NewJob::new("mail").queue(queue).priority(priority)
            });
            node.put(batch.collect());
            node.now = node.now.plus_ms(250_000);
        }
        let mut got = Vec::new();
        let claim = Claim { limit, ..Claim::default() };
        loop {
            let before = got.len();
            let (random, now) = (&mut node.random, node.now);
            let taken = node.state.claim(&claim, &mut Context { now, random }).unwrap();
            got.extend(taken.jobs.into_iter().map(|job| job.id));
            node.store.commit(node.state.finish_group(node.now)).unwrap();
            if got.len() == before {
                return got;
            }
        }
    });
    assert_eq!(nodes[0].len(), 20 * 3 + 5 * 60);
    assert_eq!(nodes[0], nodes[1]);
    assert_eq!(nodes[0], nodes[2]);
}
