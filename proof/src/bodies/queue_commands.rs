//! Any sequence of calls against the model, on a store in memory: with commits that fail, crashes,
//! and a clock that jumps.

use pulk::{Config, Timestamp};
use pulk_proof_disk::Chance;
use pulk_proof_disk::chance::Bytes;

use crate::draw::{self, Known, one_in};
use crate::driver::{Driver, Fault, Handed};

/// More steps than this find nothing that fewer would not.
const STEPS_MAX: usize = 400;
/// A clock that jumps goes at most so far, in milliseconds: three weeks.
const JUMP_MS_MAX: u64 = 21 * 24 * 3_600_000;

/// Runs the calls that these bytes stand for. Panics when an answer, or anything that can be seen
/// afterwards, is not as it must be.
pub fn queue_commands(data: &[u8]) {
    let mut chance = Bytes::new(data);
    let chance = &mut chance;
    let mut known = Known::default();
    let config = config(chance, &mut known);
    let seed = chance.below(256);
    let start = Timestamp::from_ms(1_800_000_000_000);
    let mut driver = Driver::in_memory(config, start, seed);
    // The store is examined at the end and now and then: it costs more than all the rest.
    driver.examine_every = 16;
    for _ in 0..STEPS_MAX {
        if chance.rest().is_empty() {
            break;
        }
        step(chance, &mut driver, &mut known);
    }
    if !driver.is_open() {
        driver.open(Fault::None);
    }
    driver.examine_every = 1;
    driver.group(Vec::new(), Fault::None);
}

/// Small limits, so that they are met.
fn config(chance: &mut dyn Chance, known: &mut Known) -> Config {
    let choices = chance.below(64);
    known.replays_in_background = choices & 1 == 0;
    let (age_ms, number) = match choices & 3 {
        1 => (200_000, 3),
        _ => (0, 0),
    };
    Config {
        store: pulk::StoreKind::Memory,
        max_interruptions: 2,
        queue_capacity: match choices & 4 {
            0 => Config::default().queue_capacity,
            _ => pulk::priority::PerPriority::from_fn(|_| 4),
        },
        max_queues: if choices & 8 == 0 { 1_000 } else { 3 },
        ageing_ms: match choices & 32 {
            0 => Config::default().ageing_ms,
            _ => pulk::priority::PerPriority::from_fn(|_| 1_500),
        },
        result_ttl_ms: if choices & 16 == 0 { 60_000 } else { 0 },
        dead_max_age_ms: age_ms,
        dead_max_per_queue: number,
        scheduler_enabled: choices != 63,
        ..Config::default()
    }
}

fn step(chance: &mut dyn Chance, driver: &mut Driver, known: &mut Known) {
    if !driver.is_open() {
        if one_in(chance, 2) {
            jump(chance, driver);
        }
        driver.open(fault(chance, 6));
        return;
    }
    match chance.below(16) {
        0..11 => {
            let now = driver.now();
            let calls = (0..1 + chance.below(4))
                .map(|_| Handed { command: known.command(chance, now), deaf: one_in(chance, 24) });
            let mut calls: Vec<Handed> = calls.collect();
            if one_in(chance, 8) {
                calls.push(Handed { command: known.scheduling(chance), deaf: false });
            }
            let fault = fault(chance, 16);
            let finished = driver.group(calls, fault);
            finished.iter().for_each(|finished| known.learn(finished));
        }
        11..15 => jump(chance, driver),
        _ => driver.crash(),
    }
}

fn fault(chance: &mut dyn Chance, one_in_so_many: u64) -> Fault {
    match (one_in(chance, one_in_so_many), one_in(chance, 2)) {
        (false, _) => Fault::None,
        (true, false) => Fault::Lost,
        (true, true) => Fault::Applied,
    }
}

/// The clock moves, mostly by little, now and then far or backwards.
fn jump(chance: &mut dyn Chance, driver: &mut Driver) {
    let ms = match chance.below(16) {
        15 => chance.below(JUMP_MS_MAX),
        _ => draw::wait_ms(chance),
    };
    let now = driver.now();
    let then = if one_in(chance, 8) { now.minus_ms(ms) } else { now.plus_ms(ms) };
    driver.move_clock(then, one_in(chance, 3));
}

#[cfg(test)]
mod tests {
    use pulk_proof_disk::chance::Seeded;

    use super::*;

    #[test]
    fn any_bytes_are_calls_that_keep_every_promise() {
        for seed in 0..200 {
            let mut chance = Seeded::new(seed);
            let length = 200 + chance.below(3_000);
            let data: Vec<u8> = (0..length).map(|_| chance.below(256) as u8).collect();
            queue_commands(&data);
        }
    }
}
