//! A block in memory: its bytes from the start, and streams of bits, which run from their ends to their starts.

/// What is wrong with a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt(pub &'static str);

impl Corrupt {
    /// The block ends too early.
    pub const BLOCK: Corrupt = Corrupt("a block of it breaks off");
    /// The code of literals or of sequences cannot be.
    pub const CODE: Corrupt = Corrupt("the code of a block is not valid");
    /// A stream of bits is longer or shorter than what is coded in it.
    pub const BITS: Corrupt = Corrupt("a block's bits do not end where its data does");
    /// The block decodes to more than the frame's window, or more than 128 KiB.
    pub const LENGTH: Corrupt = Corrupt("a block makes more than a block may");
}

/// Before the block and behind it, so that eight bytes can be loaded before and behind any place in it.
pub const BLOCK_SLACK_BYTES: usize = 16;

/// A place in the block that is being read.
pub struct Cursor<'b> {
    /// The whole block's memory, with the slack.
    pub block: &'b [u8],
    pub at: usize,
    /// Where the block's data ends.
    pub end: usize,
}

impl<'b> Cursor<'b> {
    pub fn bytes(&mut self, len: usize) -> Result<&'b [u8], Corrupt> {
        if len > self.end - self.at {
            return Err(Corrupt::BLOCK);
        }
        let bytes = &self.block[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    pub fn byte(&mut self) -> Result<usize, Corrupt> {
        Ok(self.bytes(1)?[0].into())
    }

    /// The part of the next `len` bytes.
    pub fn part(&mut self, len: usize) -> Result<Cursor<'b>, Corrupt> {
        let at = self.at;
        self.bytes(len)?;
        Ok(Cursor { block: self.block, at, end: self.at })
    }
}

/// Bits that are read from the end of their bytes to the start. Places are bits of the block's memory.
#[derive(Clone, Copy, Default)]
pub struct Bits {
    start: usize,
    /// [`Word::BITS`] before the end of those that are left.
    at: usize,
}

impl Bits {
    /// All that is left of `cursor`. The highest bit set in the last byte is where they end.
    pub fn new(cursor: &Cursor) -> Result<Bits, Corrupt> {
        match cursor.block[cursor.at..cursor.end].last() {
            None | Some(0) => Err(Corrupt::BLOCK),
            Some(last) => {
                let end = cursor.end * 8 - 1 - last.leading_zeros() as usize;
                Ok(Bits { start: cursor.at * 8, at: end - Word::BITS as usize })
            }
        }
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.at + Word::BITS as usize - self.start
    }

    /// The next bits. If fewer are left, others follow them.
    #[inline(always)]
    pub fn word(&self, block: &[u8]) -> Word {
        let at = self.at / 8;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&block[at..at + 8]);
        Word { top: u64::from_le_bytes(bytes) << (!self.at & 7), used: 0 }
    }

    /// Goes on behind what was taken from `word`.
    #[inline(always)]
    pub fn skip(&mut self, word: &Word) -> Result<(), Corrupt> {
        // Not below zero: the slack before the block has more bits than two words.
        self.at -= word.used as usize;
        if self.at + (Word::BITS as usize) < self.start { Err(Corrupt::BITS) } else { Ok(()) }
    }

    /// The next `len` bits, up to 31.
    pub fn take(&mut self, block: &[u8], len: u32) -> Result<u32, Corrupt> {
        let mut word = self.word(block);
        let bits = word.take(len);
        self.skip(&word)?;
        Ok(bits)
    }
}

/// The next bits of a stream, [`Word::BITS`] at least.
pub struct Word {
    top: u64,
    pub used: u32,
}

impl Word {
    pub const BITS: u32 = 57;

    /// The next `len` bits, up to 31.
    #[inline(always)]
    pub fn take(&mut self, len: u32) -> u32 {
        self.top = self.top.rotate_left(len);
        self.used += len;
        self.top as u32 & !(u32::MAX << len)
    }

    /// The next `LEN` bits, which stay.
    #[inline(always)]
    pub fn peek<const LEN: u32>(&self) -> usize {
        (self.top >> (64 - LEN)) as usize
    }

    #[inline(always)]
    pub fn drop(&mut self, len: u32) {
        self.top <<= len;
        self.used += len;
    }
}

/// The number in up to eight bytes, the lowest first.
pub fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
