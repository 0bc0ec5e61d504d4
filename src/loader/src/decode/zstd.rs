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

/// The most that a block holds, and makes.
const BLOCK_BYTES: usize = 128 << 10;

/// Behind the block, so that eight bytes can be loaded from any place in it.
const SLACK_BYTES: usize = 8;

/// The least window of a frame that does not lie in one segment; no file is read with a smaller ring.
const WINDOW_BYTES_MIN: u64 = 1 << 10;

const BLOCK_BROKEN: DecodeError = DecodeError::Corrupt("a block of it breaks off");
const CODE_BROKEN: DecodeError = DecodeError::Corrupt("the code of a block is none");
const BITS_BROKEN: DecodeError = DecodeError::Corrupt("a block's bits do not end where its data does");

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
            huffman: Huffman { cells: [0; HUFFMAN_CELLS], bits: 0 },
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

/// What a frame's header says.
struct Frame {
    window: u64,
    content: Option<u64>,
    has_checksum: bool,
}

impl Frame {
    fn block_bytes(&self) -> usize {
        self.window.min(BLOCK_BYTES as u64) as usize
    }
}

/// The header of the next frame; `None` at the end of the file.
fn next_frame<K: Kernel>(input: &mut Input<K>) -> Result<Option<Frame>, DecodeError> {
    while !input.at_end()? {
        match u32::from_le_bytes(input.bytes()?) {
            0xfd2f_b528 => return frame_header(input).map(Some),
            0x184d_2a50..=0x184d_2a5f => {
                let len_bytes = u32::from_le_bytes(input.bytes()?);
                input.skip(len_bytes.into())?;
            }
            _ => return Err(DecodeError::Corrupt("bytes after its end are not another frame")),
        }
    }
    Ok(None)
}

fn frame_header<K: Kernel>(input: &mut Input<K>) -> Result<Frame, DecodeError> {
    const DICTIONARY: u8 = 3;
    const CHECKSUM: u8 = 4;
    const RESERVED: u8 = 8;
    const ONE_SEGMENT: u8 = 0x20;
    let [flags] = input.bytes()?;
    if flags & RESERVED != 0 {
        return Err(DecodeError::Corrupt("its header has reserved flags"));
    }
    let is_one_segment = flags & ONE_SEGMENT != 0;
    let window = match is_one_segment {
        true => None,
        false => {
            let [window] = input.bytes()?;
            let base = WINDOW_BYTES_MIN << (window >> 3);
            Some(base + base / 8 * u64::from(window & 7))
        }
    };
    let dictionary = number(input, [0, 1, 2, 4][usize::from(flags & DICTIONARY)])?;
    if dictionary != 0 {
        return Err(DecodeError::Unsupported("it wants a dictionary of another file"));
    }
    let content = match (flags >> 6, is_one_segment) {
        (0, false) => None,
        (0, true) => Some(number(input, 1)?),
        (1, _) => Some(number(input, 2)? + 256),
        (2, _) => Some(number(input, 4)?),
        _ => Some(number(input, 8)?),
    };
    let window = window.or(content).unwrap_or_default();
    Ok(Frame { window, content, has_checksum: flags & CHECKSUM != 0 })
}

/// A number of up to eight bytes.
fn number<K: Kernel>(input: &mut Input<K>, len: usize) -> Result<u64, DecodeError> {
    let mut bytes = [0; 8];
    input.fill(&mut bytes[..len])?;
    Ok(u64::from_le_bytes(bytes))
}

/// What a block's header says.
struct BlockHeader {
    is_last: bool,
    kind: BlockKind,
    len_bytes: usize,
}

#[derive(PartialEq)]
enum BlockKind {
    Raw,
    Equal,
    Compressed,
}

impl BlockHeader {
    fn read<K: Kernel>(input: &mut Input<K>, frame: &Frame) -> Result<BlockHeader, DecodeError> {
        let header = number(input, 3)? as usize;
        let kind = match header >> 1 & 3 {
            0 => BlockKind::Raw,
            1 => BlockKind::Equal,
            2 => BlockKind::Compressed,
            _ => return Err(DecodeError::Corrupt("a block's type is reserved")),
        };
        let len_bytes = header >> 3;
        if len_bytes > frame.block_bytes() {
            return Err(DecodeError::Corrupt("a block is longer than a block may be"));
        }
        Ok(BlockHeader { is_last: header & 1 != 0, kind, len_bytes })
    }

    /// What follows it in the file.
    fn stored_bytes(&self) -> usize {
        if self.kind == BlockKind::Equal { 1 } else { self.len_bytes }
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

/// A place in the block that is being read.
struct Cursor<'b> {
    /// The whole block's memory, with the slack.
    block: &'b [u8],
    at: usize,
    /// Where the block's data ends.
    end: usize,
}

impl<'b> Cursor<'b> {
    fn bytes(&mut self, len: usize) -> Result<&'b [u8], DecodeError> {
        if len > self.end - self.at {
            return Err(BLOCK_BROKEN);
        }
        let bytes = &self.block[self.at..self.at + len];
        self.at += len;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<usize, DecodeError> {
        Ok(self.bytes(1)?[0].into())
    }

    /// The part of the next `len` bytes.
    fn part(&mut self, len: usize) -> Result<Cursor<'b>, DecodeError> {
        let at = self.at;
        self.bytes(len)?;
        Ok(Cursor { block: self.block, at, end: self.at })
    }
}

/// Bits that are read from the end of their bytes to the start.
#[derive(Clone, Copy, Default)]
struct Bits {
    start: usize,
    /// How many there are, from the start.
    left: usize,
}

impl Bits {
    /// All that is left of `cursor`. The highest bit set in the last byte is where they end.
    fn new(cursor: &Cursor) -> Result<Bits, DecodeError> {
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
    fn top(&self, block: &[u8]) -> u64 {
        let skipped = self.left.saturating_sub(57) / 8;
        let at = self.start + skipped;
        let [a, b, c, d, e, f, g, h] = block[at..at + 8] else { return 0 };
        let word = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let held = self.left - skipped * 8;
        if held == 0 { 0 } else { word << (64 - held) }
    }

    #[inline(always)]
    fn skip(&mut self, len: u32) -> Result<(), DecodeError> {
        self.left = self.left.checked_sub(len as usize).ok_or(BITS_BROKEN)?;
        Ok(())
    }

    /// The next `len` bits, up to 32.
    #[inline(always)]
    fn take(&mut self, block: &[u8], len: u32) -> Result<u32, DecodeError> {
        let top = self.top(block);
        self.skip(len)?;
        Ok((top >> 1 >> (63 - len)) as u32)
    }
}

/// The literals of a block that no sequence took yet.
struct Literals {
    kind: Kind,
    left: usize,
}

enum Kind {
    /// At this place in the block.
    Raw(usize),
    Equal(u8),
    Coded(Streams),
}

impl Literals {
    fn read(cursor: &mut Cursor, huffman: &mut Huffman, most: usize) -> Result<Literals, DecodeError> {
        let first = cursor.byte()?;
        let (kind, format) = (first & 3, first >> 2 & 3);
        let is_coded = kind >= 2;
        // How many bytes the header has, at which bit of it lengths begin, and how many bits each of them has.
        let (header_bytes, at, bits) = match (is_coded, format) {
            (false, 0 | 2) => (1, 3, 5),
            (false, 1) => (2, 4, 12),
            (false, _) => (3, 4, 20),
            (true, 0 | 1) => (3, 4, 10),
            (true, 2) => (4, 4, 14),
            (true, _) => (5, 4, 18),
        };
        let lengths = (little(cursor.bytes(header_bytes - 1)?) << 8 | first as u64) >> at;
        let mask = (1u64 << bits) - 1;
        let left = (lengths & mask) as usize;
        if left > most {
            return Err(DecodeError::Corrupt("a block makes more than a block may"));
        }
        let kind = match kind {
            0 => {
                let at = cursor.at;
                cursor.bytes(left)?;
                Kind::Raw(at)
            }
            1 => Kind::Equal(cursor.byte()? as u8),
            _ => {
                let mut coded = cursor.part((lengths >> bits & mask) as usize)?;
                if kind == 2 {
                    huffman.read(&mut coded)?;
                } else if huffman.bits == 0 {
                    return Err(CODE_BROKEN);
                }
                Kind::Coded(Streams::read(&mut coded, left, if format == 0 { 1 } else { 4 })?)
            }
        };
        Ok(Literals { kind, left })
    }

    /// Takes as many as `out` has, of which there are not less.
    fn copy(&mut self, huffman: &Huffman, block: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
        self.left -= out.len();
        match &mut self.kind {
            Kind::Raw(at) => {
                out.copy_from_slice(&block[*at..*at + out.len()]);
                *at += out.len();
            }
            Kind::Equal(byte) => out.fill(*byte),
            Kind::Coded(streams) => return streams.copy(huffman, block, out),
        }
        Ok(())
    }
}

/// Streams of coded literals, one after another.
struct Streams {
    now: Bits,
    /// What the present one still makes.
    left: usize,
    /// The ones after it, and what each makes.
    rest: [(Bits, usize); 3],
    next: usize,
}

impl Streams {
    fn read(cursor: &mut Cursor, len: usize, count: usize) -> Result<Streams, DecodeError> {
        let mut streams = Streams { now: Bits::default(), left: len, rest: [(Bits::default(), 0); 3], next: 3 };
        if count > 1 {
            // The last makes what the others leave.
            streams.left = len.div_ceil(4);
            let last = len.checked_sub(streams.left * 3).ok_or(BLOCK_BROKEN)?;
            let [a, b, c, d, e, f] = *cursor.bytes(6)? else { return Err(BLOCK_BROKEN) };
            let mut stored = |bytes| Bits::new(&cursor.part(usize::from(u16::from_le_bytes(bytes)))?);
            streams.now = stored([a, b])?;
            streams.rest[0] = (stored([c, d])?, streams.left);
            streams.rest[1] = (stored([e, f])?, streams.left);
            streams.rest[2] = (Bits::new(cursor)?, last);
            streams.next = 0;
        } else {
            streams.now = Bits::new(cursor)?;
        }
        streams.advance()?;
        Ok(streams)
    }

    /// Goes on to the next stream that makes something, where the present one has made all.
    fn advance(&mut self) -> Result<(), DecodeError> {
        while self.left == 0 {
            if self.now.left > 0 {
                return Err(BITS_BROKEN);
            }
            let Some(next) = self.rest.get(self.next) else { break };
            (self.now, self.left) = *next;
            self.next += 1;
        }
        Ok(())
    }

    fn copy(&mut self, huffman: &Huffman, block: &[u8], mut out: &mut [u8]) -> Result<(), DecodeError> {
        while !out.is_empty() {
            let (now, rest) = out.split_at_mut(self.left.min(out.len()));
            huffman.decode(&mut self.now, block, now)?;
            self.left -= now.len();
            self.advance()?;
            out = rest;
        }
        Ok(())
    }
}

const HUFFMAN_BITS_MAX: u32 = 11;
const HUFFMAN_CELLS: usize = 1 << HUFFMAN_BITS_MAX;

/// The code of literals: by the next bits, a symbol, and above it how many of the bits are its own.
struct Huffman {
    cells: [u16; HUFFMAN_CELLS],
    /// How many bits a cell is found by; 0 while there is no code.
    bits: u32,
}

impl Huffman {
    fn read(&mut self, cursor: &mut Cursor) -> Result<(), DecodeError> {
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

    fn decode(&self, bits: &mut Bits, block: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
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

/// A state of a finite state entropy code: what it stands for, and where the next bits lead.
#[derive(Clone, Copy)]
struct Cell {
    symbol: u8,
    bits: u8,
    base: u16,
}

const FSE_BITS_MAX: u32 = 9;
const FSE_SYMBOLS_MAX: usize = MATCH_CODES.len();

/// A finite state entropy code, and the state that a stream in it is in.
struct Fse {
    cells: [Cell; 1 << FSE_BITS_MAX],
    bits: u32,
    state: u16,
    is_ready: bool,
}

impl Fse {
    const fn new() -> Fse {
        Fse { cells: [Cell { symbol: 0, bits: 0, base: 0 }; 1 << FSE_BITS_MAX], bits: 0, state: 0, is_ready: false }
    }

    /// One symbol, whatever the bits.
    fn set_equal(&mut self, symbol: u8) {
        self.cells[0] = Cell { symbol, bits: 0, base: 0 };
        self.bits = 0;
    }

    /// Sets up the code from each symbol's share of `1 << bits` states; -1 is a share of less than one.
    fn set(&mut self, shares: &[i16], bits: u32) {
        let size = 1 << bits;
        let mut next = [0u16; FSE_SYMBOLS_MAX];
        let mut rare_from = size;
        for ((symbol, share), next) in (0..).zip(shares).zip(&mut next) {
            *next = share.unsigned_abs();
            if *share < 0 {
                rare_from -= 1;
                self.cells[rare_from].symbol = symbol;
            }
        }
        let (mut at, step) = (0, (size >> 1) + (size >> 3) + 3);
        for (symbol, share) in (0..).zip(shares) {
            for _ in 0..*share {
                self.cells[at].symbol = symbol;
                // An odd step, so that it comes by every state.
                at = (at + step) & (size - 1);
                while at >= rare_from {
                    at = (at + step) & (size - 1);
                }
            }
        }
        for cell in &mut self.cells[..size] {
            let next = &mut next[usize::from(cell.symbol)];
            cell.bits = (bits - next.ilog2()) as u8;
            cell.base = (*next << cell.bits) - size as u16;
            *next += 1;
        }
        self.bits = bits;
    }

    /// Reads the description of a code of at most this many symbols and bits.
    fn read(&mut self, cursor: &mut Cursor, symbols: usize, bits_max: u32) -> Result<(), DecodeError> {
        let mut shares = [0i16; FSE_SYMBOLS_MAX];
        let mut at = cursor.at * 8;
        // The slack is enough for what is read before this is noticed.
        let next = |at: usize, len: u32| match cursor.block[at / 8..at / 8 + 4] {
            [a, b, c, d] if at <= cursor.end * 8 => {
                Ok((u32::from_le_bytes([a, b, c, d]) >> (at % 8) & ((1 << len) - 1)) as u16)
            }
            _ => Err(BLOCK_BROKEN),
        };
        let bits = u32::from(next(at, 4)?) + 5;
        at += 4;
        if bits > bits_max {
            return Err(CODE_BROKEN);
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
            *shares[..symbols].get_mut(symbol).ok_or(CODE_BROKEN)? = share;
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

    fn start(&mut self, bits: &mut Bits, block: &[u8]) -> Result<(), DecodeError> {
        self.state = bits.take(block, self.bits)? as u16;
        Ok(())
    }

    #[inline(always)]
    fn symbol(&self) -> u8 {
        self.cells[usize::from(self.state)].symbol
    }

    #[inline(always)]
    fn advance(&mut self, bits: &mut Bits, block: &[u8]) -> Result<(), DecodeError> {
        let cell = self.cells[usize::from(self.state)];
        self.state = cell.base + bits.take(block, cell.bits.into())? as u16;
        Ok(())
    }
}

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
static LITERAL_CODES: [u32; 36] = codes(0, 16, [1, 1, 1, 1, 2, 2, 3, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
static MATCH_CODES: [u32; 53] = codes(3, 32, [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);

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
fn coded(code: u32, bits: &mut Bits, block: &[u8]) -> Result<usize, DecodeError> {
    Ok(((code >> 5) + bits.take(block, code & 31)?) as usize)
}

fn sequence_count(cursor: &mut Cursor) -> Result<usize, DecodeError> {
    Ok(match cursor.byte()? {
        few @ 0..128 => few,
        255 => 0x7f00 + cursor.byte()? + (cursor.byte()? << 8),
        high => (high - 128) << 8 | cursor.byte()?,
    })
}

/// Reads the codes of sequences, and starts with the bits behind them.
fn read_tables(cursor: &mut Cursor, tables: &mut [Fse; 3]) -> Result<Bits, DecodeError> {
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

/// XXH64 without a seed.
struct Xxh64 {
    lanes: [u64; 4],
    /// What is no whole stripe yet.
    held: [u8; STRIPE_BYTES],
    len_bytes: u64,
}

const STRIPE_BYTES: usize = 32;
const PRIMES: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

impl Xxh64 {
    fn new() -> Xxh64 {
        let lanes = [PRIMES[0].wrapping_add(PRIMES[1]), PRIMES[1], 0, 0u64.wrapping_sub(PRIMES[0])];
        Xxh64 { lanes, held: [0; STRIPE_BYTES], len_bytes: 0 }
    }

    fn held(&self) -> usize {
        self.len_bytes as usize % STRIPE_BYTES
    }

    fn add(&mut self, mut bytes: &[u8]) {
        let held = self.held();
        if held > 0 {
            let (more, rest) = bytes.split_at(bytes.len().min(STRIPE_BYTES - held));
            self.held[held..held + more.len()].copy_from_slice(more);
            self.len_bytes += more.len() as u64;
            bytes = rest;
            if self.held() == 0 {
                let stripe = self.held;
                self.stripe(&stripe);
            }
        }
        self.len_bytes += bytes.len() as u64;
        let mut stripes = bytes.chunks_exact(STRIPE_BYTES);
        stripes.by_ref().for_each(|stripe| self.stripe(stripe));
        let rest = stripes.remainder();
        // Empty where what is held is not yet a stripe.
        self.held[..rest.len()].copy_from_slice(rest);
    }

    fn stripe(&mut self, stripe: &[u8]) {
        for (lane, word) in self.lanes.iter_mut().zip(stripe.chunks_exact(8)) {
            *lane = round(*lane, little(word));
        }
    }

    fn value(&self) -> u64 {
        let mut hash = self.lanes[2].wrapping_add(PRIMES[4]);
        if self.len_bytes >= STRIPE_BYTES as u64 {
            let turned = self.lanes.iter().zip([1, 7, 12, 18]).map(|(lane, by)| lane.rotate_left(by));
            hash = turned.fold(0, u64::wrapping_add);
            for lane in self.lanes {
                hash = (hash ^ round(0, lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
            }
        }
        hash = hash.wrapping_add(self.len_bytes);
        let mut rest = &self.held[..self.held()];
        while let Some((word, behind)) = rest.split_at_checked(8) {
            hash ^= round(0, little(word));
            hash = hash.rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
            rest = behind;
        }
        if let Some((word, behind)) = rest.split_at_checked(4) {
            hash ^= little(word).wrapping_mul(PRIMES[0]);
            hash = hash.rotate_left(23).wrapping_mul(PRIMES[1]).wrapping_add(PRIMES[2]);
            rest = behind;
        }
        for byte in rest {
            hash ^= u64::from(*byte).wrapping_mul(PRIMES[4]);
            hash = hash.rotate_left(11).wrapping_mul(PRIMES[0]);
        }
        hash = (hash ^ hash >> 33).wrapping_mul(PRIMES[1]);
        hash = (hash ^ hash >> 29).wrapping_mul(PRIMES[2]);
        hash ^ hash >> 32
    }
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

/// The number in up to eight bytes, the lowest first.
fn little(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::tests::{read_all, sample};
    use super::*;
    use crate::kernel::fake::Fake;
    use proptest::prelude::*;
    use std::io::Write;
    use zstd::stream::Encoder;

    /// How a frame is to be made.
    #[derive(Clone, Copy, Debug)]
    struct Options {
        level: i32,
        window_log: u32,
        checksum: bool,
        content: bool,
    }

    const USUAL: Options = Options { level: 3, window_log: 17, checksum: true, content: true };

    fn encode(data: &[u8], options: Options) -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new(), options.level).unwrap();
        encoder.window_log(options.window_log).unwrap();
        encoder.include_checksum(options.checksum).unwrap();
        encoder.include_contentsize(options.content).unwrap();
        if options.content {
            encoder.set_pledged_src_size(Some(data.len() as u64)).unwrap();
        }
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    pub(crate) fn zstd(data: &[u8]) -> Vec<u8> {
        encode(data, USUAL)
    }

    /// Without the content's length.
    pub(crate) fn zstd_unstated(data: &[u8], window_log: u32) -> Vec<u8> {
        encode(data, Options { window_log, content: false, ..USUAL })
    }

    fn decode_in(bytes: &[u8], piece: usize) -> Result<Vec<u8>, DecodeError> {
        let fake = Fake::default().with_file("/f", bytes);
        let file = fake.open(c"/f").unwrap();
        let window = window_bytes(&fake, &file)?;
        // A window of many gigabytes is refused before it gets here.
        if window > 1 << 27 {
            return Err(DecodeError::TooLarge);
        }
        let mut memory = vec![0xaa; (window + input_bytes(window)) as usize];
        let all = read_all(&mut Zstd::new(&fake, &file, &mut memory), piece)?;
        let stated = image_bytes(&fake, &file).unwrap();
        assert!([None, Some(all.len() as u64)].contains(&stated), "{stated:?}");
        Ok(all)
    }

    /// A frame with a window of 1 KiB, whose blocks are these.
    fn frame(blocks: &[u8]) -> Vec<u8> {
        [b"\x28\xb5\x2f\xfd\0\0", blocks].concat()
    }

    fn block(kind: u8, len: usize, content: &[u8], is_last: bool) -> Vec<u8> {
        let header = (len as u32) << 3 | u32::from(kind) << 1 | u32::from(is_last);
        [&header.to_le_bytes()[..3], content].concat()
    }

    #[test]
    fn frames_in_a_row_are_one_image() {
        let (a, b) = (sample(300_000), sample(70_001));
        let skipped = [b"\x5a\x2a\x4d\x18\x88\x13\0\0", &[7; 5000][..]].concat();
        let file = [skipped.clone(), zstd(&a), zstd(&[]), skipped, zstd(&b)].concat();
        for piece in [1, 1000, 16384, 1 << 20] {
            assert!(decode_in(&file, piece) == Ok([&a[..], &b].concat()), "{piece}");
        }
        let larger = [zstd(&b), encode(&a, Options { window_log: 18, ..USUAL })].concat();
        let error = DecodeError::Unsupported("a later frame has a larger window than the first");
        assert_eq!(decode_in(&larger, 4096), Err(error));
    }

    #[test]
    fn blocks_of_every_kind_are_decoded() {
        let equal = block(1, 1000, b"x", false);
        let raw = block(0, 3, b"abc", false);
        // Raw literals, and one sequence of codes of one symbol each: three literals, then four bytes from two back.
        let repeating = block(2, 10, b"\x18abc\x01\x54\x03\x02\x01\x05", false);
        // Equal literals alone.
        let literals = block(2, 3, b"\x29y\0", true);
        let file = frame(&[equal, raw, repeating, literals].concat());
        assert_eq!(decode_in(&file, 99), Ok([vec![b'x'; 1000], b"abcabcbcbcyyyyy".to_vec()].concat()));
        for (blocks, error) in [
            (block(3, 0, b"", true), DecodeError::Corrupt("a block's type is reserved")),
            (block(1, 1025, b"x", true), DecodeError::Corrupt("a block is longer than a block may be")),
            (block(2, 2, b"\0", true), DecodeError::Truncated),
            (block(2, 0, b"", true), BLOCK_BROKEN),
            (block(2, 3, b"\x29y\x01", true), BLOCK_BROKEN),
            (block(2, 4, b"\x29y\0\0", true), BITS_BROKEN),
            (block(2, 3, b"\xfd\xff\xff", true), DecodeError::Corrupt("a block makes more than a block may")),
            // No code before it to be used again, for literals or sequences.
            (block(2, 5, b"\x13\x40\0\x01\0", true), CODE_BROKEN),
            (block(2, 4, b"\0\x01\xc0\x01", true), CODE_BROKEN),
            (block(2, 4, b"\0\x01\x01\x01", true), DecodeError::Corrupt("a block has reserved flags")),
            // No symbol of its code.
            (block(2, 7, b"\0\x01\x54\x24\0\0\x01", true), CODE_BROKEN),
            (block(2, 7, b"\0\x01\x54\0\x20\0\x01", true), CODE_BROKEN),
            // A literal that is not there; a match before the start; bits too many and too few.
            (block(2, 7, b"\0\x01\x54\x01\0\0\x01", true), DecodeError::Corrupt("a block has too few literals")),
            (block(2, 7, b"\0\x01\x54\0\0\0\x01", true), DecodeError::Corrupt("it repeats what is not there")),
            (block(2, 7, b"\0\x01\x54\0\0\0\x02", true), BITS_BROKEN),
            (block(2, 7, b"\0\x01\x54\0\x05\0\x01", true), BITS_BROKEN),
            (block(2, 7, b"\0\x01\x54\0\0\0\0", true), BLOCK_BROKEN),
        ] {
            assert_eq!(decode_in(&frame(&blocks), 512), Err(error), "{blocks:x?}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = zstd(&sample(3000));
        for len in 0..good.len() {
            assert_eq!(decode_in(&good[..len], 512), Err(DecodeError::Truncated), "{len} of {}", good.len());
        }
        let changed = |at: usize, by: u8| {
            let mut bad = good.clone();
            bad[at] ^= by;
            decode_in(&bad, 512)
        };
        assert_eq!(changed(good.len() - 1, 1), Err(DecodeError::Checksum));
        // The content's length, of two bytes.
        assert_eq!(good[4], 0x64);
        assert_eq!(changed(5, 1), Err(DecodeError::Length));
        assert_eq!(changed(4, 8), Err(DecodeError::Corrupt("its header has reserved flags")));
        assert_eq!(changed(4, 1), Err(DecodeError::Unsupported("it wants a dictionary of another file")));
        let trailing = [&good[..], b"1234"].concat();
        assert_eq!(decode_in(&trailing, 512), Err(DecodeError::Corrupt("bytes after its end are not another frame")));
        assert_eq!(decode_in(&[&good[..], b"123"].concat(), 512), Err(DecodeError::Truncated));
        assert_eq!(decode_in(&[&good[..], b"\x50\x2a\x4d\x18\x01\0\0\0"].concat(), 512), Err(DecodeError::Truncated));
    }

    #[test]
    fn every_changed_byte_is_noticed_or_changes_nothing() {
        let data = sample(1500);
        let good = encode(&data, Options { level: 19, ..USUAL });
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                // The header has a flag that nobody may read, and another offset may lead to the same bytes.
                let decoded = decode_in(&bad, 1000);
                assert!(decoded.is_err() || decoded.as_ref() == Ok(&data), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn the_window_is_that_of_the_header() {
        for (header, window) in [
            (&b"\0\0"[..], 1 << 10),
            (b"\0\x57", (1 << 20) + (7 << 17)),
            (b"\0\xff", 15 << 38),
            (b"\x20\x05", 1 << 10),
            (b"\x60\xff\xff", 65791),
            (b"\xa0\0\0\0\x80", 1 << 31),
            (b"\xe0\xff\xff\xff\xff\xff\xff\xff\xff", u64::MAX),
            // A dictionary by the number of none.
            (b"\x03\x08\0\0\0\0", 2 << 10),
        ] {
            let fake = Fake::default().with_file("/f", &[b"\x28\xb5\x2f\xfd", header].concat());
            assert_eq!(window_bytes(&fake, &fake.open(c"/f").unwrap()), Ok(window), "{header:x?}");
        }
        assert_eq!([1 << 10, 1 << 17, 1 << 40].map(input_bytes), [1032, (1 << 17) + 8, (1 << 17) + 8]);
    }

    #[test]
    fn lengths_are_stated_by_all_frames_or_not_at_all() {
        let data = sample(1_000_000);
        let (stated, not) = (zstd(&data), encode(&data, Options { content: false, ..USUAL }));
        for (file, want) in [
            (stated.clone(), Ok(Some(1_000_000))),
            ([&stated[..], &stated].concat(), Ok(Some(2_000_000))),
            ([&stated[..], &not].concat(), Ok(None)),
            (stated[..stated.len() - 1].to_vec(), Err(DecodeError::Truncated)),
            (stated[..stated.len() / 2].to_vec(), Err(DecodeError::Truncated)),
        ] {
            let fake = Fake::default().with_file("/f", &file);
            assert_eq!(image_bytes(&fake, &fake.open(c"/f").unwrap()), want);
        }
        // Most of the file is passed over.
        let fake = Fake::default().with_file("/f", &stated);
        let file = fake.open(c"/f").unwrap();
        let mut input = Input::new(&fake, &file);
        assert_eq!(input.skip(100_000), Ok(()));
        assert_eq!(input.bytes(), Ok([stated[100_000]]));
        assert_eq!(input.skip(stated.len() as u64), Err(DecodeError::Truncated));
    }

    #[test]
    fn the_hash_is_that_of_xxhash() {
        // By xxhsum -H1.
        for (data, hash) in
            [(&b""[..], 0xef46_db37_51d8_e999), (b"a", 0xd24e_c4f1_a98c_6e5b), (b"abc", 0x44bc_2cf5_ad77_0999)]
        {
            let mut xxh = Xxh64::new();
            xxh.add(data);
            assert_eq!(xxh.value(), hash, "{data:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn what_zstd_makes_is_decoded(
            len in 0usize..200_000, level in prop::sample::select(vec![-5, 1, 3, 19]), window_log in 10u32..24,
            checksum: bool, content: bool, piece in 1usize..100_000,
        ) {
            // From before, far back: the ring goes round.
            let mut data = sample(len);
            data.extend_from_within(..len / 3);
            let file = encode(&data, Options { level, window_log, checksum, content });
            prop_assert!(decode_in(&file, piece) == Ok(data));
        }

        #[test]
        fn a_flipped_bit_is_noticed_or_changes_nothing(
            at in 5usize..40_000, bit in 0u8..8, piece in 1usize..40_000, level in 1i32..8,
        ) {
            let data = sample(50_000);
            let mut bad = encode(&data, Options { level, ..USUAL });
            let at = 5 + at % (bad.len() - 5);
            bad[at] ^= 1 << bit;
            let decoded = decode_in(&bad, piece);
            prop_assert!(decoded.is_err() || decoded == Ok(data));
        }

        #[test]
        fn no_block_makes_it_panic(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..4)) {
            let blocks = blocks.iter().flat_map(|content| block(2, content.len(), content, false));
            let _ = decode_in(&frame(&blocks.collect::<Vec<_>>()), 512);
        }

        #[test]
        fn no_literals_make_it_panic(kind in 2u8..4, content in prop::collection::vec(any::<u8>(), 1..200)) {
            // A coded block with lengths that fit, so that its code is read.
            let lengths = (content.len() as u32) << 14 | 100 << 4 | u32::from(kind);
            let content = [&lengths.to_le_bytes()[..3], &content, &[0]].concat();
            let _ = decode_in(&frame(&block(2, content.len(), &content, true)), 512);
        }
    }
}
