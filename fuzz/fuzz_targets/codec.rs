//! Any bytes as any record, journal or text: no panic, no huge allocation, read as written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulk::store::fuzzing::{codec, codec_reads, held_bytes_max};

fuzz_target!(|input: &[u8]| {
    let held = allocation_counter::measure(|| codec_reads(input));
    assert!(held.bytes_max <= held_bytes_max(input), "{held:?}");
    codec(input);
});
