//! RISC-V, 64 bits: number in a7, arguments in a0 to a5 (`syscall(2)`).

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
    // SAFETY: the kernel keeps every register but a0; memory it may write was named by the caller.
    unsafe {
        asm!("ecall", in("a7") number, inlateout("a0") a[0] => result, in("a1") a[1], in("a2") a[2],
             in("a3") a[3], in("a4") a[4], in("a5") a[5], options(nostack, preserves_flags))
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
        asm!("ecall",               // clone
             "bnez a0, 2f",         // not the child
             "ld a7, 40(t0)",       // before it; a0 and a1 are 0
             "beqz a7, 3f",
             "ecall",
             "3:",
             "ld a7, 0(t0)",        // number and arguments
             "ld a0, 8(t0)",
             "ld a1, 16(t0)",
             "ld a2, 24(t0)",
             "ecall",
             "sd a0, 32(t0)",       // result
             "li a7, {exit}",
             "li a0, 0",
             "ecall",               // never returns
             "2:",
             exit = const nr::__NR_exit, in("a7") clone, inlateout("a0") flags => result, in("a1") 0, in("t0") call,
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
