//! Which bit it was, when a CRC-32 fails because one bit of what it covers was flipped.
//!
//! A CRC is linear: the difference between the right checksum and the one found depends on the
//! place of the flipped bit alone, and no two places within 512 MB give the same. So a single
//! flipped bit can be mended, not only noticed. Of more than one changed bit this knows nothing,
//! and may name a bit all the same, with a chance of (number of bits) / 2³²: who mends looks for
//! something else that confirms it.

/// The polynomial of CRC-32 (IEEE 802.3), lowest bit first.
const POLYNOMIAL: u32 = 0xEDB8_8320;

/// The bit, counted from the lowest of the first byte, that was flipped in so many bytes whose
/// checksum should be `right` and is `found`.
pub(crate) fn find(right: u32, found: u32, bytes: usize) -> Option<usize> {
    let bits = bytes * 8;
    let mut difference = right ^ found;
    if difference == 0 {
        return None;
    }
    // Backwards through what the checksum did with each bit, until the flipped one is all there
    // is.
    for behind in 1..=bits {
        difference = match difference >> 31 {
            1 => ((difference ^ POLYNOMIAL) << 1) | 1,
            _ => difference << 1,
        };
        if difference == 1 {
            return Some(bits - behind);
        }
    }
    None
}

/// Flips a bit, counted from the lowest of the first byte.
pub(crate) fn flip(bytes: &mut [u8], bit: usize) {
    if let Some(byte) = bytes.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let bytes: Vec<u8> = (0..300u32).map(|number| (number * 7) as u8).collect();
        let right = crc32fast::hash(&bytes);
        assert_eq!(find(right, right, bytes.len()), None);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flip(&mut flipped, bit);
            assert_eq!(find(right, crc32fast::hash(&flipped), bytes.len()), Some(bit));
        }
    }

    #[test]
    fn two_flipped_bits_are_none() {
        let bytes = vec![9; 200];
        for bit in 1..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flip(&mut flipped, 0);
            flip(&mut flipped, bit);
            let found = find(crc32fast::hash(&bytes), crc32fast::hash(&flipped), bytes.len());
            assert_eq!(found, None, "0 and {bit}");
        }
    }
}
