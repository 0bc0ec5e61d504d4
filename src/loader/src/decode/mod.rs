//! Decompression in fixed memory: a decoder reads a file and hands out the image in pieces of any size.

use core::fmt;

use crate::errno::Errno;
use crate::kernel::Kernel;
use crate::limits::READ_BYTES;

#[cfg(feature = "gzip")]
pub mod gzip;

/// Why a compressed file did not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The file cannot be read.
    Read(Errno),
    /// It ends in the middle.
    Truncated,
    /// What it holds is not what its format allows; the text says what.
    Corrupt(&'static str),
    /// The data does not match the checksum behind it.
    Checksum,
    /// The data is not as long as the length behind it says.
    Length,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecodeError::Read(errno) => write!(f, "the file cannot be read ({errno})"),
            DecodeError::Truncated => f.write_str("the compressed file ends too early"),
            DecodeError::Corrupt(what) => write!(f, "the compressed file is corrupt: {what}"),
            DecodeError::Checksum => f.write_str("the compressed file is corrupt: its checksum does not match"),
            DecodeError::Length => f.write_str("the compressed file is corrupt: its length does not match"),
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
        Input { kernel, file, offset: 0, buf: [0; READ_BYTES], start: 0, end: 0 }
    }

    /// What has been read and not consumed; reads on when that is nothing. Empty at the end of the file.
    pub fn peek(&mut self) -> Result<&[u8], DecodeError> {
        if self.start == self.end {
            let n = self.kernel.read_at(self.file, &mut self.buf, self.offset).map_err(DecodeError::Read)?;
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

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), DecodeError> {
        for byte in bytes {
            *byte = *self.peek()?.first().ok_or(DecodeError::Truncated)?;
            self.consume(1);
        }
        Ok(())
    }

    /// Leaves out the next `len` bytes.
    pub fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        (0..len).try_for_each(|_| self.fill(&mut [0]))
    }
}
