//! Files as a crash leaves them, and as a disk that rots does.

use super::*;

const PREPARED_BYTES: u64 = 600;

fn commit(number: u8) -> WriteSet {
    let mut writes = WriteSet::default();
    writes.put(Tree::Dead, vec![number], record(number));
    writes.remove(Tree::Timers, vec![number, 7]);
    writes
}

fn record(number: u8) -> Bytes {
    codec::encode_raw(200, &vec![number; 20 + usize::from(number)])
}

fn commits(numbers: std::ops::Range<u8>) -> Vec<WriteSet> {
    numbers.map(commit).collect()
}

fn append(journal: &mut Journal, numbers: std::ops::Range<u8>) {
    for number in numbers {
        journal.append(&commit(number)).unwrap();
    }
}

/// Two files: the first in the spare one of an older life, five commits; the second new,
/// three commits. Gives the bytes of each that count.
fn written() -> (tempfile::TempDir, [usize; 2]) {
    let dir = tempfile::tempdir().unwrap();
    let mut old = Journal::begin(dir.path(), 2, 0, PREPARED_BYTES).unwrap();
    append(&mut old, 50..59);
    give_up(dir.path(), (2, old.path())).unwrap();
    assert_eq!(next_number(dir.path()).unwrap(), 3);
    let mut first = Journal::begin(dir.path(), 3, old.bytes(), PREPARED_BYTES).unwrap();
    append(&mut first, 0..5);
    let mut second = Journal::begin(dir.path(), 4, first.bytes(), PREPARED_BYTES).unwrap();
    append(&mut second, 5..8);
    (dir, [first.bytes() as usize, second.bytes() as usize])
}

fn read_all(dir: &Path) -> Result<Vec<WriteSet>> {
    read(&files(dir).unwrap()).map(|recovered| recovered.commits)
}

fn last_entry() -> usize {
    let body = vec![
        (Tree::Timers.number(), Bytes::from(vec![7, 7]), None),
        (Tree::Dead.number(), Bytes::from(vec![7]), Some(record(7))),
    ];
    encode(4, &body).len()
}

#[test]
fn commits_are_read_back_in_their_order() {
    let (dir, _) = written();
    assert_eq!(read_all(dir.path()).unwrap(), commits(0..8));
    assert_eq!(files(dir.path()).unwrap().len(), 2);
    assert_eq!(read(&[]).unwrap().commits, []);
}

#[test]
fn a_torn_last_entry_is_left_out_wherever_it_was_cut() {
    let (dir, [_, end]) = written();
    let path = dir.path().join("journal.4");
    let whole = fs::read(&path).unwrap();
    for cut in end - last_entry()..end {
        fs::write(&path, &whole[..cut]).unwrap();
        assert_eq!(read_all(dir.path()).unwrap(), commits(0..7), "cut at {cut}");
        // The file may have its full length, with sectors of it never written.
        let mut zeros = whole.clone();
        zeros[cut..].fill(0);
        if zeros != whole {
            fs::write(&path, &zeros).unwrap();
            assert_eq!(read_all(dir.path()).unwrap(), commits(0..7), "zeros from {cut}");
        }
    }
}

#[test]
fn a_file_that_was_cut_off_while_it_was_begun_holds_nothing() {
    let (dir, _) = written();
    let path = dir.path().join("journal.4");
    for left in [0, 5, 20] {
        let begun = fs::read(&path).unwrap()[..left].to_vec();
        let into = tempfile::tempdir().unwrap();
        fs::copy(dir.path().join("journal.3"), into.path().join("journal.3")).unwrap();
        fs::write(into.path().join("journal.4"), begun).unwrap();
        assert_eq!(read_all(into.path()).unwrap(), commits(0..5), "{left} bytes");
    }
}

#[test]
fn any_single_flipped_bit_is_mended() {
    let (dir, used) = written();
    for (name, used) in ["journal.3", "journal.4"].into_iter().zip(used) {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        assert!(whole.len() > used, "behind the last entry is what an older life left");
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            flipped_bit::flip(&mut bytes, bit);
            fs::write(&path, &bytes).unwrap();
            assert_eq!(read_all(dir.path()).unwrap(), commits(0..8), "{name} {bit}");
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn more_than_a_bit_before_the_last_entry_is_damage_and_not_a_crash() {
    let (dir, [first, second]) = written();
    for (name, until) in [("journal.3", first), ("journal.4", second - last_entry())] {
        let path = dir.path().join(name);
        let whole = fs::read(&path).unwrap();
        for at in 0..until {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x18;
            fs::write(&path, &bytes).unwrap();
            let refused = read_all(dir.path()).unwrap_err();
            assert!(refused.to_string().contains("damaged at byte"), "{name} {at}: {refused}");
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(read_all(dir.path()).unwrap().len(), 8);
}

#[test]
fn a_mended_entry_whose_records_are_not_whole_is_none() {
    let entry = |value: Bytes| {
        let body = vec![(Tree::Dead.number(), Bytes::from(vec![1]), Some(value))];
        let mut entry = encode(4, &body);
        *entry.last_mut().unwrap() ^= 1;
        entry
    };
    assert!(mend(4, &entry(record(1))).is_some());
    assert!(mend(4, &entry(Bytes::from(vec![1; 20]))).is_none());
}

#[test]
fn a_file_that_is_missing_between_two_is_damage() {
    let (dir, [_, second]) = written();
    let mut third = Journal::begin(dir.path(), 5, second as u64, PREPARED_BYTES).unwrap();
    append(&mut third, 8..9);
    assert_eq!(read_all(dir.path()).unwrap(), commits(0..9));
    fs::remove_file(dir.path().join("journal.4")).unwrap();
    assert!(read_all(dir.path()).is_err());
}

#[test]
fn what_an_older_life_of_a_file_left_is_never_read() {
    let dir = tempfile::tempdir().unwrap();
    for life in 1..20u8 {
        let number = next_number(dir.path()).unwrap();
        assert_eq!(number, u64::from(life));
        let mut journal = Journal::begin(dir.path(), number, 0, PREPARED_BYTES).unwrap();
        append(&mut journal, life..life + 20 - life % 7);
        assert_eq!(read_all(dir.path()).unwrap(), commits(life..life + 20 - life % 7));
        give_up(dir.path(), (number, journal.path())).unwrap();
        assert_eq!(spares(dir.path()).unwrap().len(), 1);
    }
}

#[test]
fn a_value_that_no_commit_has_is_refused() {
    let value = |bytes| Some(Bytes::from(vec![0; bytes]));
    let body = |bytes| codec::encode_journal_body(&vec![(0, Bytes::new(), value(bytes))]);
    let (longest, longer) = (body(VALUE_BYTES_MAX), body(VALUE_BYTES_MAX + 1));
    let file = file_of(1, &[&longest, &longer]);
    let (found, end) = read_entries(1, &file);
    assert_eq!((found.len(), end), (1, file_of(1, &[&longest]).len()));
}
