//! Files in which what is only zeros takes no space, and no time.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Zeros are left out of a file in pieces of this size.
const HOLE_BYTES: usize = 4096;

/// Makes a file in which what is only zeros takes no space, and no time.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let file = File::create_new(path)?;
    file.set_len(bytes.len() as u64)?;
    let mut from = 0;
    for hole in bytes.chunks(HOLE_BYTES).enumerate().filter(|(_, chunk)| is_zero(chunk)) {
        let at = hole.0 * HOLE_BYTES;
        file.write_all_at(&bytes[from..at], from as u64)?;
        from = at + hole.1.len();
    }
    file.write_all_at(&bytes[from..], from as u64)
}

fn is_zero(bytes: &[u8]) -> bool {
    let (sixteens, rest) = bytes.as_chunks::<16>();
    sixteens.iter().all(|sixteen| *sixteen == [0; 16]) && rest.iter().all(|byte| *byte == 0)
}
