//! AArch64: number in x8, arguments in x0 to x5 (`syscall(2)`).

use core::arch::asm;
use core::ffi::c_void;
use linux_raw_sys::general as nr;

pub use linux_raw_sys::general::stat as Stat;
pub const FSTAT: u32 = nr::__NR_fstat;
pub const FADVISE64: u32 = nr::__NR_fadvise64;
pub const MMAP: u32 = nr::__NR_mmap;
pub const CLOCK_GETTIME: u32 = nr::__NR_clock_gettime;
pub const CLOCK_GETTIME_OLD: u32 = nr::__NR_clock_gettime;
pub const CLOCK_NANOSLEEP: u32 = nr::__NR_clock_nanosleep;
pub const CLOCK_NANOSLEEP_OLD: u32 = nr::__NR_clock_nanosleep;
pub const PPOLL: u32 = nr::__NR_ppoll;
pub const PPOLL_OLD: u32 = nr::__NR_ppoll;

/// One system call.
///
/// # Safety
/// The arguments must be what the call numbered `number` expects.
#[inline]
pub unsafe fn syscall(number: u32, a: [usize; 6]) -> usize {
    let result;
    // SAFETY: the kernel keeps every register but x0; memory it may write was named by the caller.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a[0] => result, in("x1") a[1], in("x2") a[2],
             in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack, preserves_flags))
    }
    result
}

/// Starts a child process by clone, with `flags`, that makes the system call of `call`, a `ChildCall` (before it the one that takes two zeros, if
/// there is one), notes its result there, and exits. It uses no stack, so that it needs none of its own. The child's process id.
///
/// # Safety
/// The call must be one that may be made beside whatever this process does meanwhile. `call` lives until the child ended.
#[inline(never)]
pub unsafe fn call_in_child(clone: u32, flags: usize, call: *const c_void) -> usize {
    let result;
    // SAFETY: in this process, as for `syscall`; the child touches nothing but `call` and what its call is given.
    unsafe {
        asm!("svc 0",               // clone
             "cbnz x0, 2f",         // not the child
             "ldr x8, [x9, 40]",    // before it; x0 and x1 are 0
             "cbz x8, 3f",
             "svc 0",
             "3:",
             "ldp x8, x0, [x9]",    // number and arguments
             "ldp x1, x2, [x9, 16]",
             "svc 0",
             "str x0, [x9, 32]",    // result
             "mov x8, {exit}",
             "mov x0, 0",
             "svc 0",               // never returns
             "2:",
             exit = const nr::__NR_exit, in("x8") clone, inlateout("x0") flags => result, in("x1") 0, in("x9") call,
             options(nostack))
    }
    result
}

/// The arguments of pread64.
#[inline]
pub fn pread64_args(fd: usize, at: usize, len: usize, offset: u64) -> [usize; 6] {
    [fd, at, len, offset as usize, 0, 0]
}

/// The arguments of fadvise64.
#[inline]
pub fn fadvise64_args(fd: usize, offset: u64, len: u64, advice: u32) -> [usize; 6] {
    [fd, offset as usize, len as usize, advice as usize, 0, 0]
}
