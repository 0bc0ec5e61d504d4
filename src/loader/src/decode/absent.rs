//! Stands in for a decoder that this build does not have.

use super::extent::Extent;
use crate::kernel::{Kernel, StreamError, Taker};
use crate::source::DecodeError;

/// This build does not decode the format.
pub const IS_BUILT: bool = false;

const ABSENT: DecodeError = DecodeError::Unsupported("its format is not built in");

/// Nothing that this build could read.
pub fn extent<K: Kernel>(_: &K, _: &K::File, _: u64) -> Result<Extent, DecodeError> {
    Err(ABSENT)
}

/// As [`extent`].
pub fn with_source<K: Kernel>(_: &K, _: &K::File, _: &Extent, _: Taker) -> Result<(), StreamError> {
    Err(StreamError::Source(ABSENT))
}
