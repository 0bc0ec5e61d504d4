//! Zstandard (RFC 8878): frames one after another, in a ring of the window's length that the caller provides. The
//! length and the XXH64 that a frame states are checked. Dictionaries of other files, and the formats before 0.8, are
//! left out.
//!
//! The decoder of blocks is our own, `modest-zstd`: ruzstd needs an allocator, and its ring grows by doubling and
//! copying, to two or three times the window, so that no ceiling could be promised.

use modest_zstd::{Corrupt, Decoder, Xxh64, overhead_bytes};

use super::extent::{Extent, allocate};
use super::input::Input;
use crate::kernel::{Kernel, StreamError, Taker};
use crate::source::{DecodeError, Source};
use frame::{BlockHeader, Frame, WINDOW_BYTES_MIN, next_frame};

#[cfg(test)]
mod corpus_tests;
mod frame;
#[cfg(test)]
pub(crate) mod tests;

/// A zstd file being decoded: 11 KB of tables and a page of input, besides window and block.
pub struct Zstd<'k, 'd, K: Kernel> {
    input: Input<'k, K>,
    state: State,
    frame: Frame,
    /// What the frame has made.
    made: u64,
    hash: Xxh64,
    decoder: Decoder<'d>,
    is_last: bool,
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
    /// Starts at the start of the file; `memory` has the file's `window_bytes` and [`overhead_bytes`].
    pub fn new(kernel: &'k K, file: &'k K::File, memory: &'d mut [u8]) -> Self {
        Zstd {
            input: Input::new(kernel, file),
            state: State::Start,
            frame: Frame { window: 0, content: None, has_checksum: false },
            made: 0,
            hash: Xxh64::default(),
            decoder: Decoder::new(memory),
            is_last: false,
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
        if !self.decoder.start_frame(frame.window) {
            return Err(DecodeError::Unsupported("a later frame has a larger window than the first"));
        }
        self.frame = frame;
        self.state = State::Between;
        (self.made, self.hash) = (0, Xxh64::default());
        Ok(())
    }

    fn start_block(&mut self) -> Result<(), DecodeError> {
        let header = BlockHeader::read(&mut self.input, &self.frame)?;
        self.is_last = header.is_last;
        self.input.fill(self.decoder.stored(header.stored_bytes()))?;
        self.decoder.start_block(header.kind, header.len_bytes).map_err(corrupt)?;
        self.state = State::Within;
        Ok(())
    }

    /// Fills a part of `out`, which is not empty, from its start: nothing at the end of a block.
    fn make(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let made = self.decoder.make(out.len()).map_err(corrupt)?;
        if self.frame.has_checksum {
            self.hash.add(made);
        }
        out[..made.len()].copy_from_slice(made);
        self.made += made.len() as u64;
        if made.is_empty() {
            self.state = if self.is_last { State::After } else { State::Between };
        }
        Ok(made.len())
    }
}

impl<K: Kernel> Source for Zstd<'_, '_, K> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let mut filled = 0;
        while filled < out.len() {
            if self.state == State::Within {
                filled += self.make(&mut out[filled..])?;
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

fn corrupt(Corrupt(what): Corrupt) -> DecodeError {
    DecodeError::Corrupt(what)
}

/// This build decodes the format.
pub const IS_BUILT: bool = true;

/// What the file says of its image.
pub fn extent<K: Kernel>(kernel: &K, file: &K::File, file_bytes: u64) -> Result<Extent, DecodeError> {
    let dictionary_bytes = window_bytes(kernel, file)?;
    let (image_bytes, input_bytes) = (image_bytes(kernel, file)?, overhead_bytes(dictionary_bytes));
    Ok(Extent { file_bytes, image_bytes, is_guess: false, dictionary_bytes, input_bytes, ..Extent::default() })
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
