//! A source that is held to a digest as it is read.

use sha2::{Digest, Sha256};

use crate::limits::READ_BYTES;
use crate::pin::Pin;
use crate::source::{DecodeError, Source};

/// A source that does not confirm its end unless its bytes have the digest.
pub struct Pinned<'s, 'p> {
    source: &'s mut dyn Source,
    pin: Pin<'p>,
    hash: Sha256,
}

impl<'s, 'p> Pinned<'s, 'p> {
    /// Holds `source`, which is at its start, to `pin`.
    pub fn new(source: &'s mut dyn Source, pin: Pin<'p>) -> Self {
        Pinned { source, pin, hash: Sha256::new() }
    }

    /// Reads all of it; more than `most` bytes are an error.
    #[inline(never)]
    pub fn check(mut self, most: u64) -> Result<(), DecodeError> {
        let mut buf = [0; READ_BYTES];
        let mut len_bytes = 0;
        while len_bytes <= most {
            match self.read(&mut buf)? {
                READ_BYTES => len_bytes += READ_BYTES as u64,
                _ => return Ok(()),
            }
        }
        Err(DecodeError::TooLarge)
    }
}

impl Source for Pinned<'_, '_> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
        let n = self.source.read(out)?;
        self.hash.update(&out[..n]);
        if n < out.len() {
            // The end: it may be asked for again.
            self.pin.compare(self.hash.clone().finalize().into()).map_err(DecodeError::Mismatch)?;
        }
        Ok(n)
    }
}
