//! A file's bytes: read piece by piece, to their end, and let go of behind what was read.

use crate::kernel::{Kernel, read_full_at};
use crate::limits::{FORGET_BYTES, READ_BYTES};
use crate::source::{DecodeError, Source};

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
        let filled = read_full_at(self.kernel, self.file, out, self.offset).map_err(DecodeError::Read)?;
        forget_behind(self.kernel, self.file, self.offset, filled);
        self.offset += filled as u64;
        Ok(filled)
    }

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

/// Fills `buf` from `offset`.
pub fn read_exact_at<K: Kernel>(kernel: &K, file: &K::File, buf: &mut [u8], offset: u64) -> Result<(), DecodeError> {
    match read_full_at(kernel, file, buf, offset).map_err(DecodeError::Read)? {
        n if n == buf.len() => Ok(()),
        _ => Err(DecodeError::Truncated),
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
