//! A module's file and the image in it, decoded in fixed memory.
//!
//! [`ImageFile`] is the face of this folder. Each format has a file with the same three items, `IS_BUILT`, `extent` and
//! `with_source`; where a format is not built, `absent.rs` stands in for it.

use crate::errno::Errno;
use crate::format::Format;
use crate::kernel::{Kernel, StreamError, Taker, read_full_at};
use crate::source::DecodeError;

mod extent;
#[cfg(feature = "gzip")]
pub mod gzip;
#[cfg(not(feature = "gzip"))]
#[path = "absent.rs"]
pub mod gzip;
mod input;
mod pinned;
#[cfg(feature = "xz")]
pub mod xz;
#[cfg(not(feature = "xz"))]
#[path = "absent.rs"]
pub mod xz;
#[cfg(feature = "zstd")]
pub mod zstd;
#[cfg(not(feature = "zstd"))]
#[path = "absent.rs"]
pub mod zstd;

pub use extent::Extent;
pub use input::{Input, Plain, read_exact_at};
pub use pinned::Pinned;

/// Whether this build decodes `format` itself.
pub fn decodes(format: Format) -> bool {
    match format {
        Format::Plain => true,
        Format::Gzip => gzip::IS_BUILT,
        Format::Xz => xz::IS_BUILT,
        Format::Zstd => zstd::IS_BUILT,
    }
}

/// An open file of a module, and how it holds the image.
#[allow(missing_debug_implementations)]
pub struct ImageFile<'k, K: Kernel> {
    /// The kernel that the file is open in.
    pub kernel: &'k K,
    /// The file, wherever its position is.
    pub file: K::File,
    /// How it holds the image.
    pub format: Format,
}

impl<'k, K: Kernel> ImageFile<'k, K> {
    /// Learns the format from the file's first bytes.
    pub fn new(kernel: &'k K, file: K::File) -> Result<Self, Errno> {
        let format = format_of(kernel, &file)?;
        Ok(ImageFile { kernel, file, format })
    }

    /// Takes the file for a plain one, unread.
    pub fn assumed_plain(kernel: &'k K, file: K::File) -> Self {
        ImageFile { kernel, file, format: Format::Plain }
    }

    /// Length of the file in bytes.
    pub fn len_bytes(&self) -> Result<u64, DecodeError> {
        Ok(self.kernel.stat(&self.file).map_err(DecodeError::Read)?.size_bytes)
    }

    /// What the file's headers and its end say of the image.
    pub fn extent(&self) -> Result<Extent, DecodeError> {
        let (kernel, file, file_bytes) = (self.kernel, &self.file, self.len_bytes()?);
        match self.format {
            Format::Plain => Ok(Extent { file_bytes, image_bytes: Some(file_bytes), ..Extent::default() }),
            Format::Gzip => gzip::extent(kernel, file, file_bytes),
            Format::Xz => xz::extent(kernel, file, file_bytes),
            Format::Zstd => zstd::extent(kernel, file, file_bytes),
        }
    }

    /// The image's length in bytes, by decoding it once; more than `most` is an error.
    pub fn count(&self, extent: &Extent, most: u64) -> Result<u64, StreamError> {
        let mut len_bytes = 0;
        self.with_source(extent, &mut |source| {
            len_bytes = crate::source::count(source, most)?;
            Ok(())
        })?;
        Ok(len_bytes)
    }

    /// Has `take` take the image. The decoder's memory is given back before this returns.
    pub fn with_source(&self, extent: &Extent, take: Taker) -> Result<(), StreamError> {
        match self.format {
            Format::Plain => take(&mut Plain::new(self.kernel, &self.file)),
            Format::Gzip => gzip::with_source(self.kernel, &self.file, extent, take),
            Format::Xz => xz::with_source(self.kernel, &self.file, extent, take),
            Format::Zstd => zstd::with_source(self.kernel, &self.file, extent, take),
        }
    }
}

/// The format that the first bytes of `file` tell.
pub fn format_of<K: Kernel>(kernel: &K, file: &K::File) -> Result<Format, Errno> {
    let mut magic = [0; Format::MAGIC_BYTES];
    let len = read_full_at(kernel, file, &mut magic, 0)?;
    Ok(Format::of(&magic[..len]))
}

#[cfg(test)]
#[allow(dead_code, reason = "only decoders that are built are tested")]
pub(crate) mod tests {
    use crate::source::{DecodeError, Source};

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
