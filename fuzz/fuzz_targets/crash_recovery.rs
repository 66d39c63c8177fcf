//! The product's store whose disk loses its power, again and again: what was acknowledged is there.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pulk_proof::bodies::crash_recovery(input));
