//! What the child processes of the rules' tests do: one function for each role.

use std::path::Path;

use super::*;

/// Plays the role of this name on a data directory.
pub(crate) fn play(role: &str, dir: &Path) {
    match role {
        "commit" => commit(dir, &SledStore::open(dir).unwrap()),
        "commit by the journal" => commit(dir, &JournaledStore::open(dir).unwrap()),
        "commit until it fails" => commit_until_it_fails(dir),
        "read it all" => read_it_all(dir),
        "hold" => hold(dir),
        "fill" => fill(dir),
        "largest commits" => largest_commits(dir),
        role => panic!("no such role: {role}"),
    }
}

fn commit(dir: &Path, store: &dyn Store) {
    // Each file exists only when the commit before it has returned.
    for number in 0..10 {
        store.commit(numbered(number, 20_000)).unwrap();
        fs::write(dir.with_file_name(format!("returned {number}")), "").unwrap();
    }
    store.close().unwrap();
}

fn commit_until_it_fails(dir: &Path) {
    let store = SledStore::open(dir).unwrap();
    for number in 0.. {
        match store.commit(numbered(number, 30_000)) {
            Ok(()) => tell(&number.to_string()),
            Err(error) => {
                tell(&error.to_string());
                assert_eq!(error.kind(), ErrorKind::Poisoned);
                break;
            }
        }
    }
    let kind = |error: pulk::Error| assert_eq!(error.kind(), ErrorKind::Poisoned);
    kind(store.commit(numbered(0, 8)).unwrap_err());
    kind(store.get(Tree::Timers, b"key").unwrap_err());
    kind(store.scan(Tree::Timers, ALL, Direction::Ascending).next().unwrap().unwrap_err());
    kind(store.disk_bytes().unwrap_err());
    kind(store.close().unwrap_err());
    tell("refused all the rest");
}

fn read_it_all(dir: &Path) {
    let read = || -> pulk::Result<()> {
        let store = SledStore::open(dir)?;
        for tree in Tree::ALL {
            for entry in store.scan(tree, ALL, Direction::Ascending) {
                entry?;
            }
            for entry in store.scan(tree, ALL, Direction::Descending) {
                entry?;
            }
        }
        store.commit(numbered(1, 1000))?;
        store.close()
    };
    tell(&read().map_or_else(|error| error.to_string(), |()| "readable".to_owned()));
}

fn hold(dir: &Path) {
    let _store = SledStore::open(dir).unwrap();
    tell("held");
    std::thread::sleep(PATIENCE);
}

fn fill(dir: &Path) {
    let store = SledStore::open(dir).unwrap();
    for number in 0..2_000 {
        store.commit(numbered(number, 30_000)).unwrap();
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    tell(peak.trim().trim_end_matches(" kB"));
}

fn largest_commits(dir: &Path) {
    let store = SledStore::open(dir).unwrap();
    let commit = |what: &str, writes: WriteSet| {
        let before = written_bytes();
        store.commit(writes).unwrap();
        tell(&format!("{} bytes of log for {what}", written_bytes() - before));
    };
    let key = |number: usize| (number as u64).to_be_bytes().to_vec();
    // The second round of the middle ones replaces the first.
    let lengths = [VALUE_BYTES_MAX, 16 << 10, 16 << 10, 4 << 10];
    for (round, value_bytes) in lengths.into_iter().enumerate() {
        let mut writes = WriteSet::default();
        for number in 0..(5 << 20) / value_bytes {
            let key = key(value_bytes * 10_000 + number);
            writes.put(Tree::Payload, key, Bytes::from(vec![round as u8; value_bytes]));
        }
        commit(&format!("5 MiB in values of {value_bytes} bytes"), writes);
    }
    let mut small = WriteSet::default();
    let mut gone = WriteSet::default();
    for number in 0..300 {
        let large = key((16 << 10) * 10_000 + number);
        small.put(Tree::Payload, [large.clone(), vec![1]].concat(), Bytes::from("small"));
        gone.remove(Tree::Payload, large);
    }
    commit("300 small values among large ones", small);
    commit("300 large values removed", gone);
}
