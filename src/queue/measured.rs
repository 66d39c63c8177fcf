//! Chunks for `benches/codec.rs`, written and read by the queue's own code. For that bench alone:
//! it is no part of the API, and may change or go with any release.

use bytes::Bytes;

use crate::clock::Timestamp;
use crate::job::{JobId, QueueId};
use crate::priority::Priority;
use crate::queue::chunk::{Chunk, ChunkBuilder, ChunkSlot};
use crate::store::codec;
use crate::store::format::{JobRecord, PayloadRecord};
use crate::store::key::{ChunkId, LaneId};

const LANE: LaneId = LaneId { priority: Priority::Default, queue: QueueId(1) };

/// The jobs of one chunk.
#[derive(Clone, Debug)]
pub struct ChunkJobs(Vec<ChunkSlot>);

/// A chunk as it lies on the disk.
#[derive(Clone, Debug)]
pub struct ChunkBytes {
    id: ChunkId,
    /// Its record.
    pub bytes: Bytes,
}

impl ChunkJobs {
    /// As many jobs with payloads of this size as one chunk holds, at most `jobs_max`.
    #[must_use]
    pub fn fill(jobs_max: usize, payload_bytes: usize) -> ChunkJobs {
        let born_at = Timestamp::from_ms(1_700_000_000_000);
        let mut room = ChunkBuilder::new().room();
        let slots = (0..jobs_max as u64).map(|place| ChunkSlot {
            place,
            id: JobId::new(born_at, 0, LANE.queue, LANE.priority, place),
            moved: false,
            ready_at: born_at,
            job: JobRecord {
                kind: "mail.welcome".to_owned(),
                payload: PayloadRecord::Binary(vec![b'x'; payload_bytes].into()),
                max_attempts: 3,
                max_interruptions: 5,
                ..JobRecord::default()
            },
        });
        ChunkJobs(slots.take_while(|slot| room.take(slot, codec::body_bytes(&slot.job))).collect())
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Does what an enqueue and the end of its group do with them; `None` without a job.
    #[must_use]
    pub fn encode(self) -> Option<ChunkBytes> {
        let mut builder = ChunkBuilder::new();
        for slot in self.0 {
            let job_bytes = codec::body_bytes(&slot.job);
            drop(builder.push(slot, job_bytes));
        }
        let (chunk, bytes) = builder.build(LANE)?;
        Some(ChunkBytes { id: chunk.id, bytes })
    }
}

impl ChunkBytes {
    /// Does what the first claim of the chunk does; `None` when the record is damaged.
    #[must_use]
    pub fn decode(&self) -> Option<ChunkJobs> {
        Chunk::decode(self.id, &self.bytes).ok().map(|chunk| ChunkJobs(chunk.slots))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_bench_measures_is_a_chunk_that_comes_back() {
        for (payload_bytes, at_least) in [(16, 256), (256, 50), (8 << 10, 1)] {
            let jobs = ChunkJobs::fill(1_000, payload_bytes);
            assert!(jobs.count() >= at_least, "{} jobs", jobs.count());
            let written = jobs.clone().encode().unwrap();
            assert!(written.bytes.len() <= 16 << 10, "{} bytes", written.bytes.len());
            assert_eq!(written.decode().unwrap().0, jobs.0);
        }
        let large = ChunkJobs::fill(2, 20 << 10);
        assert_eq!(large.count(), 1, "a job larger than that has a chunk of its own");
        assert_eq!(large.clone().encode().unwrap().decode().unwrap().0, large.0);
        assert!(ChunkJobs::fill(0, 16).encode().is_none());
    }
}
