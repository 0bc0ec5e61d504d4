//! A ring of the last bytes that were decoded.

/// How much longer a ring is than the window. Copies of whole pieces run over their ends, and may overwrite only what
/// is too far back to be repeated.
pub const RING_SLACK_BYTES: usize = PIECE_BYTES;

/// What is copied at a time.
pub const PIECE_BYTES: usize = 16;
pub type Piece = [u8; PIECE_BYTES];

/// The last bytes that were decoded, and where the next go.
pub struct Ring<'d> {
    pub bytes: &'d mut [u8],
    pub at: usize,
}

impl Ring<'_> {
    /// Where [`Ring::put`] and [`Ring::repeat`] have to end.
    pub fn limit(&self) -> usize {
        self.bytes.len().saturating_sub(RING_SLACK_BYTES)
    }

    /// Copies the first `len` bytes of a piece; what follows in the ring is overwritten too.
    #[inline(always)]
    pub fn put(&mut self, piece: &Piece, len: usize) {
        self.bytes[self.at..self.at + PIECE_BYTES].copy_from_slice(piece);
        self.at += len;
    }

    /// Copies `len` bytes, up to [`Ring::limit`], from `offset` back, of which some may be those that it makes.
    #[inline(always)]
    pub fn repeat(&mut self, offset: usize, len: usize) {
        let mut from = self.from(offset);
        if offset < PIECE_BYTES || from + len > self.limit() {
            return self.repeat_exactly(offset, len);
        }
        let (mut at, end) = (self.at, self.at + len);
        while at < end {
            self.bytes.copy_within(from..from + PIECE_BYTES, at);
            at += PIECE_BYTES;
            from += PIECE_BYTES;
        }
        self.at = end;
    }

    fn from(&self, offset: usize) -> usize {
        if offset <= self.at { self.at - offset } else { self.at + self.bytes.len() - offset }
    }

    /// As [`Ring::repeat`], up to the ring's end, and without overwriting what follows.
    #[inline(never)]
    pub fn repeat_exactly(&mut self, offset: usize, mut len: usize) {
        let mut from = self.from(offset);
        while len > 0 {
            // What is behind `at` is copied up to the ring's end. What is before it ends at `at`: the next turn has
            // what this one adds, and copies twice as much.
            let n = len.min(if from < self.at { self.at - from } else { self.bytes.len() - from });
            self.bytes.copy_within(from..from + n, self.at);
            if from >= self.at {
                from = 0;
            }
            self.at += n;
            len -= n;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    /// A ring as it is after so many bytes, each of which tells its place, and all that was made.
    fn filled(bytes: &mut [u8], made: usize) -> (Ring<'_>, Vec<u8>) {
        let all: Vec<_> = (0..made).map(|i| (i * 7 % 251) as u8).collect();
        let len = bytes.len();
        all.iter().enumerate().for_each(|(i, byte)| bytes[i % len] = *byte);
        (Ring { bytes, at: made % len }, all)
    }

    /// Whether the ring still has the last bytes of `all`, `window` of them.
    fn holds(ring: &Ring, all: &[u8], window: usize) -> bool {
        let len = ring.bytes.len();
        (all.len().saturating_sub(window)..all.len())
            .all(|i| ring.bytes[(i + len + ring.at - all.len() % len) % len] == all[i])
    }

    #[test]
    fn what_is_repeated_is_what_was_there_and_the_window_stays() {
        const WINDOW: usize = 100;
        for made in WINDOW..WINDOW + 2 * (WINDOW + RING_SLACK_BYTES) {
            for offset in 1..=WINDOW {
                for len in [1, 2, 15, 16, 17, 40, 90] {
                    let mut bytes = [0; WINDOW + RING_SLACK_BYTES];
                    let (mut ring, mut all) = filled(&mut bytes, made);
                    (0..len).for_each(|_| all.push(all[all.len() - offset]));
                    if ring.at + len <= ring.limit() {
                        ring.repeat(offset, len);
                    } else if ring.at + len <= ring.bytes.len() {
                        ring.repeat_exactly(offset, len);
                    } else {
                        continue;
                    }
                    assert!(holds(&ring, &all, WINDOW), "{made} {offset} {len}");
                }
            }
        }
    }

    #[test]
    fn a_piece_leaves_the_window_as_it_is() {
        const WINDOW: usize = 40;
        for made in WINDOW..3 * WINDOW {
            for len in 0..=PIECE_BYTES {
                let mut bytes = [0; WINDOW + RING_SLACK_BYTES];
                let (mut ring, mut all) = filled(&mut bytes, made);
                if ring.at + len > ring.limit() {
                    continue;
                }
                ring.put(&[0xee; PIECE_BYTES], len);
                all.resize(made + len, 0xee);
                assert!(holds(&ring, &all, WINDOW), "{made} {len}");
            }
        }
    }
}
