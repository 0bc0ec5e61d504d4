//! Decompression in fixed memory: a decoder reads a file and hands out the image in pieces of any size.

use core::fmt;

use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::limits::{FORGET_BYTES, READ_BYTES};
use crate::load::Failure;
#[cfg(feature = "pin")]
use crate::pin::Mismatch;

#[cfg(feature = "gzip")]
pub mod gzip;
#[cfg(feature = "xz")]
pub mod xz;
#[cfg(feature = "zstd")]
pub mod zstd;

/// An image handed out in pieces, from its start.
pub trait Source {
    /// Fills `out` from its start as far as the image reaches: the number of bytes, less than `out` only at the end. Then
    /// every checksum was right; before, bytes may have been handed out that one behind them does not match.
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError>;

    /// Goes back to the image's start.
    #[cfg(feature = "explain")]
    fn rewind(&mut self) -> Result<(), DecodeError> {
        Err(DecodeError::Unsupported("it can be read once only"))
    }

    /// Makes sure that the image ends here and that every checksum is right.
    fn finish(&mut self) -> Result<(), DecodeError> {
        match self.read(&mut [0])? {
            0 => Ok(()),
            _ => Err(DecodeError::Length),
        }
    }
}

/// Takes an image from a source.
pub type Taker<'t> = &'t mut dyn FnMut(&mut dyn Source) -> Result<(), Failure>;

/// Opens a source, has the image taken from it, and closes it: after that the memory for decoding is free again.
pub type Opener<'o> = &'o mut dyn FnMut(Taker) -> Result<(), Failure>;

/// How many bytes are left in the image, found by reading them; more than `most` are an error.
pub fn count(source: &mut dyn Source, most: u64) -> Result<u64, DecodeError> {
    let mut len_bytes = 0;
    loop {
        match source.read(&mut [0; 512])? {
            0 => return Ok(len_bytes),
            n => len_bytes += n as u64,
        }
        if len_bytes > most {
            return Err(DecodeError::TooLarge);
        }
    }
}

/// A file that is the image.
pub struct Plain<'k, K: Kernel> {
    kernel: &'k K,
    file: &'k K::File,
    offset: u64,
}

impl<'k, K: Kernel> Plain<'k, K> {
    /// Starts at the start of the file.
    pub fn new(kernel: &'k K, file: &'k K::File) -> Self {
        Plain { kernel, file, offset: 0 }
    }
}

impl<K: Kernel> Source for Plain<'_, K> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let filled = read_full_at(self.kernel, self.file, out, self.offset)?;
        forget_behind(self.kernel, self.file, self.offset, filled);
        self.offset += filled as u64;
        Ok(filled)
    }

    #[cfg(feature = "explain")]
    fn rewind(&mut self) -> Result<(), DecodeError> {
        self.offset = 0;
        Ok(())
    }
}

/// Lets go of what is cached of the file, a part at a time, as reading `len` bytes from `offset` completes it.
fn forget_behind<K: Kernel>(kernel: &K, file: &K::File, offset: u64, len: usize) {
    let part = |offset: u64| offset / FORGET_BYTES * FORGET_BYTES;
    let (from, to) = (part(offset), part(offset + len as u64));
    if from < to {
        kernel.forget(file, from, to - from);
    }
}

/// Reads from `offset` until `buf` is full or the file ends: the number of bytes.
pub fn read_full_at<K: Kernel>(kernel: &K, file: &K::File, buf: &mut [u8], offset: u64) -> Result<usize, DecodeError> {
    let mut filled = 0;
    while filled < buf.len() {
        match kernel.read_at(file, &mut buf[filled..], offset + filled as u64).map_err(DecodeError::Read)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Fills `buf` from `offset`.
pub fn read_exact_at<K: Kernel>(kernel: &K, file: &K::File, buf: &mut [u8], offset: u64) -> Result<(), DecodeError> {
    match read_full_at(kernel, file, buf, offset)? {
        n if n == buf.len() => Ok(()),
        _ => Err(DecodeError::Truncated),
    }
}

/// Why a compressed file did not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The file cannot be read.
    Read(Errno),
    /// It ends in the middle.
    Truncated,
    /// What it holds is not what its format allows; the text says what.
    Corrupt(&'static str),
    /// The image has more bytes than the machine could hold.
    TooLarge,
    /// The data does not match the checksum behind it.
    Checksum,
    /// The data is not as long as its file says, or as the manifest does.
    Length,
    /// It uses what this decoder does not know; the text says what.
    Unsupported(&'static str),
    /// The image is whole, but not the one that the manifest means.
    #[cfg(feature = "pin")]
    Mismatch(Mismatch),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Read(errno) => write!(f, "the file cannot be read ({errno})"),
            DecodeError::Truncated => f.write_str("the compressed file ends too early"),
            DecodeError::Corrupt(what) => write!(f, "the compressed file is corrupt: {what}"),
            DecodeError::TooLarge => f.write_str("the image is larger than the machine's free memory"),
            DecodeError::Checksum => DecodeError::Corrupt("its checksum does not match").fmt(f),
            DecodeError::Length => f.write_str("the image is not as long as its file says, or @size= in the manifest"),
            DecodeError::Unsupported(what) => write!(f, "this build cannot decode the file: {what}"),
            #[cfg(feature = "pin")]
            DecodeError::Mismatch(mismatch) => mismatch.fmt(f),
        }
    }
}

/// The bytes of a file, a page at a time.
pub struct Input<'k, K: Kernel> {
    kernel: &'k K,
    file: &'k K::File,
    /// Offset in the file behind what `buf` holds.
    offset: u64,
    buf: [u8; READ_BYTES],
    start: usize,
    end: usize,
}

impl<'k, K: Kernel> Input<'k, K> {
    /// Reads from the start of the file, wherever its position is.
    pub fn new(kernel: &'k K, file: &'k K::File) -> Self {
        Self::from(kernel, file, 0)
    }

    /// Reads from `offset` on.
    pub fn from(kernel: &'k K, file: &'k K::File, offset: u64) -> Self {
        Input { kernel, file, offset, buf: [0; READ_BYTES], start: 0, end: 0 }
    }

    /// Goes back to the start of the file.
    #[cfg(feature = "explain")]
    pub fn rewind(&mut self) {
        (self.offset, self.start, self.end) = (0, 0, 0);
    }

    /// What has been read and not consumed; reads on when that is nothing. Empty at the end of the file.
    pub fn peek(&mut self) -> Result<&[u8], DecodeError> {
        if self.start == self.end {
            let n = self.kernel.read_at(self.file, &mut self.buf, self.offset).map_err(DecodeError::Read)?;
            forget_behind(self.kernel, self.file, self.offset, n);
            (self.start, self.end) = (0, n);
            self.offset += n as u64;
        }
        Ok(&self.buf[self.start..self.end])
    }

    /// Marks the first `len` bytes of what [`Input::peek`] gave as used.
    pub fn consume(&mut self, len: usize) {
        self.start = (self.start + len).min(self.end);
    }

    /// Whether the file has no more bytes.
    pub fn at_end(&mut self) -> Result<bool, DecodeError> {
        Ok(self.peek()?.is_empty())
    }

    /// The next `N` bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// Fills `bytes` with the next ones.
    pub fn fill(&mut self, mut bytes: &mut [u8]) -> Result<(), DecodeError> {
        while !bytes.is_empty() {
            let read = self.peek()?;
            if read.is_empty() {
                return Err(DecodeError::Truncated);
            }
            let (now, rest) = bytes.split_at_mut(read.len().min(bytes.len()));
            now.copy_from_slice(&read[..now.len()]);
            self.consume(now.len());
            bytes = rest;
        }
        Ok(())
    }

    /// Leaves out the next `len` bytes, without reading what they are but for the last.
    pub fn skip(&mut self, len: u64) -> Result<(), DecodeError> {
        let Some(before) = len.checked_sub(1) else { return Ok(()) };
        let left = (self.end - self.start) as u64;
        self.consume(before.min(left) as usize);
        self.offset = self.offset.saturating_add(before.saturating_sub(left));
        self.fill(&mut [0])
    }
}

#[cfg(all(test, any(feature = "gzip", feature = "xz", feature = "zstd")))]
pub(crate) mod tests {
    use super::{DecodeError, Source};

    /// The image, read in pieces of so many bytes to its end.
    pub(crate) fn read_all(source: &mut dyn Source, piece: usize) -> Result<Vec<u8>, DecodeError> {
        let (mut all, mut out) = (Vec::new(), vec![0; piece]);
        loop {
            let n = source.read(&mut out)?;
            all.extend_from_slice(&out[..n]);
            if n < piece {
                assert_eq!(source.finish(), Ok(()));
                return Ok(all);
            }
        }
    }

    /// Bytes that compress as code does: somewhat.
    pub(crate) fn sample(len: usize) -> Vec<u8> {
        let mut state = 1u32;
        (0..len)
            .map(|i| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if state >> 28 < 5 { (state >> 16) as u8 } else { (i / 7) as u8 }
            })
            .collect()
    }
}
