//! Decodes the blocks of Zstandard frames (RFC 8878) in the caller's memory: a ring of the window's length, and one
//! block. The caller reads the file, and the headers of its frames and blocks.
//!
//! A crate of its own, so that it can be compiled for speed while the rest of the target's code is compiled for size.

#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod bits;
mod checksum;
mod decoder;
mod fse;
mod huffman;
mod literals;
mod ring;
mod sequences;

pub use bits::Corrupt;
pub use checksum::Xxh64;
pub use decoder::{BLOCK_BYTES, BlockKind, Decoder, overhead_bytes};
