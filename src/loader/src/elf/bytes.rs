//! The bytes of an image, wherever they come from.

use crate::kernel::{Kernel, read_full_at};
use crate::limits::ELF_KEPT_BYTES;
use crate::source::{DecodeError, Source};

/// The bytes of an image, in whatever order they are asked for.
pub trait Bytes {
    /// How many there are.
    fn len_bytes(&mut self) -> Result<u64, DecodeError>;
    /// Fills `buf` with those from `at` on: how many, fewer only where they end.
    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError>;
}

impl<B: Bytes + ?Sized> Bytes for &mut B {
    fn len_bytes(&mut self) -> Result<u64, DecodeError> {
        (**self).len_bytes()
    }

    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
        (**self).read_at(buf, at)
    }
}

impl Bytes for &[u8] {
    fn len_bytes(&mut self) -> Result<u64, DecodeError> {
        Ok(self.len() as u64)
    }

    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
        let rest = usize::try_from(at).ok().and_then(|at| self.get(at..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

/// The bytes of a file that is not compressed.
pub struct FileBytes<'k, K: Kernel> {
    /// What reads it.
    pub kernel: &'k K,
    /// The open file.
    pub file: &'k K::File,
}

impl<K: Kernel> Bytes for FileBytes<'_, K> {
    fn len_bytes(&mut self) -> Result<u64, DecodeError> {
        self.kernel.stat(self.file).map(|stat| stat.size_bytes).map_err(DecodeError::Read)
    }

    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
        read_full_at(self.kernel, self.file, buf, at).map_err(DecodeError::Read)
    }
}

/// Whether a file ends in zeros, which neither a module nor a compressed file does: the last bytes of the one are section
/// headers or a signature, of the other a checksum.
pub fn ends_in_zeros(bytes: &mut dyn Bytes) -> Result<bool, DecodeError> {
    let mut end = [1; 64];
    let Some(at) = bytes.len_bytes()?.checked_sub(end.len() as u64) else { return Ok(false) };
    bytes.read_at(&mut end, at)?;
    Ok(end == [0; 64])
}

/// The bytes that a decoder makes, of which the last are kept: asked for earlier ones it begins anew.
pub struct Decoded<'s> {
    source: &'s mut dyn Source,
    kept: [u8; ELF_KEPT_BYTES],
    /// Where what is kept begins in the image, and how much it is.
    start: u64,
    filled: usize,
    len_bytes: Option<u64>,
}

impl<'s> Decoded<'s> {
    /// Of a source at its start.
    pub fn new(source: &'s mut dyn Source) -> Self {
        Decoded { source, kept: [0; ELF_KEPT_BYTES], start: 0, filled: 0, len_bytes: None }
    }

    /// Decodes more; `false` at the end.
    fn advance(&mut self) -> Result<bool, DecodeError> {
        if self.len_bytes == Some(self.start + self.filled as u64) {
            return Ok(false);
        }
        let half = self.kept.len() / 2;
        if self.filled == self.kept.len() {
            self.kept.copy_within(half.., 0);
            self.filled = half;
            self.start += half as u64;
        }
        let wanted = half - self.filled % half;
        let read = self.source.read(&mut self.kept[self.filled..self.filled + wanted])?;
        self.filled += read;
        if read < wanted {
            self.len_bytes = Some(self.start + self.filled as u64);
        }
        Ok(read > 0)
    }
}

impl Bytes for Decoded<'_> {
    fn len_bytes(&mut self) -> Result<u64, DecodeError> {
        loop {
            match self.len_bytes {
                Some(len_bytes) => return Ok(len_bytes),
                None => self.advance()?,
            };
        }
    }

    fn read_at(&mut self, buf: &mut [u8], at: u64) -> Result<usize, DecodeError> {
        if at < self.start {
            self.source.rewind()?;
            (self.start, self.filled) = (0, 0);
        }
        let mut done = 0;
        while done < buf.len() {
            let from = at.saturating_add(done as u64) - self.start;
            let kept = usize::try_from(from).ok().and_then(|from| self.kept[..self.filled].get(from..));
            let kept = kept.unwrap_or_default();
            if kept.is_empty() {
                if !self.advance()? {
                    break;
                }
                continue;
            }
            let len = kept.len().min(buf.len() - done);
            buf[done..done + len].copy_from_slice(&kept[..len]);
            done += len;
        }
        Ok(done)
    }
}
