//! An image handed out in pieces, and why one cannot be.

use core::fmt;

use crate::errno::Errno;
use crate::pin::Mismatch;

/// An image handed out in pieces, from its start.
pub trait Source {
    /// Fills `out` from its start as far as the image reaches: the number of bytes, less than `out` only at the end. Then
    /// every checksum was right; before, bytes may have been handed out that one behind them does not match.
    fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError>;

    /// Goes back to the image's start.
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
            DecodeError::Length => f.write_str("the image is not as long as its file or @size= in the manifest states"),
            DecodeError::Unsupported(what) => write!(f, "this build cannot decode the file: {what}"),
            DecodeError::Mismatch(mismatch) => mismatch.fmt(f),
        }
    }
}
