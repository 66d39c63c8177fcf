use std::path::Path;

use super::*;

/// Text as strace writes it with `-xx`.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("\\x{byte:02x}")).collect()
}

/// A trace in which what stands between backticks is in hexadecimals.
fn trace(text: &str) -> io::Result<Trace> {
    let parts = text.split('`').enumerate();
    let text: String =
        parts.map(|(nth, part)| if nth % 2 == 1 { hex(part) } else { part.to_owned() }).collect();
    let base = Base { entries: vec![("a".into(), Some(b"abc".to_vec()))] };
    read(text.as_bytes(), Path::new("/disk"), &base)
}

#[track_caller]
fn operations(text: &str) -> Vec<Operation> {
    trace(text).unwrap().operations
}

fn write(path: &str, offset: u64, bytes: &[u8]) -> Operation {
    Operation::Write { path: path.into(), offset, bytes: bytes.to_vec() }
}

fn began(number: u64, path: &str) -> Operation {
    Operation::SyncBegan { number, path: path.into() }
}

const ENDED: Operation = Operation::SyncEnded { number: 1 };

#[test]
fn calls_on_files_become_operations() {
    let text = r#"7 openat(AT_FDCWD<`/`>, "`/disk/b`", O_RDWR|O_CREAT, 0666) = 3<`/disk/b`>
7 write(3<`/disk/b`>, "`hello`", 5) = 5
7 pwrite64(3<`/disk/b`>, "`x`", 1, 9)      = 1
7 writev(3<`/disk/b`>, [{iov_base="`1`", iov_len=1}, {iov_base="`2`", iov_len=1}], 2) = 2
7 ftruncate(3<`/disk/b`>, 20)       = 0
7 fallocate(3<`/disk/b`>, FALLOC_FL_KEEP_SIZE, 20, 30) = 0
7 fallocate(3<`/disk/b`>, 0, 20, 30) = 0
7 rename("`/disk/b`", "`/disk/c`") = 0
7 fsync(3<`/disk/c`>)               = 0
7 mkdirat(AT_FDCWD, "`/disk/d`", 0777) = 0
7 unlinkat(4<`/disk`>, "`d`", AT_REMOVEDIR) = 0
7 unlink("`/disk/c`") = 0
7 write(3<`/disk/c`>(deleted), "`z`", 1) = 1
7 +++ exited with 0 +++
"#;
    let path = |path: &str| path.into();
    let expected = [
        Operation::Create { path: path("b") },
        write("b", 0, b"hello"),
        write("b", 9, b"x"),
        write("b", 5, b"12"),
        Operation::SetLength { path: path("b"), length: 20 },
        Operation::SetLength { path: path("b"), length: 50 },
        Operation::Rename { from: path("b"), to: path("c") },
        began(1, "c"),
        ENDED,
        Operation::MakeDirectory { path: path("d") },
        Operation::RemoveDirectory { path: path("d") },
        Operation::Remove { path: path("c") },
    ];
    assert_eq!(operations(text), expected);
}

#[test]
fn a_file_that_is_there_is_not_made_but_may_be_cut_off() {
    let open = |flags| format!("7 open(\"`/disk/a`\", {flags}, 0666) = 3<`/disk/a`>\n");
    assert_eq!(operations(&open("O_WRONLY|O_CREAT")), []);
    let cut = Operation::SetLength { path: "a".into(), length: 0 };
    assert_eq!(operations(&open("O_WRONLY|O_CREAT|O_TRUNC")), [cut]);
    let appended = open("O_WRONLY|O_APPEND") + "7 write(3<`/disk/a`>, \"`x`\", 1) = 1\n";
    assert_eq!(operations(&appended), [write("a", 3, b"x")]);
    let moved = open("O_RDWR")
        + "7 read(3<`/disk/a`>, \"`a`\", 1) = 1\n7 write(3<`/disk/a`>, \"`x`\", 1) = 1\n\
           7 lseek(3<`/disk/a`>, 0, SEEK_SET) = 0\n7 write(3<`/disk/a`>, \"`y`\", 1) = 1\n";
    assert_eq!(operations(&moved), [write("a", 1, b"x"), write("a", 0, b"y")]);
}

#[test]
fn a_write_counts_from_its_end_and_a_sync_covers_what_ended_before_it_began() {
    let text = r#"1 pwrite64(3<`/disk/a`>, "`x`", 1, 0 <unfinished ...>
2 fdatasync(3<`/disk/a`> <unfinished ...>
1 <... pwrite64 resumed>)           = 1
2 <... fdatasync resumed>)          = 0
"#;
    assert_eq!(operations(text), [began(1, "a"), write("a", 0, b"x"), ENDED]);
}

#[test]
fn what_failed_was_cut_short_or_lies_elsewhere_is_told_apart() {
    let text = r#"1 write(3<`/disk/a`>, "`xyz`", 3) = 2
1 write(3<`/disk/a`>, "`z`", 1) = -1 ENOSPC (No space left on device)
1 fsync(3<`/disk/a`>) = -1 EIO (Input/output error)
1 write(4<`/elsewhere/a`>, "`z`", 1) = 1
1 unlink("`/elsewhere/a`") = 0
1 fsync(3<`/disk/a`> <unfinished ...>
2 --- SIGKILL {si_signo=SIGKILL} ---
1 <... fsync resumed>) = ?
"#;
    assert_eq!(operations(text), [write("a", 0, b"xy"), began(1, "a"), began(2, "a")]);
}

#[test]
fn what_was_under_way_at_the_end_is_told_apart() {
    let text = r#"1 pwrite64(3<`/disk/a`>, "`x`", 1, 0) = 1
1 fsync(3<`/disk/a`> <unfinished ...>
4 rename("`/disk/a`", "`/disk/b`" <unfinished ...>
1 <... fsync resumed>) = ?
3 pwrite64(3<`/disk/a`>, "`y`", 1, 0) = ?
3 pwrite64(3<`/disk/a`>, "`yz`", 2, 0) = ? ERESTARTSYS
4 <... rename resumed>) = ?
4 +++ killed by SIGKILL +++
"#;
    let trace = trace(text).unwrap();
    assert_eq!(trace.operations, [write("a", 0, b"x"), began(1, "a")]);
    let rename = Operation::Rename { from: "a".into(), to: "b".into() };
    assert_eq!(trace.under_way, [write("a", 0, b"yz"), rename]);
}

#[test]
fn what_is_sent_is_marked_where_it_begins() {
    let text = r#"1 sendto(5<TCP:[127.0.0.1:8->127.0.0.1:4711]>, "`HTTP`", 4 <unfinished ...>
2 pwrite64(3<`/disk/a`>, "`x`", 1, 0) = 1
1 <... sendto resumed>)             = 4
1 writev(5<TCP:[127.0.0.1:80->127.0.0.1:4712]>, [{iov_base="`a`", iov_len=1}], 1) = 1
1 write(6<pipe:[99]>, "`a`", 1) = 1
"#;
    let trace = trace(text).unwrap();
    assert_eq!(trace.operations, [Operation::Mark(0), write("a", 0, b"x"), Operation::Mark(1)]);
    let sent = |to_port, bytes: &[u8]| Sent { to_port, bytes: bytes.to_vec() };
    assert_eq!(trace.sent, [sent(4711, b"HTTP"), sent(4712, b"a")]);
}

#[test]
fn what_is_not_understood_is_refused_with_its_line() {
    for line in [
        "1 link(\"`/disk/a`\", \"`/disk/b`\") = 0",
        "1 rename(\"`/disk/a`\", \"`/elsewhere/b`\") = 0",
        "1 rename(\"`a`\", \"`b`\") = 0",
        "1 pwrite64(3<`/disk/a`>, \"`x`\"..., 5, 0) = 5",
        "1 pwrite64(3<`/disk/b`>, \"`x`\", 1, 0) = 1",
        "1 <... fsync resumed>) = 0",
        "whatever",
    ] {
        let refused = trace(&format!("1 fsync(9<pipe:[1]>) = 0\n{line}\n")).unwrap_err();
        assert!(refused.to_string().starts_with("line 2 of the trace"), "{refused}");
    }
}

#[test]
fn what_lies_in_a_directory_moves_with_it() {
    let text = r#"1 mkdir("`/disk/d`", 0777) = 0
1 open("`/disk/d/x`", O_WRONLY|O_CREAT, 0666) = 3<`/disk/d/x`>
1 rename("`/disk/d`", "`/disk/e`") = 0
1 write(3<`/disk/e/x`>, "`x`", 1) = 1
"#;
    assert_eq!(operations(text)[3], write("e/x", 0, b"x"));
}
