//! XXH64, of which a frame states the lower half.

use super::bits::little;

/// XXH64 without a seed.
pub struct Xxh64 {
    lanes: [u64; 4],
    /// What is no whole stripe yet.
    held: [u8; STRIPE_BYTES],
    len_bytes: u64,
}

const STRIPE_BYTES: usize = 32;
const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

impl Xxh64 {
    pub fn new() -> Xxh64 {
        let lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u64.wrapping_sub(PRIMES[0])];
        Xxh64 { lanes, held: [0; STRIPE_BYTES], len_bytes: 0 }
    }

    fn held(&self) -> usize {
        self.len_bytes as usize % STRIPE_BYTES
    }

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
        let mut stripes = bytes.chunks_exact(STRIPE_BYTES);
        stripes.by_ref().for_each(|stripe| self.stripe(stripe));
        let rest = stripes.remainder();
        // Empty where what is held is not yet a stripe.
        self.held[..rest.len()].copy_from_slice(rest);
    }

    fn stripe(&mut self, stripe: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.chunks_exact(8)) {
            *lane = round(*lane, little(word));
        }
    }

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
