//! The same by the program: what its operator sees.

use std::path::{Path, PathBuf};

use crate::everything::copy;
use crate::node::{Node, run, serve};
use crate::program::{Ended, pulk};
use crate::subject::{Damage, Subject, newest_journal};

fn doctor(directory: &Path) -> Ended {
    pulk(&["doctor", directory.to_str().unwrap()], &[])
}

async fn refused(directory: &Path, words: &[&str]) {
    let again = tempfile::tempdir().unwrap();
    copy(directory, again.path());
    let serving = run(serve(["--data-dir".as_ref(), directory.as_os_str()])).await;
    let examined = doctor(again.path());
    for (code, said) in [(serving.0, serving.2), (Some(examined.code), examined.stderr)] {
        assert_eq!(code, Some(74), "{said}");
        let sentence = said.lines().last().unwrap();
        assert!(sentence.starts_with("pulk: "), "{said}");
        assert!(words.iter().all(|word| sentence.contains(word)), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn a_mended_bit_is_told_by_the_log_and_by_doctor() {
    let subject = Subject::killed().await;
    let journal = newest_journal(subject.directory.path());
    for (file, bit) in [(PathBuf::from("sled/db"), 8 * 5_000), (journal, 8 * 5_000)] {
        let examined = doctor(subject.damaged(&file, Damage::Bit(bit)).path());
        assert_eq!(examined.code, 0, "{examined:?}");
        assert!(examined.stdout.contains("damages in the files mended"), "{examined:?}");
        let directory = subject.damaged(&file, Damage::Bit(bit));
        let node = Node::start(directory.path()).await;
        let queues = node.http.get("/v1/queues").await.json();
        let queues = queues["queues"].as_array().unwrap();
        assert_eq!(queues.len(), subject.contents.queues.len());
        node.signal(rustix::process::Signal::TERM);
        let (status, log) = node.ended().await;
        assert!(status.success() && log.contains("was mended"), "{log}");
    }
}

#[tokio::test]
async fn what_cannot_be_mended_is_refused_with_a_sentence() {
    let subject = Subject::killed().await;
    let journal = newest_journal(subject.directory.path());
    for file in ["sled/db", journal.to_str().unwrap()] {
        let (from, until) = (5_000, 5_020);
        let directory = subject.damaged(Path::new(file), Damage::Bytes { from, until });
        refused(directory.path(), &["damaged", file, "restore the data directory from"]).await;
    }
    for (file, length) in subject.files() {
        let name = file.to_str().unwrap();
        if name.contains("snap.") || name.ends_with("durable") {
            let damage = Damage::Bytes { from: 0, until: length };
            refused(subject.damaged(&file, damage).path(), &["damaged", "restore"]).await;
        }
    }
}
