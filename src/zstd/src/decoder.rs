//! The loop over the sequences of a block.
//!
//! A block is read whole, since its streams of bits run from their ends, but decoded only as far as the caller asks.
//! A raw block and one of equal bytes count as literals without sequences, so that one loop decodes all three.

use crate::bits::{BLOCK_SLACK_BYTES, Corrupt, Cursor};
use crate::fse::Fse;
use crate::huffman::Huffman;
use crate::literals::Literals;
use crate::ring::{RING_SLACK_BYTES, Ring};
use crate::sequences::{Sequence, Sequences};

/// The most that a block holds, and decodes to, in bytes.
pub const BLOCK_BYTES: usize = 128 << 10;

const SLACK_BYTES: usize = RING_SLACK_BYTES + 2 * BLOCK_SLACK_BYTES;

/// The memory that a [`Decoder`] takes besides the window, in bytes.
pub fn overhead_bytes(window_bytes: u64) -> u64 {
    window_bytes.min(BLOCK_BYTES as u64) + SLACK_BYTES as u64
}

/// How a block is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockKind {
    /// As it is.
    Raw,
    /// As one byte, which it repeats.
    Equal,
    /// As literals and sequences.
    Compressed,
}

/// The block that is being decoded, and what blocks leave to the next: 11 KB, besides the window and the block's
/// bytes.
#[allow(missing_debug_implementations)]
pub struct Decoder<'d> {
    ring: Ring<'d>,
    /// The block's bytes, between the slacks.
    block: &'d mut [u8],
    /// How many bytes the block may still decode to.
    block_left: usize,
    literals: Literals,
    huffman: Huffman,
    sequences: Sequences,
    codes: [Fse; 3],
    offsets: Offsets,
    /// What is left of a sequence: so many literals to copy, then so many bytes from so far back.
    literal_run: usize,
    match_run: usize,
    offset: usize,
}

impl<'d> Decoder<'d> {
    /// Takes memory of the window's length and [`overhead_bytes`].
    pub fn new(memory: &'d mut [u8]) -> Self {
        // Whatever the window, this is its share.
        let block_bytes = memory.len().saturating_sub(SLACK_BYTES).div_ceil(2).min(BLOCK_BYTES) + 2 * BLOCK_SLACK_BYTES;
        let (bytes, block) = memory.split_at_mut(memory.len().saturating_sub(block_bytes));
        Decoder {
            ring: Ring { bytes, at: 0 },
            block,
            block_left: 0,
            literals: Literals::new(),
            huffman: Huffman::new(),
            sequences: Sequences::default(),
            codes: [const { Fse::new() }; 3],
            offsets: Offsets { window: 0, reach: 0, last: LastOffsets([0; 3]) },
            literal_run: 0,
            match_run: 0,
            offset: 0,
        }
    }

    /// Starts a frame with a window of so many bytes; `false` if they are more than there is memory for.
    pub fn start_frame(&mut self, window_bytes: u64) -> bool {
        let Some(window) = usize::try_from(window_bytes).ok().filter(|bytes| *bytes <= self.ring.limit()) else {
            return false;
        };
        self.offsets = Offsets { window, reach: 0, last: LastOffsets([1, 4, 8]) };
        // No block may use the code of one before it while there is none.
        self.huffman.is_ready = false;
        self.codes.iter_mut().for_each(|code| code.is_ready = false);
        true
    }

    /// Where the bytes of the next block go, of which there are so many; no more than [`BLOCK_BYTES`] or the window.
    pub fn stored(&mut self, len_bytes: usize) -> &mut [u8] {
        &mut self.block[BLOCK_SLACK_BYTES..BLOCK_SLACK_BYTES + len_bytes]
    }

    /// Starts the block whose bytes are in [`Decoder::stored`]. `len_bytes` is that of its header.
    pub fn start_block(&mut self, kind: BlockKind, len_bytes: usize) -> Result<(), Corrupt> {
        self.block_left = self.offsets.window.min(BLOCK_BYTES);
        self.sequences = Sequences::default();
        // Left over if the block before was not made to its end.
        (self.literal_run, self.match_run) = (0, 0);
        match kind {
            BlockKind::Raw => self.literals.set_raw(BLOCK_SLACK_BYTES, len_bytes),
            BlockKind::Equal => self.literals.set_equal(self.block[BLOCK_SLACK_BYTES], len_bytes),
            BlockKind::Compressed => {
                let (at, end) = (BLOCK_SLACK_BYTES, BLOCK_SLACK_BYTES + len_bytes);
                let mut cursor = Cursor { block: self.block, at, end };
                self.literals.read(&mut cursor, &mut self.huffman, self.block_left)?;
                self.sequences = Sequences::read(&mut cursor, &mut self.codes)?;
            }
        }
        Ok(())
    }

    /// Decodes up to `most` bytes of the block, at least one: nothing at the block's end.
    pub fn make(&mut self, most: usize) -> Result<&[u8], Corrupt> {
        if self.ring.at == self.ring.bytes.len() {
            self.ring.at = 0;
        }
        let start = self.ring.at;
        let end = self.ring.bytes.len().min(start.saturating_add(most));
        loop {
            self.finish_runs(end)?;
            if self.ring.at == end {
                break;
            }
            if self.sequences.left > 0 {
                self.make_sequences(end)?;
            } else if self.literals.left() > 0 {
                self.literal_run = self.literals.left();
                self.block_left = self.block_left.checked_sub(self.literal_run).ok_or(Corrupt::LENGTH)?;
            } else {
                break;
            }
        }
        Ok(&self.ring.bytes[start..self.ring.at])
    }

    /// Copies what is left of a sequence, up to `end`.
    fn finish_runs(&mut self, end: usize) -> Result<(), Corrupt> {
        let start = self.ring.at;
        let n = self.literal_run.min(end - start);
        self.literals.copy(&self.huffman, self.block, &mut self.ring.bytes[start..start + n])?;
        self.literal_run -= n;
        self.ring.at += n;
        let n = self.match_run.min(end - self.ring.at);
        self.ring.repeat_exactly(self.offset, n);
        self.match_run -= n;
        self.offsets.grow(self.ring.at - start);
        Ok(())
    }

    /// Decodes whole sequences. The runs of the first that does not fit before `end` are left to
    /// [`Decoder::finish_runs`].
    #[inline(never)]
    fn make_sequences(&mut self, end: usize) -> Result<(), Corrupt> {
        let start = self.ring.at;
        let limit = self.ring.limit().min(end);
        // Copies, which the compiler may keep in registers.
        let (mut sequences, mut last, mut block_left) = (self.sequences, self.offsets.last, self.block_left);
        let (block, window) = (&*self.block, self.offsets.window);
        let reach = self.offsets.reach;
        let ring = &mut self.ring;
        while sequences.left > 0 {
            let Sequence { literals, copied, offset } = sequences.next(&self.codes, block)?;
            block_left = block_left.checked_sub(literals + copied).ok_or(Corrupt::LENGTH)?;
            let offset = last.resolve(offset, literals) as usize;
            if offset > window || offset > reach + (ring.at - start) + literals {
                return Err(OFFSET_BROKEN);
            }
            if ring.at + literals + copied > limit {
                self.literals.has(literals)?;
                (self.literal_run, self.match_run, self.offset) = (literals, copied, offset);
                break;
            }
            match self.literals.take(literals) {
                Some(piece) => ring.put(piece, literals),
                None => {
                    self.literals.has(literals)?;
                    self.literals.copy(&self.huffman, block, &mut ring.bytes[ring.at..ring.at + literals])?;
                    ring.at += literals;
                }
            }
            ring.repeat(offset, copied);
        }
        let made = ring.at - start;
        (self.sequences, self.offsets.last, self.block_left) = (sequences, last, block_left);
        self.offsets.grow(made);
        Ok(())
    }
}

const OFFSET_BROKEN: Corrupt = Corrupt("it repeats what is not there");

/// How far back a match may begin, and where the last ones began.
struct Offsets {
    window: usize,
    /// How many bytes the frame has made, the window's length at most.
    reach: usize,
    last: LastOffsets,
}

impl Offsets {
    fn grow(&mut self, len: usize) {
        self.reach = (self.reach + len).min(self.window);
    }
}

/// The offsets used last, the last first.
#[derive(Clone, Copy)]
struct LastOffsets([u32; 3]);

impl LastOffsets {
    /// The offset that `code` stands for in a sequence with so many literals; `u32::MAX` if it stands for none.
    #[inline(always)]
    fn resolve(&mut self, code: u32, literals: usize) -> u32 {
        let [first, second, third] = self.0;
        let offset = if code > 3 {
            code - 3
        } else {
            // After a match without literals behind it, the last offset would only have made that match longer. So the
            // codes stand for the others.
            match code + u32::from(literals == 0) {
                1 => return first,
                2 => {
                    self.0 = [second, first, third];
                    return second;
                }
                3 => third,
                // An offset of 0 is not valid.
                _ => first.checked_sub(1).filter(|offset| *offset > 0).unwrap_or(u32::MAX),
            }
        };
        self.0 = [offset, first, second];
        offset
    }
}
