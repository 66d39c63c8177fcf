//! What the disk does by itself, so that a slow disk can be told from a slow node.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::tally::{Latency, ms};

const BYTES: [u8; 256] = [b'x'; 256];
const EVERY: Duration = Duration::from_millis(100);

/// A thread that makes 256 bytes durable ten times a second, beside the data directory.
pub(crate) struct Noise {
    times_ms: Arc<Mutex<Vec<f64>>>,
    ended: Arc<AtomicBool>,
}

impl Noise {
    pub(crate) fn start(directory: &Path) -> Noise {
        let file = File::create(directory.join("noise")).unwrap();
        file.write_all_at(&BYTES, 0).and_then(|()| file.sync_all()).unwrap();
        let noise = Noise { times_ms: Arc::default(), ended: Arc::default() };
        let (times_ms, ended) = (Arc::clone(&noise.times_ms), Arc::clone(&noise.ended));
        std::thread::spawn(move || {
            while !ended.load(Relaxed) {
                std::thread::sleep(EVERY);
                let started = Instant::now();
                // The bytes are there already, as in the journal: no length has to be written.
                file.write_all_at(&BYTES, 0).and_then(|()| file.sync_data()).unwrap();
                let took_ms = ms(started.elapsed());
                times_ms.lock().unwrap_or_else(PoisonError::into_inner).push(took_ms);
            }
        });
        noise
    }

    /// The latencies since the last time.
    pub(crate) fn take(&self) -> Latency {
        let times = self.times_ms.lock().unwrap_or_else(PoisonError::into_inner).split_off(0);
        Latency::of(times)
    }
}

impl Drop for Noise {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
    }
}
