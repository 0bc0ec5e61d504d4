//! The code of literals.

use crate::bits::{Bits, Corrupt, Cursor, Word};
use crate::fse::Fse;

const HUFFMAN_BITS_MAX: u32 = 11;
const HUFFMAN_CELLS: usize = 1 << HUFFMAN_BITS_MAX;

/// The code of literals: by the next bits, a symbol, and above it how many of the bits are its own.
pub struct Huffman {
    cells: [u16; HUFFMAN_CELLS],
    pub is_ready: bool,
}

impl Huffman {
    pub fn new() -> Huffman {
        Huffman { cells: [0; HUFFMAN_CELLS], is_ready: false }
    }

    pub fn read(&mut self, cursor: &mut Cursor) -> Result<(), Corrupt> {
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
            return Err(Corrupt::CODE);
        }
        let rest = (1 << bits) - sum;
        if !rest.is_power_of_two() {
            return Err(Corrupt::CODE);
        }
        weights[count] = rest.ilog2() as u8 + 1;
        let mut cells = self.cells.iter_mut();
        // A shorter code has as many cells as the longest would, so that all are found by as many bits.
        let share = HUFFMAN_CELLS >> bits;
        for weight in 1..=bits {
            for symbol in (0..256u16).filter(|symbol| u32::from(weights[usize::from(*symbol)]) == weight) {
                let cell = symbol | ((bits + 1 - weight) as u16) << 8;
                cells.by_ref().take(share << weight >> 1).for_each(|place| *place = cell);
            }
        }
        self.is_ready = true;
        Ok(())
    }

    /// Fills `out` with the next symbols.
    pub fn decode(&self, bits: &mut Bits, block: &[u8], out: &mut [u8]) -> Result<(), Corrupt> {
        // As many as a word surely has bits for.
        const SYMBOLS: usize = (Word::BITS / HUFFMAN_BITS_MAX) as usize;
        let (parts, rest) = out.as_chunks_mut::<SYMBOLS>();
        for part in parts {
            let mut word = bits.word(block);
            part.iter_mut().for_each(|byte| *byte = self.symbol(&mut word));
            bits.skip(&word)?;
        }
        let mut word = bits.word(block);
        rest.iter_mut().for_each(|byte| *byte = self.symbol(&mut word));
        bits.skip(&word)
    }

    #[inline(always)]
    fn symbol(&self, word: &mut Word) -> u8 {
        let cell = self.cells[word.peek::<HUFFMAN_BITS_MAX>()];
        word.drop((cell >> 8).into());
        cell as u8
    }
}

/// Fills `weights` as far as `cursor` has some: their number. One is left for the last symbol.
fn compressed_weights(mut cursor: Cursor, weights: &mut [u8; 256]) -> Result<usize, Corrupt> {
    let mut fse = Fse::new();
    fse.read(&mut cursor, HUFFMAN_BITS_MAX as usize + 1, 6)?;
    let (mut bits, block) = (Bits::new(&cursor)?, cursor.block);
    // Two states take turns.
    let mut state = fse.start(&mut bits, block)?;
    let mut other = fse.start(&mut bits, block)?;
    let mut count = 0;
    loop {
        let cell = fse.cell(state);
        weights[count] = cell.symbol();
        count += 1;
        // Where bits are missing the sequence ends; what is left is the other state's symbol.
        if cell.bits() as usize > bits.left() {
            weights[count] = fse.cell(other).symbol();
            return Ok(count + 1);
        }
        if count > 253 {
            return Err(Corrupt::CODE);
        }
        let mut word = bits.word(block);
        (state, other) = (other, cell.next(&mut word));
        bits.skip(&word)?;
    }
}
