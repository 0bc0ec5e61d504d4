//! The literals of a block, decoded as they are asked for.

use crate::bits::{Bits, Corrupt, Cursor, little};
use crate::huffman::Huffman;
use crate::ring::{PIECE_BYTES, Piece};

/// How many literals are decoded at a time.
const AHEAD_BYTES: usize = 512;

/// The literals of a block that no sequence took yet. Each sequence takes few, so they are decoded a part at a time.
pub struct Literals {
    kind: Kind,
    /// How many are not yet decoded.
    unmade: usize,
    /// The decoded ones are from `at` to `end`. A piece may begin at the last of them.
    ahead: [u8; AHEAD_BYTES + PIECE_BYTES],
    at: usize,
    end: usize,
}

/// Where literals come from.
enum Kind {
    /// From this place in the block.
    Raw(usize),
    Equal(u8),
    Coded(Streams),
}

impl Literals {
    pub const fn new() -> Literals {
        Literals { kind: Kind::Equal(0), unmade: 0, ahead: [0; AHEAD_BYTES + PIECE_BYTES], at: 0, end: 0 }
    }

    /// How many are left.
    pub fn left(&self) -> usize {
        self.unmade + self.end - self.at
    }

    /// Makes sure that so many are left.
    pub fn has(&self, len: usize) -> Result<(), Corrupt> {
        if len > self.left() { Err(Corrupt("a block has too few literals")) } else { Ok(()) }
    }

    fn set(&mut self, kind: Kind, len: usize) {
        (self.kind, self.unmade) = (kind, len);
        (self.at, self.end) = (0, 0);
    }

    /// The `len` bytes of the block from `at` on.
    pub fn set_raw(&mut self, at: usize, len: usize) {
        self.set(Kind::Raw(at), len);
    }

    /// `len` times this byte.
    pub fn set_equal(&mut self, byte: u8, len: usize) {
        self.set(Kind::Equal(byte), len);
    }

    /// Reads a section of up to `most` literals.
    pub fn read(&mut self, cursor: &mut Cursor, huffman: &mut Huffman, most: usize) -> Result<(), Corrupt> {
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
        let len = (lengths & mask) as usize;
        if len > most {
            return Err(Corrupt::LENGTH);
        }
        let kind = match kind {
            0 => {
                let at = cursor.at;
                cursor.bytes(len)?;
                Kind::Raw(at)
            }
            1 => Kind::Equal(cursor.byte()? as u8),
            _ => {
                let mut coded = cursor.part((lengths >> bits & mask) as usize)?;
                if kind == 2 {
                    huffman.read(&mut coded)?;
                } else if !huffman.is_ready {
                    return Err(Corrupt::CODE);
                }
                Kind::Coded(Streams::read(&mut coded, len, if format == 0 { 1 } else { 4 })?)
            }
        };
        self.set(kind, len);
        Ok(())
    }

    /// Takes `len`: a piece that starts with them. `None` if they are more than a piece, or not all decoded.
    #[inline(always)]
    pub fn take(&mut self, len: usize) -> Option<&Piece> {
        let at = self.at;
        if len > PIECE_BYTES || len > self.end - at {
            return None;
        }
        self.at += len;
        self.ahead.get(at..)?.first_chunk()
    }

    /// Takes as many as `out` has, of which there are not less.
    #[inline(never)]
    pub fn copy(&mut self, huffman: &Huffman, block: &[u8], mut out: &mut [u8]) -> Result<(), Corrupt> {
        while !out.is_empty() {
            if self.at == self.end {
                self.make(huffman, block)?;
            }
            let (now, rest) = out.split_at_mut(out.len().min(self.end - self.at));
            now.copy_from_slice(&self.ahead[self.at..self.at + now.len()]);
            self.at += now.len();
            out = rest;
        }
        Ok(())
    }

    /// Decodes the next part.
    fn make(&mut self, huffman: &Huffman, block: &[u8]) -> Result<(), Corrupt> {
        let mut len = self.unmade.min(AHEAD_BYTES);
        match &mut self.kind {
            Kind::Raw(at) => {
                self.ahead[..len].copy_from_slice(&block[*at..*at + len]);
                *at += len;
            }
            Kind::Equal(byte) => self.ahead[..len].fill(*byte),
            Kind::Coded(streams) => {
                len = len.min(streams.left);
                streams.make(huffman, block, &mut self.ahead[..len])?;
            }
        }
        self.unmade -= len;
        (self.at, self.end) = (0, len);
        Ok(())
    }
}

/// Streams of coded literals, one after another.
struct Streams {
    now: Bits,
    /// How many the present one still has.
    left: usize,
    /// The ones after it, and how many each has.
    rest: [(Bits, usize); 3],
    next: usize,
}

impl Streams {
    fn read(cursor: &mut Cursor, len: usize, count: usize) -> Result<Streams, Corrupt> {
        let mut streams = Streams { now: Bits::default(), left: len, rest: [(Bits::default(), 0); 3], next: 3 };
        if count > 1 {
            // The last has what the others leave.
            streams.left = len.div_ceil(4);
            let last = len.checked_sub(streams.left * 3).ok_or(Corrupt::BLOCK)?;
            let [a, b, c, d, e, f] = *cursor.bytes(6)? else { return Err(Corrupt::BLOCK) };
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

    /// Goes on to the next stream that has literals, if the present one has none left.
    fn advance(&mut self) -> Result<(), Corrupt> {
        while self.left == 0 {
            if self.now.left() > 0 {
                return Err(Corrupt::BITS);
            }
            let Some(next) = self.rest.get(self.next) else { break };
            (self.now, self.left) = *next;
            self.next += 1;
        }
        Ok(())
    }

    /// Fills `out`, which is no longer than what the present one has left.
    fn make(&mut self, huffman: &Huffman, block: &[u8], out: &mut [u8]) -> Result<(), Corrupt> {
        huffman.decode(&mut self.now, block, out)?;
        self.left -= out.len();
        self.advance()
    }
}
