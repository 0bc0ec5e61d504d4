//! 32-bit Arm, EABI: number in r7, arguments in r0 to r5, 64-bit arguments in an even/odd register pair (`syscall(2)`).

use core::arch::asm;
use core::ffi::c_void;
use linux_raw_sys::general as nr;

pub use linux_raw_sys::general::stat64 as Stat;
pub const FSTAT: u32 = nr::__NR_fstat64;
pub const FADVISE64: u32 = nr::__NR_arm_fadvise64_64;
pub const MMAP: u32 = nr::__NR_mmap2;
pub const CLOCK_GETTIME: u32 = nr::__NR_clock_gettime64;
pub const CLOCK_GETTIME_OLD: u32 = nr::__NR_clock_gettime;
pub const CLOCK_NANOSLEEP: u32 = nr::__NR_clock_nanosleep_time64;
pub const CLOCK_NANOSLEEP_OLD: u32 = nr::__NR_clock_nanosleep;
pub const PPOLL: u32 = nr::__NR_ppoll_time64;
pub const PPOLL_OLD: u32 = nr::__NR_ppoll;

/// One system call.
///
/// # Safety
/// The arguments must be what the call numbered `number` expects.
#[inline]
pub unsafe fn syscall(number: u32, a: [usize; 6]) -> usize {
    let result;
    // SAFETY: the kernel keeps every register but r0; memory it may write was named by the caller.
    unsafe {
        // r7 is the frame pointer of Thumb code, which may not be named as an operand.
        asm!("mov {kept}, r7", "mov r7, {number}", "svc 0", "mov r7, {kept}",
             number = in(reg) number, kept = out(reg) _, inlateout("r0") a[0] => result, in("r1") a[1], in("r2") a[2],
             in("r3") a[3], in("r4") a[4], in("r5") a[5], options(nostack, preserves_flags))
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
        // r7 is the frame pointer of Thumb code, which may not be named as an operand.
        asm!("mov {kept}, r7",
             "mov r7, {clone}",
             "svc 0",               // clone
             "mov r7, {kept}",
             "cmp r0, #0",
             "bne 2f",              // not the child
             "ldr r7, [r3, #20]",   // before it; r0 and r1 are 0
             "cmp r7, #0",
             "beq 3f",
             "svc 0",
             "3:",
             "ldr r7, [r3]",        // number and arguments
             "ldr r0, [r3, #4]",
             "ldr r1, [r3, #8]",
             "ldr r2, [r3, #12]",
             "svc 0",
             "str r0, [r3, #16]",    // result
             "mov r7, #{exit}",
             "mov r0, #0",
             "svc 0",               // never returns
             "2:",
             exit = const nr::__NR_exit, clone = in(reg) clone, kept = out(reg) _, inlateout("r0") flags => result,
             in("r1") 0, in("r3") call, options(nostack))
    }
    result
}

/// The arguments of pread64: the pair must start at an even register, so r3 is left out.
#[inline]
pub fn pread64_args(fd: usize, at: usize, len: usize, offset: u64) -> [usize; 6] {
    [fd, at, len, 0, offset as u32 as usize, (offset >> 32) as usize]
}

/// The arguments of arm_fadvise64_64: the advice stands second, so that no register is left out before the pairs.
#[inline]
pub fn fadvise64_args(fd: usize, offset: u64, len: u64, advice: u32) -> [usize; 6] {
    [fd, advice as usize, offset as u32 as usize, (offset >> 32) as usize, len as u32 as usize, (len >> 32) as usize]
}
