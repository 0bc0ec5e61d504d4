//! What an image is held to: the SHA-256 of its bytes, uncompressed.

use core::fmt;

use sha2::{Digest, Sha256};

/// A digest as the manifest has it: hex digits, twice as many as it has bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin<'a>(&'a str);

/// How two digests differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// Which eighth byte the parts begin at: the first ones that differ.
    part: u8,
    is: [u8; PART_BYTES],
    says: [u8; PART_BYTES],
}

/// Bytes of a digest.
const BYTES: usize = 32;

/// As much of two digests as is shown, and kept.
const PART_BYTES: usize = 8;

/// Memory that checking takes besides what it checks: its state, on the stack. Measured by the guest tests, as `PROGRAM_BYTES` is.
pub const CHECK_BYTES: u64 = 4 << 10;

impl<'a> Pin<'a> {
    /// Reads a digest; otherwise the offset of the character that should have been another, or of the text's end.
    #[inline(never)]
    pub fn parse(text: &'a str) -> Result<Self, usize> {
        let digits = text.bytes().take_while(|digit| value(*digit).is_some()).count().min(2 * BYTES);
        if digits == 2 * BYTES && digits == text.len() { Ok(Pin(text)) } else { Err(digits) }
    }

    fn bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for (i, digit) in self.0.bytes().enumerate().take(2 * BYTES) {
            bytes[i / 2] = bytes[i / 2] << 4 | value(digit).unwrap_or(0);
        }
        bytes
    }

    pub(crate) fn compare(self, is: [u8; BYTES]) -> Result<(), Mismatch> {
        let says = self.bytes();
        let parts = is.as_chunks().0.iter().zip(says.as_chunks().0);
        match (0..).zip(parts).find(|(_, (is, says))| is != says) {
            Some((part, (is, says))) => Err(Mismatch { part, is: *is, says: *says }),
            None => Ok(()),
        }
    }
}

/// The value of a hex digit.
fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' | b'A'..=b'F' => Some((digit | 0x20) - b'a' + 10),
        _ => None,
    }
}

/// As it is written in a manifest.
impl fmt::Display for Pin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [is, says] = [self.is, self.says].map(u64::from_be_bytes);
        let before = if self.part > 0 { "..." } else { "" };
        let after = if self.part < 3 { "..." } else { "" };
        write!(f, "its SHA-256 is {before}{is:016x}{after}, @sha256= says {before}{says:016x}{after}")
    }
}

/// The SHA-256 of `image`, for those who write manifests.
pub fn digest(image: &[u8]) -> [u8; 32] {
    Sha256::digest(image).into()
}
