//! Any bytes at the real router: no panic, no answer that the table of codes does not have.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| pulk_proof::bodies::http_request(input));
