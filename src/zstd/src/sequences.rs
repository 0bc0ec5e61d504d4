//! What the sequences of a block are coded with.

use crate::bits::{Bits, Corrupt, Cursor, Word};
use crate::fse::{FSE_BITS_MAX, FSE_SYMBOLS_MAX, Fse};

/// A code of a block's sequences, of which there are three.
struct SequenceCode {
    /// How many symbols it may have.
    symbols: usize,
    bits_max: u32,
    /// The shares of the symbols, and the bits, where a block names no others.
    shares: &'static [i16],
    bits: u32,
}

const LITERAL: usize = 0;
const OFFSET: usize = 1;
const MATCH: usize = 2;
static KINDS: [SequenceCode; 3] = [
    SequenceCode {
        symbols: 36,
        bits_max: 9,
        shares: &[
            4, 3, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1,
            -1,
        ],
        bits: 6,
    },
    SequenceCode {
        // An offset of more bits is none of 32.
        symbols: 32,
        bits_max: 8,
        shares: &[1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1],
        bits: 5,
    },
    SequenceCode {
        symbols: FSE_SYMBOLS_MAX,
        bits_max: 9,
        shares: &[
            1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
        ],
        bits: 6,
    },
];

/// The most bits that are added to a length.
const LENGTH_BITS_MAX: u32 = 16;

/// More than there are symbols. With a power of two, the remainder takes less than a check.
const CODES: usize = 64;

/// By symbol, the least length that it stands for, and in the low five bits how many bits are to be added.
static LITERAL_CODES: [u32; CODES] = codes(0, 16, [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
static MATCH_CODES: [u32; CODES] = codes(3, 32, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// The lengths from `least` on: `single` symbols stand for one each, those behind them for as many as `bits` count.
const fn codes<const BITS: usize>(least: u32, single: usize, bits: [u32; BITS]) -> [u32; CODES] {
    let mut codes = [0; CODES];
    let (mut length, mut symbol) = (least, 0);
    while symbol < single + BITS {
        let bits = if symbol < single { 0 } else { bits[symbol - single] };
        codes[symbol] = length << 5 | bits;
        length += 1 << bits;
        symbol += 1;
    }
    codes
}

/// So many literals, then so many bytes that are repeated.
pub struct Sequence {
    pub literals: usize,
    pub copied: usize,
    /// From where, as a code.
    pub offset: u32,
}

/// The sequences of a block that are not yet read.
#[derive(Clone, Copy, Default)]
pub struct Sequences {
    pub left: usize,
    bits: Bits,
    /// By [`KINDS`].
    states: [usize; 3],
}

impl Sequences {
    /// Reads how many there are, and the codes, as far as the start of the bits behind them.
    pub fn read(cursor: &mut Cursor, codes: &mut [Fse; 3]) -> Result<Sequences, Corrupt> {
        let left = match cursor.byte()? {
            0 if cursor.at < cursor.end => return Err(Corrupt::BITS),
            0 => return Ok(Sequences::default()),
            few @ 0..128 => few,
            255 => 0x7f00 + cursor.byte()? + (cursor.byte()? << 8),
            high => (high - 128) << 8 | cursor.byte()?,
        };
        read_codes(cursor, codes)?;
        let mut bits = Bits::new(cursor)?;
        let mut states = [0; 3];
        for (state, code) in states.iter_mut().zip(codes) {
            *state = code.start(&mut bits, cursor.block)?;
        }
        Ok(Sequences { left, bits, states })
    }

    /// The next one. There has to be one.
    #[inline(always)]
    pub fn next(&mut self, codes: &[Fse; 3], block: &[u8]) -> Result<Sequence, Corrupt> {
        let literals = codes[LITERAL].cell(self.states[LITERAL]);
        let offset = codes[OFFSET].cell(self.states[OFFSET]);
        let copied = codes[MATCH].cell(self.states[MATCH]);
        let mut word = self.bits.word(block);
        let offset_bits = u32::from(offset.symbol());
        let offset_code = (1 << offset_bits) + word.take(offset_bits);
        if offset_bits > Word::BITS - 2 * LENGTH_BITS_MAX {
            self.bits.skip(&word)?;
            word = self.bits.word(block);
        }
        let sequence = Sequence {
            offset: offset_code,
            copied: length(MATCH_CODES[usize::from(copied.symbol()) % CODES], &mut word),
            literals: length(LITERAL_CODES[usize::from(literals.symbol()) % CODES], &mut word),
        };
        self.left -= 1;
        if self.left > 0 {
            if word.used > Word::BITS - 3 * FSE_BITS_MAX {
                self.bits.skip(&word)?;
                word = self.bits.word(block);
            }
            self.states[LITERAL] = literals.next(&mut word);
            self.states[MATCH] = copied.next(&mut word);
            self.states[OFFSET] = offset.next(&mut word);
        }
        self.bits.skip(&word)?;
        if self.left == 0 && self.bits.left() > 0 {
            return Err(Corrupt::BITS);
        }
        Ok(sequence)
    }
}

/// The length that `code` stands for, with the bits that it wants.
#[inline(always)]
fn length(code: u32, word: &mut Word) -> usize {
    ((code >> 5) + word.take(code & 31)) as usize
}

fn read_codes(cursor: &mut Cursor, codes: &mut [Fse; 3]) -> Result<(), Corrupt> {
    let modes = cursor.byte()?;
    if modes & 3 != 0 {
        return Err(Corrupt("a block has reserved flags"));
    }
    for (i, (code, kind)) in codes.iter_mut().zip(&KINDS).enumerate() {
        match modes >> (6 - 2 * i) & 3 {
            0 => code.set(kind.shares, kind.bits),
            1 => match cursor.byte()? {
                symbol if symbol < kind.symbols => code.set_equal(symbol as u8),
                _ => return Err(Corrupt::CODE),
            },
            2 => code.read(cursor, kind.symbols, kind.bits_max)?,
            _ if code.is_ready => {}
            _ => return Err(Corrupt::CODE),
        }
        code.is_ready = true;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bits::BLOCK_SLACK_BYTES;

    /// A block whose bits are these, the first at the top of `bits`: 64 at most.
    fn block(bits: u64, len: u32) -> ([u8; 9 + 2 * BLOCK_SLACK_BYTES], usize) {
        let bits = u128::from(bits) | 1 << len;
        let (mut block, len_bytes) = ([0xee; 9 + 2 * BLOCK_SLACK_BYTES], len as usize / 8 + 1);
        block[BLOCK_SLACK_BYTES..][..len_bytes].copy_from_slice(&bits.to_le_bytes()[..len_bytes]);
        (block, len_bytes)
    }

    #[test]
    fn a_sequence_may_have_more_bits_than_a_word() {
        let (offset, copied, literals) = (0x7654_3210, 0xfedc, 0xba98);
        let (mut block, len_bytes) = block(offset << 32 | copied << 16 | literals, 63);
        let mut codes = [const { Fse::new() }; 3];
        // One sequence, of codes that have one symbol each.
        let header = [1, 0b0101_0100, 35, 31, 52];
        let start = BLOCK_SLACK_BYTES - header.len();
        block[start..BLOCK_SLACK_BYTES].copy_from_slice(&header);
        let mut cursor = Cursor { block: &block, at: start, end: BLOCK_SLACK_BYTES + len_bytes };
        let mut sequences = Sequences::read(&mut cursor, &mut codes).unwrap();
        let sequence = sequences.next(&codes, &block).unwrap();
        assert_eq!(u64::from(sequence.offset), (1 << 31) + offset);
        // The largest codes of RFC 8878, 3.1.1.3.2.1.1.
        assert_eq!(sequence.copied as u64, 65539 + copied);
        assert_eq!(sequence.literals as u64, 65536 + literals);
        assert_eq!(sequences.left, 0);
    }
}
