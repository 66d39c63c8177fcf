//! On a terminal: questions are asked, and tables fit.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::node_with;

/// Both ends of a terminal of this width.
fn terminal(columns: u16) -> (File, File) {
    let here: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&here).unwrap();
    unlockpt(&here).unwrap();
    let size = Winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(here.as_fd(), size).unwrap();
    let name = ptsname(&here, Vec::new()).unwrap().into_string().unwrap();
    let there = OpenOptions::new().read(true).write(true).open(name).unwrap();
    (File::from(here), there)
}

/// Runs the program on a terminal on which somebody has typed; gives its code and what it showed.
fn typed(arguments: &[&str], url: &str, columns: u16, keys: &str) -> (i32, String) {
    let (mut here, there) = terminal(columns);
    here.write_all(keys.as_bytes()).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_pulk"))
        .args(arguments)
        .env_clear()
        .env("PULK_URL", url)
        .stdin(Stdio::from(there.try_clone().unwrap()))
        .stdout(Stdio::from(there.try_clone().unwrap()))
        .stderr(Stdio::from(there))
        .spawn()
        .unwrap();
    let mut shown = Vec::new();
    // Linux ends it with an error once the other end is closed.
    let _ = here.read_to_end(&mut shown);
    let code = child.wait().unwrap().code().unwrap();
    (code, String::from_utf8(shown).unwrap().replace('\r', ""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_is_asked_and_only_yes_does_it() {
    let (node, client) = node_with(&[]).await;
    let id = client.printed(&["enqueue", "k"]);
    let cancel = ["jobs", "cancel", id.trim()];
    for no in ["n\n", "\n", "\x04"] {
        let (code, shown) = typed(&cancel, &client.0, 80, no);
        assert_eq!(code, 1, "{shown}");
        assert!(shown.contains("Cancel 1 job? [y/N]"), "{shown}");
        assert!(shown.contains("nothing was done"), "{shown}");
    }
    assert_eq!(client.json(&["jobs", "show", id.trim(), "--json"])["state"], "ready");
    let (code, shown) = typed(&cancel, &client.0, 80, "yes\n");
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains(&format!("{} cancelled", id.trim())), "{shown}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_is_no_wider_than_the_terminal() {
    let (node, client) = node_with(&[]).await;
    let long = "a-queue-with-a-name-that-is-much-longer-than-there-is-room-for".repeat(2);
    client.printed(&["enqueue", "k", "--queue", &long]);
    for (columns, has_all) in [(100, true), (80, false)] {
        let (code, shown) = typed(&["stats"], &client.0, columns, "");
        assert_eq!(code, 0, "{shown}");
        assert!(shown.contains("OUT/S") && shown.contains("FAIL/S") == has_all, "{shown}");
        let most = usize::from(columns);
        assert!(shown.lines().all(|line| line.chars().count() <= most), "{shown}");
        assert!(shown.lines().count() > 2, "the name is broken: {shown}");
    }
    // Where there is no terminal, it is one line.
    assert!(client.printed(&["stats"]).contains(&long));
    node.stop().await;
}

#[test]
fn completions_are_scripts_that_their_shell_reads() {
    for shell in ["bash", "zsh", "fish"] {
        let script = crate::program::pulk(&["completions", shell], &[]);
        assert_eq!(script.code, 0);
        for word in ["replay", "from-line", "print-config"] {
            assert!(script.stdout.contains(word), "{shell} does not know {word}");
        }
    }
    let script = crate::program::pulk(&["completions", "bash"], &[]).stdout;
    let read = Command::new("bash").args(["-n", "-c", &script]).status().unwrap();
    assert!(read.success());
    crate::program::refused(&["completions", "tcsh"], &[], 64, "tcsh");
}

#[test]
fn the_numbers_of_a_bench_are_no_wider_than_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = format!("--data-dir={}", directory.path().join("new").display());
    let bench = ["bench", "--quick", "--jobs=100", "--only=batch-10", &data_dir];
    for (columns, has_all) in [(80, false), (120, true)] {
        let (code, shown) = typed(&bench, "", columns, "");
        assert_eq!(code, 0, "{shown}");
        let row = shown.lines().find(|line| line.starts_with("batch-10  ")).unwrap();
        assert!(row.chars().count() <= usize::from(columns), "{row}");
        assert_eq!(shown.contains("P99.9"), has_all, "{shown}");
    }
}
