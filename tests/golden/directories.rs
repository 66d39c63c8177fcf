//! Reading and writing the committed directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// A committed directory.
#[derive(Debug)]
pub struct Golden {
    pub format: String,
    pub name: String,
}

/// Where they lie.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// All of every format.
pub fn all() -> Vec<Golden> {
    let mut found = Vec::new();
    for format in fs::read_dir(root()).unwrap().map(Result::unwrap) {
        let name = format.file_name().into_string().unwrap();
        if !name.starts_with("format-") {
            continue;
        }
        for entry in fs::read_dir(format.path()).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                let directory = entry.file_name().into_string().unwrap();
                found.push(Golden { format: name.clone(), name: directory });
            }
        }
    }
    assert!(found.len() >= 2, "{found:?}");
    found
}

impl Golden {
    pub fn path(&self) -> PathBuf {
        root().join(&self.format).join(&self.name)
    }

    fn beside(&self, extension: &str) -> PathBuf {
        root().join(&self.format).join(format!("{}.{extension}", self.name))
    }

    /// A copy as it was left, and the listing of what is in it.
    pub fn copied(&self) -> (tempfile::TempDir, Value) {
        let directory = tempfile::tempdir().unwrap();
        let lengths = fs::read(self.beside("lengths.json")).unwrap();
        let lengths: BTreeMap<String, u64> = serde_json::from_slice(&lengths).unwrap();
        // sled makes it when it is missing; git keeps no empty folder.
        fs::create_dir_all(directory.path().join("sled/blobs")).unwrap();
        for (name, length) in lengths {
            let to = directory.path().join(&name);
            fs::copy(self.path().join(&name), &to).unwrap();
            fs::OpenOptions::new().write(true).open(&to).unwrap().set_len(length).unwrap();
        }
        let listing = fs::read(self.beside("json")).unwrap();
        (directory, serde_json::from_slice(&listing).unwrap())
    }

    /// Takes a directory over; what no opening needs is left out.
    pub fn write(&self, directory: &Path, listing: &Value) {
        let mut lengths = BTreeMap::new();
        fs::create_dir_all(self.path().join("sled")).unwrap();
        for folder in ["", "sled"] {
            for entry in fs::read_dir(directory.join(folder)).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                let is_needed = name != "lock" && name != "reserve" && !name.contains("spare");
                if entry.file_type().unwrap().is_file() && is_needed {
                    let bytes = fs::read(entry.path()).unwrap();
                    let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
                    let name = Path::new(folder).join(name);
                    fs::write(self.path().join(&name), &bytes[..used]).unwrap();
                    lengths.insert(name.to_str().unwrap().to_owned(), bytes.len());
                }
            }
        }
        let lengths = serde_json::to_string_pretty(&lengths).unwrap() + "\n";
        fs::write(self.beside("lengths.json"), lengths).unwrap();
        let listing = serde_json::to_string_pretty(listing).unwrap() + "\n";
        fs::write(self.beside("json"), listing).unwrap();
    }
}
