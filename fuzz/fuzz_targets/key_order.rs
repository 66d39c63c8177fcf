//! Keys sort as what they say, and say one thing.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pulk::store::fuzzing::key_order(input));
