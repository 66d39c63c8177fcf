//! Payloads: small ones lie in their job's record, large ones in parts in a tree of their own.

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::job::{JobId, Payload};
use crate::queue::state::QueueState;
use crate::store::Tree;
use crate::store::codec;
use crate::store::format::{
    INLINE_PAYLOAD_BYTES_MAX, PAYLOAD_PART_BYTES, PAYLOAD_PART_KIND, PayloadRecord,
};
use crate::store::key;

impl QueueState {
    /// Puts a large payload in parts into its own tree; a small one goes with its job.
    pub(crate) fn store_payload(&mut self, id: JobId, payload: &Payload) -> PayloadRecord {
        let bytes = payload.bytes();
        if bytes.len() <= INLINE_PAYLOAD_BYTES_MAX {
            return match payload {
                Payload::Json(bytes) => PayloadRecord::Json(bytes.clone()),
                Payload::Binary(bytes) => PayloadRecord::Binary(bytes.clone()),
            };
        }
        for (part, body) in bytes.chunks(PAYLOAD_PART_BYTES).enumerate() {
            let record: Bytes = codec::encode_raw(PAYLOAD_PART_KIND, body);
            self.draft.put_live(Tree::Payload, key::payload_part(id, part as u16), record);
        }
        let bytes = bytes.len() as u32;
        match payload {
            Payload::Json(_) => PayloadRecord::JsonParts { bytes },
            Payload::Binary(_) => PayloadRecord::BinaryParts { bytes },
        }
    }

    /// Removes the parts of a payload, if it has any.
    pub(crate) fn forget_payload(&mut self, id: JobId, payload: &PayloadRecord) -> Result<()> {
        for part in 0..payload.parts() {
            let key = key::payload_part(id, part);
            // Where a part was ever set aside, one may be missing, and must not be counted twice.
            if self.meta.damaged_records > 0 && self.draft.get(Tree::Payload, &key)?.is_none() {
                continue;
            }
            let bytes = self.payload_part_bytes(payload, part);
            self.draft.remove_live(Tree::Payload, key, bytes);
        }
        Ok(())
    }

    fn payload_part_bytes(&self, payload: &PayloadRecord, part: u16) -> usize {
        let (PayloadRecord::JsonParts { bytes } | PayloadRecord::BinaryParts { bytes }) = payload
        else {
            return 0;
        };
        let before = usize::from(part) * PAYLOAD_PART_BYTES;
        codec::HEADER_BYTES + (*bytes as usize).saturating_sub(before).min(PAYLOAD_PART_BYTES)
    }

    /// The payload of a job, put together from its parts if it has any.
    ///
    /// # Errors
    /// [`Corrupt`](ErrorKind::Corrupt) when a part is damaged or missing.
    pub(crate) fn payload(&mut self, id: JobId, payload: &PayloadRecord) -> Result<Payload> {
        let bytes = match payload {
            PayloadRecord::Json(bytes) => return Ok(Payload::Json(bytes.clone())),
            PayloadRecord::Binary(bytes) => return Ok(Payload::Binary(bytes.clone())),
            PayloadRecord::JsonParts { bytes } | PayloadRecord::BinaryParts { bytes } => *bytes,
        };
        let mut whole = Vec::with_capacity(bytes as usize);
        for part in 0..payload.parts() {
            let key = key::payload_part(id, part);
            let stored = self.draft.get(Tree::Payload, &key)?;
            match stored.as_ref().map(|stored| codec::decode_raw(PAYLOAD_PART_KIND, stored)) {
                Some(Ok(part)) => whole.extend_from_slice(&part),
                found => {
                    if let (Some(Err(reason)), Some(stored)) = (&found, &stored) {
                        self.set_aside(Tree::Payload, key, stored, reason)?;
                    }
                    return Err(Error::new(
                        ErrorKind::Corrupt,
                        format!("part {part} of the payload of job {id} is damaged or missing"),
                    ));
                }
            }
        }
        Ok(match payload {
            PayloadRecord::JsonParts { .. } => Payload::Json(whole.into()),
            _ => Payload::Binary(whole.into()),
        })
    }
}
