//! Records as bytes: `format version u8 · kind u8 · crc32 u32 little-endian · body`.
//!
//! The checksum (CRC-32, IEEE 802.3) covers version, kind and body. The body is bincode 1.3 with
//! variable-length integers, little-endian; decoding is bounded and must consume every byte.

use bincode::Options;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The format this program writes. Every record carries it.
pub(crate) const FORMAT_VERSION: u8 = 2;
/// Bytes before the body.
pub(crate) const HEADER_BYTES: usize = 6;
/// No body is longer; bounds what decoding may allocate.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// No body of a journal entry is longer: the largest commit, with what stands round its values.
pub(crate) const JOURNAL_BODY_BYTES_MAX: u64 = 2 * crate::store::COMMIT_BYTES_MAX as u64;

/// A record type with its number on disk.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// Never changes, and is never used for another type.
    const KIND: u8;
}

/// Why bytes are not the record they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("it has format {0}, and this program reads formats up to {FORMAT_VERSION}")]
    NewerFormat(u8),
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
}

/// The record's bytes.
pub(crate) fn encode<T: Record>(record: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(256);
    bytes.extend_from_slice(&[0; HEADER_BYTES]);
    // Writing to a Vec cannot fail, and no record has a type that bincode refuses.
    let written = options().serialize_into(&mut bytes, record);
    debug_assert!(written.is_ok(), "{written:?}");
    seal(T::KIND, bytes)
}

/// The record in these bytes.
pub(crate) fn decode<T: Record>(bytes: &[u8]) -> Result<T, DecodeError> {
    let body = open(T::KIND, bytes)?;
    options().deserialize(body).map_err(|_| DecodeError::Damaged("its body can't be read"))
}

/// How many bytes a value takes inside a body.
pub(crate) fn body_bytes<T: Serialize>(value: &T) -> usize {
    options().serialized_size(value).map_or(usize::MAX, |size| size as usize)
}

/// Wraps bytes that have no inner structure.
pub(crate) fn encode_raw(kind: u8, body: &[u8]) -> Bytes {
    seal(kind, [&[0; HEADER_BYTES], body].concat())
}

/// The bytes that [`encode_raw`] wrapped.
pub(crate) fn decode_raw(kind: u8, bytes: &Bytes) -> Result<Bytes, DecodeError> {
    open(kind, bytes)?;
    Ok(bytes.slice(HEADER_BYTES..))
}

/// The writes of one commit as the journal keeps them: tree, key, value or `None` for removed.
pub(crate) type JournalBody = Vec<(u8, Bytes, Option<Bytes>)>;

/// The body of a journal entry. It has no header: the journal puts its own before it.
pub(crate) fn encode_journal_body(body: &JournalBody) -> Vec<u8> {
    let mut bytes = Vec::new();
    // As in `encode`: writing to a Vec cannot fail.
    let written = journal_options().serialize_into(&mut bytes, body);
    debug_assert!(written.is_ok(), "{written:?}");
    bytes
}

/// The writes in the body of a journal entry whose checksum was right.
pub(crate) fn decode_journal_body(bytes: &[u8]) -> Result<JournalBody, DecodeError> {
    journal_options().deserialize(bytes).map_err(|_| DecodeError::Damaged("its body can't be read"))
}

fn journal_options() -> impl Options {
    options().with_limit(JOURNAL_BODY_BYTES_MAX)
}

fn seal(kind: u8, mut bytes: Vec<u8>) -> Bytes {
    if let Some((header, body)) = bytes.split_first_chunk_mut::<HEADER_BYTES>() {
        let [a, b, c, d] = checksum(FORMAT_VERSION, kind, body).to_le_bytes();
        *header = [FORMAT_VERSION, kind, a, b, c, d];
    }
    bytes.into()
}

/// True when the checksum of a record of any kind is right.
pub(crate) fn is_whole(bytes: &[u8]) -> bool {
    bytes.split_first_chunk::<HEADER_BYTES>().is_some_and(|([version, kind, sum @ ..], body)| {
        checksum(*version, *kind, body) == u32::from_le_bytes(*sum)
    })
}

fn open(kind: u8, bytes: &[u8]) -> Result<&[u8], DecodeError> {
    let ([version, found_kind, sum @ ..], body) = bytes
        .split_first_chunk::<HEADER_BYTES>()
        .ok_or(DecodeError::Damaged("it is shorter than its header"))?;
    if checksum(*version, *found_kind, body) != u32::from_le_bytes(*sum) {
        return Err(DecodeError::Damaged("its checksum does not match"));
    }
    match *version {
        0 => Err(DecodeError::Damaged("no program ever wrote format 0")),
        // Every body of format 1 is one of format 2, which only has a variant more.
        1..=FORMAT_VERSION if *found_kind == kind => Ok(body),
        1..=FORMAT_VERSION => Err(DecodeError::Damaged("it is a record of another kind")),
        newer => Err(DecodeError::NewerFormat(newer)),
    }
}

fn checksum(version: u8, kind: u8, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version, kind]);
    hasher.update(body);
    hasher.finalize()
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
        .with_varint_encoding()
        .with_little_endian()
        .with_limit(BODY_BYTES_MAX)
        .reject_trailing_bytes()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Sample {
        number: u64,
        names: Vec<String>,
    }

    impl Record for Sample {
        const KIND: u8 = 250;
    }

    proptest! {
        #[test]
        fn a_record_goes_there_and_back(number: u64, names in prop::collection::vec(".*", 0..9)) {
            let sample = Sample { number, names };
            prop_assert_eq!(decode::<Sample>(&encode(&sample)).unwrap(), sample);
        }

        #[test]
        fn any_single_flipped_bit_is_seen(names in prop::collection::vec(".*", 0..4), at: usize) {
            let mut bytes = encode(&Sample { number: 7, names }).to_vec();
            let bit = at % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode::<Sample>(&bytes).is_err());
        }

        #[test]
        fn any_bytes_are_refused_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            prop_assert!(decode::<Sample>(&bytes).is_err());
            // With a true checksum the body alone is hostile: decoding must be exact or refuse.
            if let Ok(sample) = decode::<Sample>(&encode_raw(Sample::KIND, &bytes)) {
                prop_assert!(body_bytes(&sample) <= bytes.len());
            }
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = encode(&Sample { number: 7, names: vec![] }).to_vec();
        let newer = FORMAT_VERSION + 1;
        let sum = checksum(newer, Sample::KIND, &bytes[HEADER_BYTES..]).to_le_bytes();
        bytes[0] = newer;
        bytes[2..6].copy_from_slice(&sum);
        assert_eq!(decode::<Sample>(&bytes), Err(DecodeError::NewerFormat(newer)));
    }
}
