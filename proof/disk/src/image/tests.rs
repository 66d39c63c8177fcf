use std::collections::BTreeSet;
use std::path::PathBuf;

use super::*;
use crate::chance::Seeded;

/// Makes every decision there is, one way after the other.
#[derive(Default)]
struct Every {
    /// The decisions of this way, and their bounds.
    made: Vec<(u64, u64)>,
    next: usize,
}

impl Every {
    /// Goes on to the next way, if there is one.
    fn turn(&mut self) -> bool {
        self.next = 0;
        while let Some((decision, bound)) = self.made.pop() {
            if decision + 1 < bound {
                self.made.push((decision + 1, bound));
                return true;
            }
        }
        false
    }
}

impl Chance for Every {
    fn below(&mut self, bound: u64) -> u64 {
        if bound <= 1 {
            return 0;
        }
        if self.next == self.made.len() {
            self.made.push((0, bound));
        }
        self.next += 1;
        self.made[self.next - 1].0
    }

    fn in_eight(&mut self, _: u64) -> bool {
        self.below(2) == 1
    }
}

fn history(base: &[(&str, &[u8])], operations: Vec<Operation>) -> History {
    let entries = base.iter().map(|(path, bytes)| (PathBuf::from(path), Some(bytes.to_vec())));
    History { base: Base { entries: entries.collect() }, operations }
}

fn write(path: &str, offset: u64, bytes: &[u8]) -> Operation {
    Operation::Write { path: path.into(), offset, bytes: bytes.to_vec() }
}

fn create(path: &str) -> Operation {
    Operation::Create { path: path.into() }
}

fn set_length(path: &str, length: u64) -> Operation {
    Operation::SetLength { path: path.into(), length }
}

fn rename(from: &str, to: &str) -> Operation {
    Operation::Rename { from: from.into(), to: to.into() }
}

fn remove(path: &str) -> Operation {
    Operation::Remove { path: path.into() }
}

fn began(number: u64, path: &str) -> Operation {
    Operation::SyncBegan { number, path: path.into() }
}

fn ended(number: u64) -> Operation {
    Operation::SyncEnded { number }
}

fn synced(number: u64, path: &str) -> [Operation; 2] {
    [began(number, path), ended(number)]
}

/// An image in words: names, sorted, each with its bytes. Runs of eight or more equal bytes are
/// written short.
fn words(survivors: &[Survivor<'_>]) -> String {
    let mut words = Vec::new();
    for (path, bytes) in survivors {
        let mut text = path.display().to_string() + if bytes.is_some() { "=" } else { "/" };
        for run in bytes.iter().flat_map(|bytes| bytes.chunk_by(|a, b| a == b)) {
            let one = if run[0] == 0 { "0".to_owned() } else { char::from(run[0]).to_string() };
            let many = run.len() >= 8;
            text += &if many { format!("[{one}*{}]", run.len()) } else { one.repeat(run.len()) };
        }
        words.push(text);
    }
    words.join(" ")
}

fn image(history: &History, cut: usize, chance: &mut dyn Chance) -> String {
    let mut disk = history.disk();
    disk.advance(cut);
    words(&disk.survivors(chance))
}

/// All images that a cut after all of a history may leave.
fn images(history: &History) -> BTreeSet<String> {
    let (mut every, mut found) = (Every::default(), BTreeSet::new());
    loop {
        found.insert(image(history, history.operations.len(), &mut every));
        if !every.turn() {
            return found;
        }
    }
}

#[track_caller]
fn exactly(history: &History, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|&image| image.to_owned()).collect();
    assert_eq!(images(history), expected);
}

#[test]
fn what_was_there_at_the_beginning_stays() {
    exactly(&history(&[("a", b"abc"), ("b", b"")], vec![]), &["a=abc b="]);
}

#[test]
fn what_was_written_and_not_synced_may_be_there_or_not() {
    exactly(&history(&[("a", b"abc")], vec![write("a", 1, b"X")]), &["a=abc", "a=aXc"]);
}

#[test]
fn what_a_sync_covers_is_there() {
    let mut operations = vec![write("a", 1, b"X")];
    operations.extend(synced(1, "a"));
    exactly(&history(&[("a", b"abc")], operations), &["a=aXc"]);
}

#[test]
fn a_sync_covers_what_was_done_before_it_began_and_only_once_it_has_ended() {
    let under_way = vec![write("a", 0, b"X"), began(1, "a")];
    exactly(&history(&[("a", b"abc")], under_way), &["a=abc", "a=Xbc"]);
    let later = vec![write("a", 0, b"X"), began(1, "a"), write("a", 2, b"Z"), ended(1)];
    exactly(&history(&[("a", b"abc")], later), &["a=Xbc", "a=XbZ"]);
}

#[test]
fn a_sync_of_one_file_covers_no_other() {
    let mut operations = vec![write("a", 0, b"X")];
    operations.extend(synced(1, "b"));
    exactly(&history(&[("a", b"a"), ("b", b"b")], operations), &["a=a b=b", "a=X b=b"]);
}

#[test]
fn a_new_name_needs_a_sync_of_its_directory_and_the_bytes_one_of_the_file() {
    let made = || vec![create("a"), write("a", 0, b"A")];
    exactly(&history(&[], made()), &["", "a=", "a=0", "a=A"]);
    let with = |paths: &[&str]| {
        let syncs = paths.iter().zip(1..).flat_map(|(path, number)| synced(number, path));
        history(&[], made().into_iter().chain(syncs).collect())
    };
    exactly(&with(&["a"]), &["", "a=A"]);
    exactly(&with(&[""]), &["a=", "a=0", "a=A"]);
    exactly(&with(&["a", ""]), &["a=A"]);
}

#[test]
fn a_sector_is_as_it_was_after_any_of_its_writes() {
    let writes = vec![write("a", 0, b"1"), write("a", 0, b"2"), write("a", 0, b"3")];
    exactly(&history(&[("a", b"0")], writes), &["a=0", "a=1", "a=2", "a=3"]);
}

#[test]
fn sectors_reach_the_disk_in_any_order() {
    let base = [b'-'; 1024];
    let writes = vec![write("a", 0, b"1"), write("a", 600, b"2")];
    let found = images(&history(&[("a", &base)], writes));
    // With sectors of 4096 bytes only the order of the writes is possible.
    let expected = ["a=[-*1024]", "a=1[-*1023]", "a=[-*600]2[-*423]", "a=1[-*599]2[-*423]"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn the_newest_write_may_be_torn_at_any_byte() {
    let found = images(&history(&[("a", b"----")], vec![write("a", 0, b"123")]));
    let expected = ["a=----", "a=1---", "a=12--", "a=123-"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn a_file_that_grew_ends_anywhere_and_shows_zeros_where_nothing_was_written() {
    let found = images(&history(&[("a", b"-")], vec![write("a", 1, b"12")]));
    let expected = ["a=-", "a=-0", "a=-1", "a=-00", "a=-10", "a=-12"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn a_file_that_was_made_longer_or_shorter_has_any_of_its_lengths() {
    let found = images(&history(&[("a", b"abc")], vec![set_length("a", 1)]));
    // The cut is seen in the sector it went through even before it is seen in the length.
    assert_eq!(found, ["a=abc", "a=a00", "a=a"].map(str::to_owned).into());
    let found = images(&history(&[("a", b"a")], vec![set_length("a", 3)]));
    assert_eq!(found, ["a=a", "a=a0", "a=a00"].map(str::to_owned).into());
}

#[test]
fn what_was_cut_off_does_not_come_back_with_the_length() {
    let operations = vec![set_length("a", 0), set_length("a", 2), write("a", 0, b"x")];
    let found = images(&history(&[("a", b"ab")], operations));
    assert_eq!(found, ["a=ab", "a=", "a=0", "a=00", "a=x", "a=x0"].map(str::to_owned).into());
}

#[test]
fn a_rename_is_there_or_not_and_takes_the_bytes_with_it() {
    let renamed = || vec![rename("new", "a")];
    exactly(&history(&[("a", b"1"), ("new", b"2")], renamed()), &["a=1 new=2", "a=2"]);
    let mut durable = renamed();
    durable.extend(synced(1, ""));
    exactly(&history(&[("a", b"1"), ("new", b"2")], durable), &["a=2"]);
    // The file is the same one whatever it is called: a sync under the new name covers it.
    let mut operations = vec![write("new", 0, b"3"), rename("new", "a")];
    operations.extend(synced(1, "a"));
    exactly(&history(&[("new", b"2")], operations), &["new=3", "a=3"]);
}

#[test]
fn the_changes_of_a_directory_keep_their_order() {
    let operations = vec![create("b"), remove("a"), rename("b", "c")];
    exactly(&history(&[("a", b"1")], operations), &["a=1", "a=1 b=", "b=", "c="]);
}

#[test]
fn two_directories_do_not_wait_for_each_other() {
    let mut operations = vec![Operation::MakeDirectory { path: "d".into() }, create("d/x")];
    exactly(&history(&[], operations.clone()), &["", "d/", "d/ d/x="]);
    operations.extend(synced(1, "d"));
    exactly(&history(&[], operations.clone()), &["", "d/ d/x="]);
    operations.extend(synced(2, ""));
    exactly(&history(&[], operations.clone()), &["d/ d/x="]);
    operations.extend([remove("d/x"), Operation::RemoveDirectory { path: "d".into() }]);
    exactly(&history(&[], operations), &["d/ d/x=", "d/", ""]);
}

#[test]
fn a_removed_file_is_whole_or_gone() {
    exactly(&history(&[("a", b"1")], vec![remove("a")]), &["a=1", ""]);
    let mut operations = vec![remove("a"), create("a")];
    exactly(&history(&[("a", b"1")], operations.clone()), &["a=1", "", "a="]);
    operations.extend(synced(1, ""));
    exactly(&history(&[("a", b"1")], operations), &["a="]);
}

#[test]
fn only_what_was_done_before_the_cut_counts() {
    let mut operations = vec![write("a", 0, b"X")];
    operations.extend(synced(1, "a"));
    let history = history(&[("a", b"a")], operations);
    for (cut, expected) in [(0, "a=a"), (2, "a=a"), (3, "a=X")] {
        assert_eq!(image(&history, cut, &mut Bytes::new(&[])), expected);
    }
}

#[test]
fn the_simplest_decisions_leave_what_is_durable() {
    let mut operations = vec![create("b"), write("a", 0, b"X"), remove("c")];
    operations.extend(synced(1, "a"));
    operations.push(write("a", 0, b"Y"));
    let history = history(&[("a", b"a"), ("c", b"c")], operations);
    assert_eq!(image(&history, 6, &mut Bytes::new(&[])), "a=X c=c");
}

#[test]
fn a_seed_leaves_the_same_image_again() {
    let bytes: Vec<u8> = (0..200_000u32).map(|number| number as u8 | 1).collect();
    let operations = vec![create("a"), write("a", 0, &bytes), write("a", 90_000, &bytes)];
    let history = history(&[], operations);
    let draw = |seed| image(&history, 3, &mut Seeded::new(seed));
    let images: BTreeSet<String> = (0..40).map(draw).collect();
    assert!(images.len() > 15, "{} different images of 40", images.len());
    assert_eq!((0..40).map(draw).collect::<BTreeSet<String>>(), images);
}

#[test]
fn an_image_is_written_as_it_was_drawn() {
    let zeros_within = [&[7u8; 5000][..], &[0; 9000], &[8; 3]].concat();
    let operations = vec![
        Operation::MakeDirectory { path: "d".into() },
        create("d/a"),
        write("d/a", 0, &zeros_within),
        create("d/empty"),
    ];
    let written = history(&[("b", b"b")], operations);
    for seed in 0..50 {
        let into = tempfile::tempdir().unwrap();
        written.image(4, &mut Seeded::new(seed), into.path()).unwrap();
        let found = Base::read(into.path()).unwrap().entries;
        let found = found.into_iter().map(|(path, bytes)| (path, bytes.map(Cow::Owned)));
        let found: Vec<Survivor<'_>> = found.collect();
        assert_eq!(words(&found), image(&written, 4, &mut Seeded::new(seed)));
    }
}

#[test]
fn without_a_power_cut_everything_is_there() {
    let operations = vec![
        create("b"),
        write("b", 2, b"12"),
        rename("b", "a"),
        write("a", 0, b"3"),
        set_length("a", 3),
        create("c"),
        remove("c"),
    ];
    let end = history(&[("a", b"old")], operations).end();
    assert_eq!(end.entries, [(PathBuf::from("a"), Some(b"3\x001".to_vec()))]);
}
