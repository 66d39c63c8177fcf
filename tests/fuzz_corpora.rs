//! The bodies of the fuzz targets, over the committed inputs. `fuzz/regressions` holds those that
//! once found something, each under the name of what it was.
#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::fs;
use std::path::Path;

/// Runs a body over all inputs of its target.
fn holds_for_every_input(target: &str, body: fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut inputs = 0;
    for kind in ["corpus", "regressions"] {
        let Ok(entries) = fs::read_dir(fuzz.join(kind).join(target)) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            // Shown when a body panics.
            println!("{}", path.display());
            body(&fs::read(&path).unwrap());
            inputs += 1;
        }
    }
    assert!(inputs > 10, "only {inputs} inputs for {target}");
}

#[test]
fn http_request() {
    holds_for_every_input("http_request", pulk_proof::bodies::http_request);
}

#[test]
fn crash_recovery() {
    holds_for_every_input("crash_recovery", pulk_proof::bodies::crash_recovery);
}

#[test]
fn queue_commands() {
    holds_for_every_input("queue_commands", pulk_proof::bodies::queue_commands);
}
