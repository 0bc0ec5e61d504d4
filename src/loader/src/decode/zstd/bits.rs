//! A block in memory: its bytes from the start, and streams of bits, which run from their ends to their starts.

use crate::source::DecodeError;

/// Behind the block, so that eight bytes can be loaded from any place in it.
pub const SLACK_BYTES: usize = 8;

pub const BLOCK_BROKEN: DecodeError = DecodeError::Corrupt("a block of it breaks off");
pub const CODE_BROKEN: DecodeError = DecodeError::Corrupt("the code of a block is none");
pub const BITS_BROKEN: DecodeError = DecodeError::Corrupt("a block's bits do not end where its data does");

/// A place in the block that is being read.
pub struct Cursor<'b> {
    /// The whole block's memory, with the slack.
    pub block: &'b [u8],
    pub at: usize,
    /// Where the block's data ends.
    pub end: usize,
}

impl<'b> Cursor<'b> {
    pub fn bytes(&mut self, len: usize) -> Result<&'b [u8], DecodeError> {
        if len > self.end - self.at {
            return Err(BLOCK_BROKEN);
        }
        let bytes = &self.block[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    pub fn byte(&mut self) -> Result<usize, DecodeError> {
        Ok(self.bytes(1)?[0].into())
    }

    /// The part of the next `len` bytes.
    pub fn part(&mut self, len: usize) -> Result<Cursor<'b>, DecodeError> {
        let at = self.at;
        self.bytes(len)?;
        Ok(Cursor { block: self.block, at, end: self.at })
    }
}

/// Bits that are read from the end of their bytes to the start.
#[derive(Clone, Copy, Default)]
pub struct Bits {
    pub start: usize,
    /// How many there are, from the start.
    pub left: usize,
}

impl Bits {
    /// All that is left of `cursor`. The highest bit set in the last byte is where they end.
    pub fn new(cursor: &Cursor) -> Result<Bits, DecodeError> {
        match cursor.block[cursor.at..cursor.end].last() {
            None | Some(0) => Err(BLOCK_BROKEN),
            Some(last) => {
                let left = (cursor.end - cursor.at) * 8 - 1 - last.leading_zeros() as usize;
                Ok(Bits { start: cursor.at, left })
            }
        }
    }

    /// The next bits at the top: 57, or all that are left and zeros below them.
    // A call takes longer than what it does, and on AArch64 more bytes; level z would call it. Likewise those below.
    #[inline(always)]
    pub fn top(&self, block: &[u8]) -> u64 {
        let skipped = self.left.saturating_sub(57) / 8;
        let at = self.start + skipped;
        let [a, b, c, d, e, f, g, h] = block[at..at + 8] else { return 0 };
        let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let held = self.left - skipped * 8;
        if held == 0 { 0 } else { word << (64 - held) }
    }

    #[inline(always)]
    pub fn skip(&mut self, len: u32) -> Result<(), DecodeError> {
        self.left = self.left.checked_sub(len as usize).ok_or(BITS_BROKEN)?;
        Ok(())
    }

    /// The next `len` bits, up to 32.
    #[inline(always)]
    pub fn take(&mut self, block: &[u8], len: u32) -> Result<u32, DecodeError> {
        let top = self.top(block);
        self.skip(len)?;
        Ok((top >> 1 >> (63 - len)) as u32)
    }
}

/// The number in up to eight bytes, the lowest first.
pub fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
