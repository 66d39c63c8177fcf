//! The store alone: commits in a row, of which a power cut must leave the first so many, whole.
//!
//! Files are small here, so that a short history has journal files that get full, are moved and
//! written over, and databases that are compacted while commits go on.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::ops::Bound;
use std::path::Path;

use pulk::Priority;
use pulk::store::sled::{Limit, Limits};
use pulk::store::{Direction, JournaledStore, Sizes, Store, Tree, WriteSet};
use pulk_proof_disk::chance::Seeded;
use pulk_proof_disk::{Chance, Operation};

use crate::again::{all_hold_again, kept};
use crate::images::{self, all_hold};
use crate::recording::Recording;

const WRITER: &str = "PULK_POWER_CUT_WRITER";
/// Written with every commit: which one it is.
const NUMBER: &[u8] = b"number";
/// Written with every commit, as the queue does it: what is alive.
const LIVE_BYTES: &[u8] = b"live_bytes";
const TREES: [Tree; 3] = [Tree::Ready(Priority::Default), Tree::Timers, Tree::Payload];
const KEYS: u64 = 120;
/// Of sled, as the store sets it.
const SEGMENT_BYTES: usize = 16 << 20;

type All = BTreeMap<(Tree, Vec<u8>), Vec<u8>>;

/// How a writer works.
#[derive(Clone, Copy)]
struct Plan {
    seed: u64,
    /// Commits of each life of the store: the first ends without being closed.
    lives: [u64; 3],
    journal_file_bytes: u64,
    spare_bytes: u64,
    value_bytes_max: u64,
    segment_bytes: usize,
}

impl Plan {
    fn sizes(self) -> Sizes {
        let limit = Limit { spare_bytes: self.spare_bytes, ratio: 3 };
        let compaction = Limits { plenty: limit, short: limit };
        let Plan { journal_file_bytes, segment_bytes, .. } = self;
        Sizes { journal_file_bytes, compaction, segment_bytes }
    }

    fn open(self, dir: &Path) -> JournaledStore {
        JournaledStore::open_with_sizes(dir, 0, self.sizes()).unwrap()
    }

    /// Does what commit `number` does.
    fn apply(self, number: u64, all: &mut All) -> Vec<(Tree, Vec<u8>)> {
        let mut chance = Seeded::new(self.seed ^ number << 20);
        let mut touched = Vec::new();
        // Every so often most of it goes.
        let removes = if number % 60 > 45 { 7 } else { 3 };
        for _ in 0..=chance.below(20) {
            let tree = TREES[chance.below(3) as usize];
            let key = (tree, format!("key {}", chance.below(KEYS)).into_bytes());
            if chance.in_eight(removes) {
                all.remove(&key);
            } else {
                let length = match chance.below(4) {
                    0 => self.value_bytes_max,
                    _ => self.value_bytes_max / 40,
                };
                let byte = chance.below(256) as u8;
                all.insert(key.clone(), vec![byte; chance.below(length) as usize]);
            }
            touched.push(key);
        }
        let live: usize = all.iter().map(|((_, key), value)| key.len() + value.len()).sum();
        for (key, value) in [(NUMBER, number), (LIVE_BYTES, live as u64)] {
            let key = (Tree::Meta, key.to_vec());
            all.insert(key.clone(), value.to_be_bytes().to_vec());
            touched.push(key);
        }
        touched
    }

    fn after(self, commits: u64) -> All {
        let mut all = All::new();
        for number in 1..=commits {
            self.apply(number, &mut all);
        }
        all
    }

    fn commit(self, store: &JournaledStore, number: u64, all: &mut All) {
        let mut writes = WriteSet::default();
        for (tree, key) in self.apply(number, all) {
            match all.get(&(tree, key.clone())) {
                Some(value) => writes.put(tree, key, value.clone().into()),
                None => writes.remove(tree, key),
            }
        }
        store.commit(writes).unwrap();
    }
}

/// How many commits a store has.
fn commits_of(store: &JournaledStore) -> u64 {
    let number = store.get(Tree::Meta, NUMBER).unwrap();
    number.map_or(0, |number| u64::from_be_bytes((*number).try_into().unwrap()))
}

fn all_of(store: &JournaledStore) -> All {
    let everything = (Bound::Unbounded, Bound::Unbounded);
    let mut all = All::new();
    for tree in Tree::ALL {
        for entry in store.scan(tree, everything.clone(), Direction::Ascending) {
            let (key, value) = entry.unwrap();
            all.insert((tree, key), value.to_vec());
        }
    }
    all
}

/// Not a test: the process that is recorded.
#[test]
#[ignore = "the other tests run it, under strace"]
fn writer() {
    let Ok(orders) = std::env::var(WRITER) else { return };
    let words: Vec<&str> = orders.split(' ').collect();
    let numbers: Vec<u64> = words[1..].iter().map(|word| word.parse().unwrap()).collect();
    let plan = Plan {
        seed: numbers[0],
        lives: [numbers[1], numbers[2], numbers[3]],
        journal_file_bytes: numbers[4],
        spare_bytes: numbers[5],
        value_bytes_max: numbers[6],
        segment_bytes: numbers[7] as usize,
    };
    let (dir, life) = (Path::new(words[0]), numbers[8] as usize);
    let mut parent = TcpStream::connect(("127.0.0.1", numbers[9] as u16)).unwrap();
    let store = plan.open(dir);
    let mut number = commits_of(&store);
    let mut all = plan.after(number);
    for _ in 0..plan.lives[life] {
        number += 1;
        plan.commit(&store, number, &mut all);
        parent.write_all(&number.to_be_bytes()).unwrap();
    }
    match life {
        // An end without a word, whatever the other threads are about.
        0 => std::process::exit(0),
        _ => store.close().unwrap(),
    }
}

fn record(plan: Plan, kept_in: &Path) -> Recording {
    let mut recording = Recording::begin(kept_in);
    for life in 0..plan.lives.len() {
        live(plan, life, &mut recording);
    }
    recording
}

/// Has one life of the store recorded.
fn live(plan: Plan, life: usize, recording: &mut Recording) {
    let parent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = parent.local_addr().unwrap().port();
    let Plan { seed, lives: [first, second, third], .. } = plan;
    let orders = format!(
        "{} {seed} {first} {second} {third} {} {} {} {} {life} {port}",
        recording.root().join("data").display(),
        plan.journal_file_bytes,
        plan.spare_bytes,
        plan.value_bytes_max,
        plan.segment_bytes
    );
    let mut command = recording.command(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "commits::writer"]).env(WRITER, orders);
    let output = command.output().expect("strace is needed for this test");
    assert!(output.status.success(), "{output:?}");
    recording.ended();
}

/// How many commits had been answered at a cut, if any were answered.
fn answered(recording: &Recording, cut: usize) -> Option<u64> {
    let done = &recording.history.operations[..cut];
    let last = done.iter().rev().find_map(|operation| match operation {
        Operation::Mark(mark) => Some(&recording.sent[*mark as usize].1.bytes),
        _ => None,
    });
    last.map(|bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()))
}

/// `under_way`: how many commits may be there besides those answered.
fn holds(plan: Plan, answered: u64, under_way: u64, image: &Path) {
    let data = image.join("data");
    let store = plan.open(&data);
    let commits = commits_of(&store);
    assert!(commits >= answered, "commit {answered} was answered, and {commits} are there");
    let most = answered + under_way;
    assert!(commits <= most, "commit {commits} is there, and {answered} were answered");
    let mut all = plan.after(commits);
    assert!(all_of(&store) == all, "it is not the state after {commits} commits");
    // It goes on from there.
    plan.commit(&store, commits + 1, &mut all);
    drop(store);
    let store = plan.open(&data);
    assert!(all_of(&store) == all, "it is not the state after one commit more");
    assert_eq!(store.problems().unwrap(), Vec::<String>::new());
}

/// How many images, then how many of them are opened under strace, and images of each of these.
fn every_image_holds(plan: Plan, has_met: impl Fn(&Recording), counts: [u64; 3]) {
    let [count, generations, count_again] = images::counts(counts);
    let again = |first: &Recording, cut: usize, second: &Recording, image: &Path, at: usize| {
        // What was under way at the first cut may be there as well as what is at the second.
        let (answered, under_way) = match answered(second, at) {
            Some(answered) => (answered, 1),
            None => (answered(first, cut).unwrap_or(0), 2),
        };
        holds(plan, answered, under_way, image);
    };
    if let Some(folder) = images::folder_to_go_through() {
        match kept(&folder) {
            (first, None) => {
                let check =
                    |image: &Path, cut| holds(plan, answered(&first, cut).unwrap_or(0), 1, image);
                all_hold(&first, (plan.seed, count), check);
            }
            (first, Some((cut, second))) => {
                let check = |image: &Path, at| again(&first, cut, &second, image, at);
                all_hold(&second, (plan.seed, count_again), check);
            }
        }
        return;
    }
    let recording = record(plan, &images::directory());
    assert!(recording.renames_to("journal.spare") > 5, "few journal files were given up");
    has_met(&recording);
    let check = |image: &Path, cut| holds(plan, answered(&recording, cut).unwrap_or(0), 1, image);
    all_hold(&recording, (plan.seed, count), check);
    let check = |cut, second: &Recording, image: &Path, at| {
        again(&recording, cut, second, image, at);
    };
    let open = |second: &mut Recording| live(plan, 2, second);
    all_hold_again(&recording, (plan.seed, generations, count_again), open, check);
    recording.forget();
}

#[test]
fn the_store_holds_the_first_so_many_commits_whenever_the_power_goes() {
    let plan = Plan {
        seed: images::seed(),
        lives: [300, 60, 20],
        journal_file_bytes: 100_000,
        spare_bytes: 2 << 20,
        value_bytes_max: 8_000,
        segment_bytes: SEGMENT_BYTES,
    };
    let has_met = |recording: &Recording| {
        assert!(recording.renames_to("sled.old") > 1, "few databases were compacted");
    };
    every_image_holds(plan, has_met, [150, 6, 25]);
}

#[test]
fn a_database_that_writes_over_its_segments_holds_them_too() {
    let plan = Plan {
        seed: images::seed(),
        lives: [1_000, 60, 20],
        journal_file_bytes: 120_000,
        spare_bytes: u64::MAX,
        value_bytes_max: 30_000,
        segment_bytes: SEGMENT_BYTES,
    };
    let has_met = |recording: &Recording| {
        let over = recording.segments_written_over("db", SEGMENT_BYTES as u64);
        assert!(over > 0, "{over} segments were written over");
    };
    every_image_holds(plan, has_met, [24, 2, 6]);
}
