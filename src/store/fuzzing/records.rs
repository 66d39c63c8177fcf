//! `codec`: whatever bytes lie on the disk, reading them ends in a record or a refusal, and what
//! was written is read.

use bytes::Bytes;

use super::draw::Draw;
use crate::lease::LeaseToken;
use crate::store::codec::{
    self, DecodeError, FORMAT_VERSION, HEADER_BYTES, JournalBody, Record, encode_raw,
};
use crate::store::format::{
    ChunkRecord, DeadRecord, IdempotencyRecord, LimitsRecord, LineRecord, LocationRecord,
    MetaRecord, PAYLOAD_PART_KIND, PlacesRecord, ProgressRecord, QueueLinesRecord, QueueRecord,
    ReplayRecord, ResultRecord, ScheduleProgressRecord, ScheduleRecord, TimerRecord, UniqueRecord,
};
use crate::store::{Tree, WriteSet, journal};

/// Calls this with each type of record.
macro_rules! for_each_record {
    ($function:ident($($argument:expr),*)) => {
        $function::<MetaRecord>($($argument),*);
        $function::<QueueRecord>($($argument),*);
        $function::<ChunkRecord>($($argument),*);
        $function::<ProgressRecord>($($argument),*);
        $function::<TimerRecord>($($argument),*);
        $function::<DeadRecord>($($argument),*);
        $function::<LocationRecord>($($argument),*);
        $function::<UniqueRecord>($($argument),*);
        $function::<IdempotencyRecord>($($argument),*);
        $function::<ResultRecord>($($argument),*);
        $function::<ReplayRecord>($($argument),*);
        $function::<ScheduleRecord>($($argument),*);
        $function::<ScheduleProgressRecord>($($argument),*);
        $function::<LimitsRecord>($($argument),*);
        $function::<LineRecord>($($argument),*);
        $function::<PlacesRecord>($($argument),*);
        $function::<QueueLinesRecord>($($argument),*);
    };
}

/// Reads the bytes as everything that they could be, and keeps none of it: what this allocates is
/// what a hostile file can make a node allocate.
pub fn codec_reads(input: &[u8]) {
    for_each_record!(reads(input));
    drop(codec::decode_journal_body(input));
    drop(journal::read_entries(1, input));
    let text = String::from_utf8_lossy(input);
    drop(text.parse::<crate::job::JobId>());
    drop(text.parse::<LeaseToken>());
    drop(text.parse::<crate::clock::Timestamp>());
}

fn reads<R: Record>(input: &[u8]) {
    drop(codec::decode::<R>(input));
    drop(codec::decode::<R>(&encode_raw(R::KIND, input)));
}

/// Whatever bytes, whatever records.
///
/// # Panics
/// When something is not read as it was written, or is read from what nobody wrote.
pub fn codec(input: &[u8]) {
    for_each_record!(reads_as_written(input));
    raw_bytes_come_back(input);
    a_changed_byte_is_seen(input);
    journal_bodies_are_read_as_written(input);
    journal_files_are_read_as_written(input);
    texts_are_read_as_written(input);
}

fn reads_as_written<R: Record>(input: &[u8]) {
    // Random bytes never pass the checksum; so it is put on, and the body alone is hostile.
    if let Ok(record) = codec::decode::<R>(&encode_raw(R::KIND, input)) {
        assert_comes_back(&record);
    }
    // The same bytes as what the fields are drawn from.
    if let Ok(record) = R::deserialize(&mut Draw(input)) {
        assert_comes_back(&record);
    }
}

/// Compared as bytes: a share that is no number is not equal to itself.
fn assert_comes_back<R: Record>(record: &R) {
    let bytes = codec::encode(record);
    let found = codec::decode::<R>(&bytes).expect("what was encoded is decoded");
    assert_eq!(codec::encode(&found), bytes);
    assert_eq!(HEADER_BYTES + codec::body_bytes(&found), bytes.len());
}

fn raw_bytes_come_back(input: &[u8]) {
    let sealed = encode_raw(PAYLOAD_PART_KIND, input);
    assert_eq!(codec::decode_raw(PAYLOAD_PART_KIND, &sealed).unwrap(), input);
    assert!(codec::decode_raw(PAYLOAD_PART_KIND + 1, &sealed).is_err());
    drop(codec::decode_raw(PAYLOAD_PART_KIND, &Bytes::copy_from_slice(input)));
}

/// No record is read from bytes of which one is not as it was written.
fn a_changed_byte_is_seen(input: &[u8]) {
    let Some((at, rest)) = input.split_first_chunk::<2>() else { return };
    let Some((change, body)) = rest.split_first() else { return };
    let mut sealed = encode_raw(PAYLOAD_PART_KIND, body).to_vec();
    let at = usize::from(u16::from_le_bytes(*at)) % sealed.len();
    if let (Some(byte), 1..) = (sealed.get_mut(at), *change) {
        *byte ^= change;
        let found = codec::decode_raw(PAYLOAD_PART_KIND, &sealed.into());
        assert!(matches!(found, Err(DecodeError::Damaged(_))), "{found:?}");
    }
    let newer = sealed_as(FORMAT_VERSION + 1, body);
    let found = codec::decode_raw(PAYLOAD_PART_KIND, &newer);
    assert_eq!(found, Err(DecodeError::NewerFormat(FORMAT_VERSION + 1)));
}

/// A payload part of another format, with a checksum that is right.
fn sealed_as(version: u8, body: &[u8]) -> Bytes {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version, PAYLOAD_PART_KIND]);
    hasher.update(body);
    let header = [&[version, PAYLOAD_PART_KIND][..], &hasher.finalize().to_le_bytes()].concat();
    [header.as_slice(), body].concat().into()
}

fn journal_bodies_are_read_as_written(input: &[u8]) {
    if let Ok(body) = codec::decode_journal_body(input) {
        let bytes = codec::encode_journal_body(&body);
        assert_eq!(codec::decode_journal_body(&bytes).unwrap(), body);
    }
    // Whole entries with hostile bodies: read up to the first that says nothing.
    let file = journal::file_of(7, &[input]);
    let (_, end) = journal::read_entries(7, &file);
    assert!(end <= file.len());
}

/// Commits drawn from the bytes, in a file: all of them come back; in a file that was cut off or
/// changed at any place only those before it, whole; one flipped bit may be mended.
fn journal_files_are_read_as_written(input: &[u8]) {
    let mut draw = Draw(input);
    let (place, change) = (draw.number(16) as usize, draw.byte());
    let commits: Vec<WriteSet> = (0..draw.below(4)).map(|_| write_set(&mut draw)).collect();
    let bodies: Vec<Vec<u8>> = commits.iter().map(body).collect();
    let entries: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
    let mut file = journal::file_of(9, &entries);
    assert_eq!(journal::read_entries(9, &file), (commits.clone(), file.len()));
    assert_eq!(journal::read_entries(8, &file), (Vec::new(), 0), "a file of another number");
    let place = place % file.len();
    match change {
        0 => file.truncate(place),
        change => file.get_mut(place).into_iter().for_each(|byte| *byte ^= change),
    }
    let (found, end) = journal::read_entries(9, &file);
    let is_one_bit = change.is_power_of_two();
    assert!(end <= place || is_one_bit, "read to {end}, damaged at {place}");
    assert!(commits.starts_with(&found));
}

fn write_set(draw: &mut Draw<'_>) -> WriteSet {
    let mut writes = WriteSet::default();
    for _ in 0..draw.below(5) {
        let tree = Tree::from_number(draw.below(Tree::ALL.len() as u8)).unwrap();
        match draw.below(3) {
            0 => writes.remove(tree, draw.bytes()),
            _ => writes.put(tree, draw.bytes(), draw.bytes().into()),
        }
    }
    writes
}

fn body(writes: &WriteSet) -> Vec<u8> {
    let body: JournalBody = writes
        .iter()
        .map(|(tree, key, value)| (tree.number(), key.clone().into(), value.clone()))
        .collect();
    codec::encode_journal_body(&body)
}

fn texts_are_read_as_written(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let mut draw = Draw(input);
    let job = crate::job::JobId::from_u128(draw.number(128));
    let token = LeaseToken { job, delivery: draw.number(32) as u32 };
    assert_eq!(token.to_string().parse::<LeaseToken>().unwrap(), token);
    if let Ok(token) = text.parse::<LeaseToken>() {
        assert!(token.to_string().eq_ignore_ascii_case(&text), "{text:?} is {token}");
    }
    if let Ok(moment) = text.parse::<crate::clock::Timestamp>() {
        let written = moment.to_string();
        assert_eq!(written.parse::<crate::clock::Timestamp>().unwrap(), moment, "{text:?}");
    }
}
