//! Zstandard (RFC 8878): frames one after another, each with the length and the XXH64 that it states checked, in a ring of
//! the window's length that the caller provides. Dictionaries besides the frame, and the formats before 0.8, are left out.
//!
//! Our own, since ruzstd needs an allocator, and its ring grows by doubling and copying: two to three times the window, of
//! which no ceiling could be promised.
//!
//! A block is read whole, for its streams of bits run from their ends; what it stands for is made only as it is asked for.
//! A raw block and one of equal bytes are literals without sequences, so that one loop makes all three.

use super::extent::{Extent, allocate};
use super::input::Input;
use crate::kernel::{Kernel, StreamError, Taker};
use crate::source::{DecodeError, Source};
use bits::{BITS_BROKEN, Bits, Cursor, SLACK_BYTES};
use checksum::Xxh64;
use frame::{BLOCK_BYTES, BlockHeader, BlockKind, Frame, WINDOW_BYTES_MIN, next_frame};
use fse::Fse;
use huffman::Huffman;
use literals::{Kind, Literals};
use sequences::{LITERAL, LITERAL_CODES, MATCH, MATCH_CODES, OFFSET, coded, read_tables, sequence_count};

mod bits;
mod checksum;
mod frame;
mod fse;
mod huffman;
mod literals;
mod sequences;
#[cfg(test)]
pub(crate) mod tests;

/// A zstd file being decoded: 16 KB of tables and a page of input, besides window and block.
pub struct Zstd<'k, 'd, K: Kernel> {
    input: Input<'k, K>,
    state: State,
    frame: Frame,
    /// What the frame has made.
    made: u64,
    hash: Xxh64,
    /// The last of what was made, and where more goes.
    ring: &'d mut [u8],
    at: usize,
    /// The block's bytes, and the slack.
    block: &'d mut [u8],
    is_last: bool,
    /// What the block may still make.
    block_left: usize,
    literals: Literals,
    huffman: Huffman,
    sequences: Bits,
    sequences_left: usize,
    /// By [`KINDS`].
    tables: [Fse; 3],
    /// The offsets used last, the last first.
    repeats: [u32; 3],
    /// What is to be done of the sequence: copy so many literals, then so many bytes from so far back.
    literal_run: usize,
    match_run: usize,
    offset: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// Before the first frame.
    Start,
    /// Before a block of a frame.
    Between,
    Within,
    /// Behind a frame's last block.
    After,
    End,
}

impl<'k, 'd, K: Kernel> Zstd<'k, 'd, K> {
    /// Starts at the start of the file; `memory` has the file's [`window_bytes`] and [`input_bytes`].
    pub fn new(kernel: &'k K, file: &'k K::File, memory: &'d mut [u8]) -> Self {
        // Whatever the window, this is its share.
        let block_bytes = memory.len().saturating_sub(SLACK_BYTES).div_ceil(2).min(BLOCK_BYTES);
        let (ring, block) = memory.split_at_mut(memory.len().saturating_sub(SLACK_BYTES + block_bytes));
        Zstd {
            input: Input::new(kernel, file),
            state: State::Start,
            frame: Frame { window: 0, content: None, has_checksum: false },
            made: 0,
            hash: Xxh64::new(),
            ring,
            at: 0,
            block,
            is_last: false,
            block_left: 0,
            literals: Literals { kind: Kind::Equal(0), left: 0 },
            huffman: Huffman::new(),
            sequences: Bits::default(),
            sequences_left: 0,
            tables: [const { Fse::new() }; 3],
            repeats: [0; 3],
            literal_run: 0,
            match_run: 0,
            offset: 0,
        }
    }

    /// Goes on to more to make; `false` at the end of the file.
    fn step(&mut self) -> Result<bool, DecodeError> {
        match self.state {
            State::Start => self.start_frame()?,
            State::Between => self.start_block()?,
            State::Within => {}
            State::After => {
                if self.frame.content.is_some_and(|content| content != self.made) {
                    return Err(DecodeError::Length);
                }
                if self.frame.has_checksum && u32::from_le_bytes(self.input.bytes()?) != self.hash.value() as u32 {
                    return Err(DecodeError::Checksum);
                }
                self.start_frame()?;
            }
            State::End => return Ok(false),
        }
        Ok(true)
    }

    fn start_frame(&mut self) -> Result<(), DecodeError> {
        let Some(frame) = next_frame(&mut self.input)? else {
            if self.state == State::Start {
                return Err(DecodeError::Truncated);
            }
            self.state = State::End;
            return Ok(());
        };
        if frame.window > self.ring.len() as u64 {
            return Err(DecodeError::Unsupported("a later frame has a larger window than the first"));
        }
        self.frame = frame;
        self.state = State::Between;
        (self.made, self.hash) = (0, Xxh64::new());
        self.repeats = [1, 4, 8];
        // No block may use the code of one before it while there is none.
        self.huffman.bits = 0;
        self.tables.iter_mut().for_each(|table| table.is_ready = false);
        Ok(())
    }

    /// Reads a block, as far as the start of its literals and sequences.
    fn start_block(&mut self) -> Result<(), DecodeError> {
        let header = BlockHeader::read(&mut self.input, &self.frame)?;
        self.is_last = header.is_last;
        self.block_left = self.frame.block_bytes();
        self.sequences_left = 0;
        self.input.fill(&mut self.block[..header.stored_bytes()])?;
        match header.kind {
            BlockKind::Raw => self.literals = Literals { kind: Kind::Raw(0), left: header.len_bytes },
            BlockKind::Equal => self.literals = Literals { kind: Kind::Equal(self.block[0]), left: header.len_bytes },
            BlockKind::Compressed => {
                let mut cursor = Cursor { block: self.block, at: 0, end: header.len_bytes };
                self.literals = Literals::read(&mut cursor, &mut self.huffman, self.block_left)?;
                self.sequences_left = sequence_count(&mut cursor)?;
                if self.sequences_left > 0 {
                    self.sequences = read_tables(&mut cursor, &mut self.tables)?;
                } else if cursor.at < cursor.end {
                    return Err(BITS_BROKEN);
                }
            }
        }
        self.state = State::Within;
        Ok(())
    }

    /// Makes up to `most` bytes, as many as the block has and the ring takes in a row: their number.
    fn make(&mut self, most: usize) -> Result<usize, DecodeError> {
        if self.at == self.ring.len() {
            self.at = 0;
        }
        let start = self.at;
        let end = self.ring.len().min(start.saturating_add(most));
        while self.at < end {
            let room = end - self.at;
            if self.literal_run > 0 {
                let n = self.literal_run.min(room);
                self.literals.copy(&self.huffman, self.block, &mut self.ring[self.at..self.at + n])?;
                self.literal_run -= n;
                self.at += n;
                self.made += n as u64;
            } else if self.match_run > 0 {
                let n = self.match_run.min(room);
                repeat(self.ring, self.at, self.offset, n);
                self.match_run -= n;
                self.at += n;
                self.made += n as u64;
            } else if self.sequences_left > 0 {
                self.next_sequence()?;
            } else if self.literals.left > 0 {
                self.literal_run = self.literals.left;
                self.spend(self.literal_run)?;
            } else {
                self.state = if self.is_last { State::After } else { State::Between };
                break;
            }
        }
        if self.frame.has_checksum {
            self.hash.add(&self.ring[start..self.at]);
        }
        Ok(self.at - start)
    }

    fn spend(&mut self, bytes: usize) -> Result<(), DecodeError> {
        let left = self.block_left.checked_sub(bytes);
        self.block_left = left.ok_or(DecodeError::Corrupt("a block makes more than a block may"))?;
        Ok(())
    }

    fn next_sequence(&mut self) -> Result<(), DecodeError> {
        let (bits, block) = (&mut self.sequences, &*self.block);
        let [literal, offset, copied] = self.tables.each_ref().map(Fse::symbol);
        let offset = (1 << offset) + bits.take(block, offset.into())?;
        let copied = coded(MATCH_CODES[usize::from(copied)], bits, block)?;
        self.literal_run = coded(LITERAL_CODES[usize::from(literal)], bits, block)?;
        self.match_run = copied;
        self.sequences_left -= 1;
        if self.sequences_left > 0 {
            for kind in [LITERAL, MATCH, OFFSET] {
                self.tables[kind].advance(bits, block)?;
            }
        } else if bits.left > 0 {
            return Err(BITS_BROKEN);
        }
        if self.literal_run > self.literals.left {
            return Err(DecodeError::Corrupt("a block has too few literals"));
        }
        self.spend(self.literal_run + self.match_run)?;
        let offset = self.repeated(offset);
        let reach = self.frame.window.min(self.made + self.literal_run as u64);
        if offset == 0 || u64::from(offset) > reach {
            return Err(DecodeError::Corrupt("it repeats what is not there"));
        }
        self.offset = offset as usize;
        Ok(())
    }

    /// The offset that `value` stands for: one of the last three, or itself. 0 is none.
    fn repeated(&mut self, value: u32) -> u32 {
        let [first, second, third] = self.repeats;
        // Without literals the last offset would have been a longer match; the numbers stand for the next ones.
        let number = if self.literal_run == 0 { value.saturating_add(1) } else { value };
        let offset = match (value, number) {
            (1..=3, 1) => return first,
            (1..=3, 2) => {
                self.repeats = [second, first, third];
                return second;
            }
            (1..=3, 3) => third,
            (1..=3, _) => first.saturating_sub(1),
            _ => value - 3,
        };
        self.repeats = [offset, first, second];
        offset
    }
}

impl<K: Kernel> Source for Zstd<'_, '_, K> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let mut filled = 0;
        while filled < out.len() {
            if self.state == State::Within {
                let n = self.make(out.len() - filled)?;
                out[filled..filled + n].copy_from_slice(&self.ring[self.at - n..self.at]);
                filled += n;
            } else if !self.step()? {
                break;
            }
        }
        Ok(filled)
    }

    fn rewind(&mut self) -> Result<(), DecodeError> {
        self.input.rewind();
        self.state = State::Start;
        Ok(())
    }
}

/// Copies in `ring` to `at` the `len` bytes from `offset` back, of which some may be those that it makes.
fn repeat(ring: &mut [u8], mut at: usize, offset: usize, mut len: usize) {
    let mut from = if offset <= at { at - offset } else { at + ring.len() - offset };
    while len > 0 {
        // Behind `at` is what will be overwritten last, so that the ring's end is all that limits. Before it, what is made by
        // one turn serves the next, which is twice as long.
        let n = len.min(if from < at { at - from } else { ring.len() - from });
        ring.copy_within(from..from + n, at);
        if from >= at {
            from = 0;
        }
        at += n;
        len -= n;
    }
}

/// This build decodes the format.
pub const IS_BUILT: bool = true;

/// What the file says of its image.
pub fn extent<K: Kernel>(kernel: &K, file: &K::File, file_bytes: u64) -> Result<Extent, DecodeError> {
    let dictionary_bytes = window_bytes(kernel, file)?;
    let (image_bytes, input_bytes) = (image_bytes(kernel, file)?, input_bytes(dictionary_bytes));
    Ok(Extent { file_bytes, image_bytes, is_guess: false, dictionary_bytes, input_bytes })
}

/// Has `take` take the image of the file.
#[inline(never)]
pub fn with_source<K: Kernel>(kernel: &K, file: &K::File, extent: &Extent, take: Taker) -> Result<(), StreamError> {
    let mut memory = allocate(kernel, extent)?;
    take(&mut Zstd::new(kernel, file, memory.as_mut()))
}

/// The window of the file's first frame. A later one that wants more is refused as it is met.
fn window_bytes<K: Kernel>(kernel: &K, file: &K::File) -> Result<u64, DecodeError> {
    let frame = next_frame(&mut Input::new(kernel, file))?.ok_or(DecodeError::Truncated)?;
    Ok(frame.window.max(WINDOW_BYTES_MIN))
}

/// What of the file is in memory at a time, where the first window is this.
fn input_bytes(window_bytes: u64) -> u64 {
    window_bytes.min(BLOCK_BYTES as u64) + SLACK_BYTES as u64
}

/// The image's length: the sum of what all frames state, if all do. Reads the headers of frames and blocks alone.
fn image_bytes<K: Kernel>(kernel: &K, file: &K::File) -> Result<Option<u64>, DecodeError> {
    let mut input = Input::new(kernel, file);
    let mut sum = 0u64;
    while let Some(frame) = next_frame(&mut input)? {
        let Some(content) = frame.content else { return Ok(None) };
        sum = sum.saturating_add(content);
        loop {
            let header = BlockHeader::read(&mut input, &frame)?;
            input.skip(header.stored_bytes() as u64)?;
            if header.is_last {
                break;
            }
        }
        input.skip(if frame.has_checksum { 4 } else { 0 })?;
    }
    Ok(Some(sum))
}
