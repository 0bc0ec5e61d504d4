//! What a file says of the image in it, and the memory that this takes.

use crate::errno::Errno;
use crate::kernel::{Kernel, StreamError};

/// What a file says of the image in it, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Length of the file.
    pub file_bytes: u64,
    /// Length of the image, where the file states it.
    pub image_bytes: Option<u64>,
    /// Whether that length is only likely.
    pub is_guess: bool,
    /// The dictionary, or window, that decoding takes.
    pub dictionary_bytes: u64,
    /// The part of the file that is held besides.
    pub input_bytes: u64,
    /// What in the file the kernel's own decoder of the format does not take (kernel/module/decompress.c, lib/xz).
    pub beyond_kernel: Option<&'static str>,
}

/// Memory for the dictionary and the input of `extent`.
#[allow(dead_code, reason = "gzip needs none")]
pub(super) fn allocate<K: Kernel>(kernel: &K, extent: &Extent) -> Result<K::Region, StreamError> {
    let len_bytes = extent.dictionary_bytes.saturating_add(extent.input_bytes);
    let len_bytes = usize::try_from(len_bytes).map_err(|_| StreamError::Memory(Errno::ENOMEM))?;
    kernel.allocate(len_bytes).map_err(StreamError::Memory)
}
