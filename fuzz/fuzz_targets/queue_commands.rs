//! Long sequences of calls against the model.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pulk_proof::bodies::queue_commands(input));
