//! What writing and reading a chunk costs: `cargo bench --bench codec`.
//!
//! A chunk is the record that a group adds to a lane. The full ones here hold what fits into
//! 16 KiB, or 256 jobs; the small one holds a single job, as an idle node writes it. Encode is what
//! the enqueue and the end of the group do with the jobs, decode what the first claim does with
//! the record. The rate is that of the record's bytes; `jobs` in a name says how many it holds.
//!
//! `cargo bench --bench codec -- --test` runs each once and measures nothing.
#![allow(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pulk::queue::measured::ChunkJobs;

fn chunks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunk");
    for (jobs_max, payload_bytes) in [(256, 16), (256, 256), (1, 256), (256, 2 << 10), (1, 8 << 10)]
    {
        let jobs = ChunkJobs::fill(jobs_max, payload_bytes);
        let written = jobs.clone().encode().unwrap();
        let name = format!("{} jobs of {payload_bytes} bytes", jobs.count());
        group.throughput(Throughput::Bytes(written.bytes.len() as u64));
        group.bench_function(format!("encode/{name}"), |bencher| {
            bencher.iter_batched(|| jobs.clone(), |jobs| jobs.encode(), BatchSize::SmallInput);
        });
        group.bench_function(format!("decode/{name}"), |bencher| {
            bencher.iter_with_large_drop(|| written.decode());
        });
    }
    group.finish();
}

criterion_group!(benches, chunks);
criterion_main!(benches);
