//! The literals of a block, made as they are asked for.

use super::bits::{BITS_BROKEN, BLOCK_BROKEN, Bits, CODE_BROKEN, Cursor, little};
use super::huffman::Huffman;
use crate::source::DecodeError;

/// The literals of a block that no sequence took yet.
pub struct Literals {
    pub kind: Kind,
    pub left: usize,
}

pub enum Kind {
    /// At this place in the block.
    Raw(usize),
    Equal(u8),
    Coded(Streams),
}

impl Literals {
    pub fn read(cursor: &mut Cursor, huffman: &mut Huffman, most: usize) -> Result<Literals, DecodeError> {
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
    pub fn copy(&mut self, huffman: &Huffman, block: &[u8], out: &mut [u8]) -> Result<(), DecodeError> {
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
pub struct Streams {
    now: Bits,
    /// What the present one still makes.
    pub left: usize,
    /// The ones after it, and what each makes.
    rest: [(Bits, usize); 3],
    next: usize,
}

impl Streams {
    pub fn read(cursor: &mut Cursor, len: usize, count: usize) -> Result<Streams, DecodeError> {
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

    pub fn copy(&mut self, huffman: &Huffman, block: &[u8], mut out: &mut [u8]) -> Result<(), DecodeError> {
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
