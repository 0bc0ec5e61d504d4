//! XXH64, of which a frame states the lower half.

use crate::bits::little;

/// XXH64 without a seed.
#[derive(Clone, Debug)]
pub struct Xxh64 {
    lanes: [u64; 4],
    /// What is no whole stripe yet.
    held: [u8; STRIPE_BYTES],
    len_bytes: u64,
}

const STRIPE_BYTES: usize = 32;
const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

impl Default for Xxh64 {
    fn default() -> Self {
        let lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u64.wrapping_sub(PRIMES[0])];
        Xxh64 { lanes, held: [0; STRIPE_BYTES], len_bytes: 0 }
    }
}

impl Xxh64 {
    fn held(&self) -> usize {
        self.len_bytes as usize % STRIPE_BYTES
    }

    /// Adds bytes behind those before.
    pub fn add(&mut self, mut bytes: &[u8]) {
        let held = self.held();
        if held > 0 {
            let (more, rest) = bytes.split_at(bytes.len().min(STRIPE_BYTES - held));
            self.held[held..held + more.len()].copy_from_slice(more);
            self.len_bytes += more.len() as u64;
            bytes = rest;
            if self.held() == 0 {
                let stripe = self.held;
                self.stripe(&stripe);
            }
        }
        self.len_bytes += bytes.len() as u64;
        let (stripes, rest) = bytes.as_chunks();
        stripes.iter().for_each(|stripe| self.stripe(stripe));
        // Empty where what is held is not yet a stripe.
        self.held[..rest.len()].copy_from_slice(rest);
    }

    fn stripe(&mut self, stripe: &[u8; STRIPE_BYTES]) {
        let (words, _) = stripe.as_chunks();
        for (lane, word) in self.lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }

    /// The hash of all that was added.
    pub fn value(&self) -> u64 {
        let mut hash = self.lanes[2].wrapping_add(PRIMES[4]);
        if self.len_bytes >= STRIPE_BYTES as u64 {
            let turned = self.lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
            hash = turned.fold(0, u64::wrapping_add);
            for lane in self.lanes {
                hash = (hash ^ round(0, lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
            }
        }
        hash = hash.wrapping_add(self.len_bytes);
        let mut rest = &self.held[..self.held()];
        while let Some((word, behind)) = rest.split_at_checked(8) {
            hash ^= round(0, little(word));
            hash = hash.rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
            rest = behind;
        }
        if let Some((word, behind)) = rest.split_at_checked(4) {
            hash ^= little(word).wrapping_mul(PRIMES[0]);
            hash = hash.rotate_left(23).wrapping_mul(PRIMES[1]).wrapping_add(PRIMES[2]);
            rest = behind;
        }
        for byte in rest {
            hash ^= u64::from(*byte).wrapping_mul(PRIMES[4]);
            hash = hash.rotate_left(11).wrapping_mul(PRIMES[0]);
        }
        hash = (hash ^ hash >> 33).wrapping_mul(PRIMES[1]);
        hash = (hash ^ hash >> 29).wrapping_mul(PRIMES[2]);
        hash ^ hash >> 32
    }
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_xxhash() {
        // By xxhsum -H1.
        for (data, hash) in
            [(&b""[..], 0xef46_db37_51d8_e999), (b"a", 0xd24e_c4f1_a98c_6e5b), (b"abc", 0x44bc_2cf5_ad77_0999)]
        {
            let mut xxh = Xxh64::default();
            xxh.add(data);
            assert_eq!(xxh.value(), hash, "{data:?}");
        }
    }
}
