//! x86-64, for tests on the host: number in rax, arguments in rdi, rsi, rdx, r10, r8, r9 (`syscall(2)`).

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
    // SAFETY: the kernel keeps every register but rax, rcx and r11; memory it may write was named by the caller.
    unsafe {
        asm!("syscall", inlateout("rax") number as usize => result, in("rdi") a[0], in("rsi") a[1], in("rdx") a[2],
             in("r10") a[3], in("r8") a[4], in("r9") a[5], out("rcx") _, out("r11") _, options(nostack))
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
        asm!("syscall",             // clone
             "test rax, rax",
             "jnz 2f",              // not the child
             "mov rax, [r8 + 40]",  // before it; rsi is 0
             "test rax, rax",
             "jz 3f",
             "xor edi, edi",
             "syscall",
             "3:",
             "mov rax, [r8]",       // number and arguments
             "mov rdi, [r8 + 8]",
             "mov rsi, [r8 + 16]",
             "mov rdx, [r8 + 24]",
             "syscall",
             "mov [r8 + 32], rax",  // result
             "mov eax, {exit}",
             "xor edi, edi",
             "syscall",             // never returns
             "2:",
             exit = const nr::__NR_exit, inlateout("rax") clone as usize => result, in("rdi") flags, in("rsi") 0,
             in("r8") call, out("rcx") _, out("r11") _, options(nostack))
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
