//! The code of literals.

use super::bits::{Bits, CODE_BROKEN, Cursor};
use super::fse::Fse;
use crate::source::DecodeError;

const HUFFMAN_BITS_MAX: u32 = 11;
const HUFFMAN_CELLS: usize = 1 << HUFFMAN_BITS_MAX;

/// The code of literals: by the next bits, a symbol, and above it how many of the bits are its own.
pub struct Huffman {
    cells: [u16; HUFFMAN_CELLS],
    /// How many bits a cell is found by; 0 while there is no code.
    pub bits: u32,
}

impl Huffman {
    pub fn new() -> Huffman {
        Huffman { cells: [0; HUFFMAN_CELLS], bits: 0 }
    }

    pub fn read(&mut self, cursor: &mut Cursor) -> Result<(), DecodeError> {
        // The weight of the last symbol follows from the others'.
        let mut weights = [0; 256];
        let count = match cursor.byte()? {
            len @ 0..128 => compressed_weights(cursor.part(len)?, &mut weights)?,
            direct => {
                let count = direct - 127;
                let bytes = cursor.bytes(count.div_ceil(2))?;
                for (pair, byte) in weights.chunks_mut(2).zip(bytes) {
                    pair.copy_from_slice(&[byte >> 4, byte & 15]);
                }
                count
            }
        };
        weights[count..].fill(0);
        // A weight of 16 would be no shift.
        let sum: u32 = weights.iter().map(|weight| 1 << weight >> 1).sum();
        let bits = 32 - sum.leading_zeros();
        if !(1..=HUFFMAN_BITS_MAX).contains(&bits) {
            return Err(CODE_BROKEN);
        }
        let rest = (1 << bits) - sum;
        if !rest.is_power_of_two() {
            return Err(CODE_BROKEN);
        }
        weights[count] = rest.ilog2() as u8 + 1;
        self.bits = bits;
        let mut cells = self.cells.iter_mut();
        for weight in 1..=bits {
            for symbol in (0..256u16).filter(|symbol| u32::from(weights[usize::from(*symbol)]) == weight) {
                let cell = symbol | ((bits + 1 - weight) as u16) << 8;
                cells.by_ref().take(1 << weight >> 1).for_each(|place| *place = cell);
            }
        }
        Ok(())
    }

    pub fn decode(&self, bits: &mut Bits, block: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
        // As many as there surely are bits for.
        for part in out.chunks_mut(5) {
            let mut top = bits.top(block);
            let mut used = 0;
            for byte in part {
                let cell = self.cells[(top >> (64 - self.bits)) as usize % HUFFMAN_CELLS];
                *byte = cell as u8;
                top <<= cell >> 8;
                used += u32::from(cell >> 8);
            }
            bits.skip(used)?;
        }
        Ok(())
    }
}

/// Fills `weights` as far as `cursor` has some: their number. One is left for the last symbol.
fn compressed_weights(mut cursor: Cursor, weights: &mut [u8; 256]) -> Result<usize, DecodeError> {
    let mut fse = Fse::new();
    fse.read(&mut cursor, HUFFMAN_BITS_MAX as usize + 1, 6)?;
    let mut bits = Bits::new(&cursor)?;
    // Two states take turns.
    fse.start(&mut bits, cursor.block)?;
    let mut other = fse.state;
    fse.start(&mut bits, cursor.block)?;
    let mut count = 0;
    loop {
        core::mem::swap(&mut fse.state, &mut other);
        // Bits that are none end the sequence; what is left is the other state's symbol.
        let is_end = usize::from(fse.cells[usize::from(fse.state)].bits) > bits.left;
        weights[count] = fse.symbol();
        count += 1;
        if is_end {
            weights[count] = fse.cells[usize::from(other)].symbol;
            return Ok(count + 1);
        }
        if count > 253 {
            return Err(CODE_BROKEN);
        }
        fse.advance(&mut bits, cursor.block)?;
    }
}
