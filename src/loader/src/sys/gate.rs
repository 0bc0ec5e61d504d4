//! Where system calls leave for the kernel. Tests have `injected.rs` in its place.

use linux_raw_sys::general as nr;

pub(super) use super::arch::syscall;

/// The call that loads the module at an address: its number and arguments.
pub(super) fn init_module(at: usize, len_bytes: usize, params: usize) -> (u32, [usize; 3]) {
    (nr::__NR_init_module, [at, len_bytes, params])
}
