//! Finite state entropy codes, of sequences and of the weights of a Huffman code.

use crate::bits::{Bits, Corrupt, Cursor, Word};

/// A state of a finite state entropy code: the symbol that it stands for, how many bits lead to the next state, and
/// above them the least of the states that they lead to.
// One number takes one load and one register in the loop over sequences; three fields would take three.
#[derive(Clone, Copy)]
pub struct Cell(u32);

pub const FSE_BITS_MAX: u32 = 9;
/// As many as the lengths of matches have, the largest of the three codes.
pub const FSE_SYMBOLS_MAX: usize = 53;

/// A finite state entropy code.
pub struct Fse {
    cells: [Cell; 1 << FSE_BITS_MAX],
    bits: u32,
    pub is_ready: bool,
}

impl Fse {
    pub const fn new() -> Fse {
        Fse { cells: [Cell(0); 1 << FSE_BITS_MAX], bits: 0, is_ready: false }
    }

    /// One symbol, whatever the bits.
    pub fn set_equal(&mut self, symbol: u8) {
        self.cells[0] = Cell::new(symbol, 0, 0);
        self.bits = 0;
    }

    /// Sets up the code from each symbol's share of `1 << bits` states; -1 is a share of less than one.
    pub fn set(&mut self, shares: &[i16], bits: u32) {
        let size = 1 << bits;
        let mut next = [0u16; FSE_SYMBOLS_MAX];
        let mut rare_from = size;
        for ((symbol, share), next) in (0..).zip(shares).zip(&mut next) {
            *next = share.unsigned_abs();
            if *share < 0 {
                rare_from -= 1;
                self.cells[rare_from] = Cell::new(symbol, 0, 0);
            }
        }
        let (mut at, step) = (0, (size >> 1) + (size >> 3) + 3);
        for (symbol, share) in (0..).zip(shares) {
            for _ in 0..*share {
                self.cells[at] = Cell::new(symbol, 0, 0);
                // An odd step, so that it comes by every state.
                at = (at + step) & (size - 1);
                while at >= rare_from {
                    at = (at + step) & (size - 1);
                }
            }
        }
        for cell in &mut self.cells[..size] {
            let next = &mut next[usize::from(cell.symbol())];
            let more = bits - next.ilog2();
            *cell = Cell::new(cell.symbol(), more, (*next << more) - size as u16);
            *next += 1;
        }
        self.bits = bits;
    }

    /// Reads the description of a code of at most this many symbols and bits.
    pub fn read(&mut self, cursor: &mut Cursor, symbols: usize, bits_max: u32) -> Result<(), Corrupt> {
        let mut shares = [0i16; FSE_SYMBOLS_MAX];
        let mut at = cursor.at * 8;
        // The slack is enough for what is read before this is noticed.
        let next = |at: usize, len: u32| match cursor.block[at / 8..at / 8 + 4] {
            [a, b, c, d] if at <= cursor.end * 8 => {
                Ok((u32::from_le_bytes([a, b, c, d]) >> (at % 8) & ((1 << len) - 1)) as u16)
            }
            _ => Err(Corrupt::BLOCK),
        };
        let bits = u32::from(next(at, 4)?) + 5;
        at += 4;
        if bits > bits_max {
            return Err(Corrupt::CODE);
        }
        let mut left = 1u16 << bits;
        let mut symbol = 0;
        while left > 0 {
            // From 0 to `left + 1`; the lowest of these have a bit less.
            let len = (left + 1).ilog2() + 1;
            let short = (1 << len) - 2 - left;
            let mut value = next(at, len)?;
            let low = value & ((1 << (len - 1)) - 1);
            at += len as usize;
            if low < short {
                value = low;
                at -= 1;
            } else if value > low {
                value -= short;
            }
            let share = value as i16 - 1;
            *shares[..symbols].get_mut(symbol).ok_or(Corrupt::CODE)? = share;
            left -= share.unsigned_abs();
            symbol += 1;
            // Behind a share of nothing is how many more there are.
            let mut more = if share == 0 { 3 } else { 0 };
            while more == 3 {
                more = next(at, 2)?;
                at += 2;
                symbol += usize::from(more);
            }
        }
        cursor.bytes(at.div_ceil(8) - cursor.at)?;
        self.set(&shares[..symbol], bits);
        Ok(())
    }

    /// The state that a stream in this code starts in.
    pub fn start(&self, bits: &mut Bits, block: &[u8]) -> Result<usize, Corrupt> {
        Ok(bits.take(block, self.bits)? as usize)
    }

    #[inline(always)]
    pub fn cell(&self, state: usize) -> Cell {
        // No state is beyond its code. This takes less than a check.
        self.cells[state % self.cells.len()]
    }
}

impl Cell {
    fn new(symbol: u8, bits: u32, base: u16) -> Cell {
        Cell(u32::from(base) << 16 | bits << 8 | u32::from(symbol))
    }

    #[inline(always)]
    pub fn symbol(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub fn bits(self) -> u32 {
        self.0 >> 8 & 0xff
    }

    /// The state that the next bits lead to.
    #[inline(always)]
    pub fn next(self, word: &mut Word) -> usize {
        (self.0 >> 16) as usize + word.take(self.bits()) as usize
    }
}
