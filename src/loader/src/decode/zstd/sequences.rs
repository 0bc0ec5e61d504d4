//! What the sequences of a block are coded with.

use super::bits::{Bits, CODE_BROKEN, Cursor};
use super::fse::{FSE_SYMBOLS_MAX, Fse};
use crate::source::DecodeError;

/// A code of a block's sequences, of which there are three.
struct SequenceCode {
    /// How many symbols it may have.
    symbols: usize,
    bits_max: u32,
    /// The shares of the symbols, and the bits, where a block names no others.
    shares: &'static [i16],
    bits: u32,
}

pub const LITERAL: usize = 0;
pub const OFFSET: usize = 1;
pub const MATCH: usize = 2;
static KINDS: [SequenceCode; 3] = [
    SequenceCode {
        symbols: LITERAL_CODES.len(),
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
        symbols: MATCH_CODES.len(),
        bits_max: 9,
        shares: &[
            1, 4, 3, 2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1,
        ],
        bits: 6,
    },
];

/// By symbol, the least length that it stands for, and in the low five bits how many bits are to be added.
pub static LITERAL_CODES: [u32; 36] = codes(0, 16, [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
pub static MATCH_CODES: [u32; FSE_SYMBOLS_MAX] =
    codes(3, 32, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

/// The lengths from `least` on: `single` symbols stand for one each, those behind them for as many as `bits` count.
const fn codes<const BITS: usize, const N: usize>(least: u32, single: usize, bits: [u32; BITS]) -> [u32; N] {
    assert!(single + BITS == N);
    let mut codes = [0; N];
    let (mut length, mut symbol) = (least, 0);
    while symbol < N {
        let bits = if symbol < single { 0 } else { bits[symbol - single] };
        codes[symbol] = length << 5 | bits;
        length += 1 << bits;
        symbol += 1;
    }
    codes
}

/// The length that `code` stands for, with the bits that it wants.
#[inline(always)]
pub fn coded(code: u32, bits: &mut Bits, block: &[u8]) -> Result<usize, DecodeError> {
    Ok(((code >> 5) + bits.take(block, code & 31)?) as usize)
}

pub fn sequence_count(cursor: &mut Cursor) -> Result<usize, DecodeError> {
    Ok(match cursor.byte()? {
        few @ 0..128 => few,
        255 => 0x7f00 + cursor.byte()? + (cursor.byte()? << 8),
        high => (high - 128) << 8 | cursor.byte()?,
    })
}

/// Reads the codes of sequences, and starts with the bits behind them.
pub fn read_tables(cursor: &mut Cursor, tables: &mut [Fse; 3]) -> Result<Bits, DecodeError> {
    let modes = cursor.byte()?;
    if modes & 3 != 0 {
        return Err(DecodeError::Corrupt("a block has reserved flags"));
    }
    for (i, (table, kind)) in tables.iter_mut().zip(&KINDS).enumerate() {
        match modes >> (6 - 2 * i) & 3 {
            0 => table.set(kind.shares, kind.bits),
            1 => match cursor.byte()? {
                symbol if symbol < kind.symbols => table.set_equal(symbol as u8),
                _ => return Err(CODE_BROKEN),
            },
            2 => table.read(cursor, kind.symbols, kind.bits_max)?,
            _ if table.is_ready => {}
            _ => return Err(CODE_BROKEN),
        }
        table.is_ready = true;
    }
    let mut bits = Bits::new(cursor)?;
    for table in tables {
        table.start(&mut bits, cursor.block)?;
    }
    Ok(bits)
}
