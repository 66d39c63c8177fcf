//! The bodies of the fuzz targets that look inside the store: `codec` and `key_order`. The tests
//! run them over the committed inputs, cargo-fuzz over what it makes up.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a body panics at what must not be")]

mod draw;
mod keys;
mod records;

pub use keys::key_order;
pub use records::{codec, codec_reads};

/// No input may make [`codec_reads`] hold more at once, in bytes: what serde takes ahead for a
/// list whose length is a lie (1 MiB, at up to three levels), and some times the input.
#[must_use]
pub fn held_bytes_max(input: &[u8]) -> u64 {
    (4 << 20) + 64 * input.len() as u64
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    /// The committed inputs of a target, with their names.
    fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        let mut found = Vec::new();
        for kind in ["corpus", "regressions"] {
            let Ok(entries) = fs::read_dir(fuzz.join(kind).join(target)) else { continue };
            for entry in entries {
                let path = entry.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                found.push((path, bytes));
            }
        }
        assert!(found.len() > 10, "only {} inputs for {target}", found.len());
        found
    }

    #[test]
    fn codec_holds_for_every_input() {
        for (path, input) in inputs("codec") {
            println!("{}", path.display());
            let held = allocation_counter::measure(|| codec_reads(&input));
            assert!(held.bytes_max <= held_bytes_max(&input), "{held:?}");
            codec(&input);
        }
    }

    #[test]
    fn key_order_holds_for_every_input() {
        for (path, input) in inputs("key_order") {
            println!("{}", path.display());
            key_order(&input);
        }
    }
}
