//! What sled 0.34.7 writes into its log: segments, and messages in them.
//!
//! A segment of the file begins with 20 bytes: CRC-32 (inverted), its place in the log and how
//! far the log was stable then (both i64, xor `i64::MAX`). A message is: CRC-32 (inverted) u32,
//! kind u8, length of the body, number of the segment and page (integers of 1 to 9 bytes), body.
//! The checksum is over the body and then the rest of the header. All is little-endian.

use crate::store::flipped_bit;

pub(super) const SEGMENT_HEADER_BYTES: usize = 20;
/// The longest header of a message; so near its end a segment has no further message.
pub(super) const HEADER_BYTES_MAX: usize = 32;
const SUM_BYTES: usize = 4;
const KIND_CAP: u8 = 2;
const KIND_LAST: u8 = 11;

/// A message that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// With its header.
    pub(super) bytes: usize,
    /// It fills the rest of its segment.
    pub(super) is_cap: bool,
}

/// Where a segment lies in the log, by its header; `None` for what is none.
pub(super) fn segment_start(header: &[u8; SEGMENT_HEADER_BYTES]) -> Option<u64> {
    let (sum, rest) = header.split_first_chunk::<4>()?;
    let (start, _) = rest.split_first_chunk::<8>()?;
    let is_whole = !crc32fast::hash(rest) == u32::from_le_bytes(*sum);
    let start = i64::from_le_bytes(*start) ^ i64::MAX;
    u64::try_from(start).ok().filter(|_| is_whole)
}

/// The message at the beginning of these bytes, if it is whole and of this segment.
pub(super) fn whole(bytes: &[u8], segment: u64) -> Option<Message> {
    let header = Header::read(bytes).filter(|header| header.segment == segment)?;
    let end = header.bytes.checked_add(header.body_bytes)?;
    let message = bytes.get(..end)?;
    let is_whole = header.checksum(message) == header.sum;
    is_whole.then_some(Message { bytes: end, is_cap: header.kind == KIND_CAP })
}

/// The bit to flip in these bytes for a whole message of this segment to be at their beginning.
pub(super) fn flipped_bit(bytes: &[u8], segment: u64) -> Option<usize> {
    body_bit(bytes, segment).or_else(|| header_bit(bytes, segment))
}

/// One in the body, or in what of the header does not say where the message ends.
fn body_bit(bytes: &[u8], segment: u64) -> Option<usize> {
    let header = Header::read(bytes).filter(|header| header.segment == segment)?;
    let message = bytes.get(..header.bytes.checked_add(header.body_bytes)?)?;
    let covered = message.len() - SUM_BYTES;
    let bit = flipped_bit::find(header.sum, header.checksum(message), covered)?;
    // The body comes first in the checksum.
    let (body_bits, sum_bits) = (header.body_bytes * 8, SUM_BYTES * 8);
    let bit = match bit < body_bits {
        true => header.bytes * 8 + bit,
        false => sum_bits + bit - body_bits,
    };
    let mut mended = message.to_vec();
    flipped_bit::flip(&mut mended, bit);
    whole(&mended, segment).map(|_| bit)
}

fn header_bit(bytes: &[u8], segment: u64) -> Option<usize> {
    let mut flipped = bytes.to_vec();
    (0..8 * HEADER_BYTES_MAX.min(bytes.len())).find(|bit| {
        flipped_bit::flip(&mut flipped, *bit);
        let is_whole = whole(&flipped, segment).is_some();
        flipped_bit::flip(&mut flipped, *bit);
        is_whole
    })
}

struct Header {
    sum: u32,
    kind: u8,
    body_bytes: usize,
    segment: u64,
    /// Of the header itself.
    bytes: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Header> {
        let (sum, rest) = bytes.split_first_chunk::<SUM_BYTES>()?;
        let (kind, rest) = rest.split_first()?;
        if !(1..=KIND_LAST).contains(kind) {
            return None;
        }
        let (body_bytes, rest) = integer(rest)?;
        let (segment, rest) = integer(rest)?;
        let (_page, rest) = integer(rest)?;
        Some(Header {
            // Inverted, as sled has it.
            sum: !u32::from_le_bytes(*sum),
            kind: *kind,
            body_bytes: usize::try_from(body_bytes).ok()?,
            segment,
            bytes: bytes.len() - rest.len(),
        })
    }

    fn checksum(&self, message: &[u8]) -> u32 {
        let (header, body) = message.split_at_checked(self.bytes).unwrap_or_default();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(body);
        hasher.update(header.get(SUM_BYTES..).unwrap_or_default());
        hasher.finalize()
    }
}

/// An integer as sled writes it, and what is behind it.
fn integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let first = u64::from(*first);
    let more = match first {
        0..=240 => return Some((first, rest)),
        241..=248 => {
            let (low, rest) = rest.split_first()?;
            return Some((240 + 256 * (first - 241) + u64::from(*low), rest));
        }
        249 => {
            let (low, rest) = rest.split_first_chunk::<2>()?;
            return Some((2288 + u64::from(u16::from_be_bytes(*low)), rest));
        }
        first => first as usize - 247,
    };
    let (low, rest) = rest.split_at_checked(more)?;
    let mut number = [0; 8];
    number.get_mut(..more)?.copy_from_slice(low);
    Some((u64::from_le_bytes(number), rest))
}
