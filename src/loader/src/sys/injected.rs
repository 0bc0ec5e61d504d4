//! In tests, stands in for `gate.rs`: after [`begin`], calls do less than they are asked for or fail, as a kernel's may, and modules
//! are loaded into a pipe. It is for all threads and forever, so such a test is a process of its own.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering::Relaxed};

use linux_raw_sys::general as nr;
use linux_raw_sys::ioctl;

use super::arch;
use crate::errno::Errno;

static IS_ON: AtomicBool = AtomicBool::new(false);
static MAY_FAIL: AtomicBool = AtomicBool::new(false);
static PERCENT: AtomicU32 = AtomicU32::new(0);
static RANDOM: AtomicU64 = AtomicU64::new(0);
static PIPE: AtomicI32 = AtomicI32::new(-1);

/// From here on, of the calls that can, so many percent are cut short or interrupted, which a program must not mind; where they
/// `may_fail`, as many fail with EAGAIN. What would be loaded is written to `pipe` as the kernel reads it.
pub(crate) fn begin(seed: u64, percent: u32, may_fail: bool, pipe: i32) {
    RANDOM.store(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1, Relaxed);
    PERCENT.store(percent, Relaxed);
    MAY_FAIL.store(may_fail, Relaxed);
    PIPE.store(pipe, Relaxed);
    IS_ON.store(true, Relaxed);
}

/// Calls are what they are.
pub(crate) fn end() {
    IS_ON.store(false, Relaxed);
}

/// xorshift64*.
fn below(most: usize) -> usize {
    let mut random = RANDOM.load(Relaxed);
    random ^= random >> 12;
    random ^= random << 25;
    random ^= random >> 27;
    RANDOM.store(random, Relaxed);
    (random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % most
}

fn is_struck() -> bool {
    below(100) < PERCENT.load(Relaxed) as usize
}

fn refused(errno: Errno) -> usize {
    errno.0.wrapping_neg()
}

/// See [`super::gate`], where that is.
pub(super) fn init_module(at: usize, len_bytes: usize, params: usize) -> (u32, [usize; 3]) {
    match IS_ON.load(Relaxed) {
        true => (nr::__NR_write, [PIPE.load(Relaxed) as usize, at, len_bytes]),
        false => (nr::__NR_init_module, [at, len_bytes, params]),
    }
}

/// One system call, or what takes its place.
///
/// # Safety
/// As of the architecture's.
pub(super) unsafe fn syscall(number: u32, args: [usize; 6]) -> usize {
    // SAFETY: the caller's. What takes a call's place gets no more memory than that.
    unsafe {
        match number {
            _ if !IS_ON.load(Relaxed) => arch::syscall(number, args),
            nr::__NR_init_module => to_pipe(args[0], args[1]),
            nr::__NR_finit_module => file_to_pipe(args[0]),
            _ if !is_struck() => arch::syscall(number, args),
            _ if MAY_FAIL.load(Relaxed) && can_fail(number, args) => refused(Errno::EAGAIN),
            nr::__NR_read | nr::__NR_pread64 => cut_read(number, args),
            nr::__NR_openat | nr::__NR_ppoll | nr::__NR_wait4 => refused(Errno::EINTR),
            nr::__NR_ioctl if args[1] == ioctl::UFFDIO_COPY as usize => cut_copy(args),
            _ => arch::syscall(number, args),
        }
    }
}

/// Whether the kernel may say that this cannot be done now. What gives back memory, files and processes always can.
fn can_fail(number: u32, args: [usize; 6]) -> bool {
    const CAN: [u32; 9] = [
        nr::__NR_read,
        nr::__NR_pread64,
        nr::__NR_openat,
        nr::__NR_ppoll,
        nr::__NR_mmap,
        nr::__NR_clone,
        nr::__NR_fstat,
        nr::__NR_userfaultfd,
        nr::__NR_write,
    ];
    CAN.contains(&number) || number == nr::__NR_ioctl && args[1] != ioctl::UFFDIO_WAKE as usize
}

/// A read that a signal interrupts, or one of a file that ends early; of a userfaultfd, which is no file of any kind, that has
/// nothing.
unsafe fn cut_read(number: u32, mut args: [usize; 6]) -> usize {
    // SAFETY: a structure of this function's own; then the caller's call, for fewer bytes.
    unsafe {
        let mut stat = core::mem::MaybeUninit::<arch::Stat>::zeroed();
        arch::syscall(arch::FSTAT, [args[0], stat.as_mut_ptr() as usize, 0, 0, 0, 0]);
        match stat.assume_init().st_mode & nr::S_IFMT {
            _ if below(3) == 0 => refused(Errno::EINTR),
            nr::S_IFREG if args[2] > 1 => {
                args[2] = 1 + below(args[2] - 1);
                arch::syscall(number, args)
            }
            0 => refused(Errno::EAGAIN),
            _ => arch::syscall(number, args),
        }
    }
}

/// UFFDIO_COPY that ends between two pages, which it says, or before the first (mm/userfaultfd.c).
unsafe fn cut_copy(args: [usize; 6]) -> usize {
    const PAGE_BYTES: u64 = 4096;
    // SAFETY: the argument is the caller's structure.
    let copy = unsafe { &mut *(args[2] as *mut nr::uffdio_copy) };
    let len = copy.len;
    copy.len = below((len / PAGE_BYTES) as usize) as u64 * PAGE_BYTES;
    if copy.len == 0 {
        (copy.len, copy.copy) = (len, -(Errno::EAGAIN.0 as i64));
        return refused(Errno::EAGAIN);
    }
    // SAFETY: the caller's call, for fewer pages.
    let result = unsafe { arch::syscall(nr::__NR_ioctl, args) };
    copy.len = len;
    if result == 0 { refused(Errno::EAGAIN) } else { result }
}

/// Writes all of that memory to the pipe: 0, as of a load that went well. A worker calls this, so it takes no memory of its own.
unsafe fn to_pipe(mut at: usize, mut len: usize) -> usize {
    while len > 0 {
        // SAFETY: the caller's memory, to be read.
        let written = unsafe { arch::syscall(nr::__NR_write, [PIPE.load(Relaxed) as usize, at, len, 0, 0, 0]) };
        if written as isize <= 0 {
            return written;
        }
        (at, len) = (at + written, len - written);
    }
    0
}

/// Writes all of a file to the pipe, wherever it was read to.
unsafe fn file_to_pipe(file: usize) -> usize {
    let mut buf = [0u8; 4096];
    let mut offset = 0;
    loop {
        // SAFETY: a buffer of this function's own.
        let len =
            unsafe { arch::syscall(nr::__NR_pread64, [file, buf.as_mut_ptr() as usize, buf.len(), offset, 0, 0]) };
        if len as isize <= 0 {
            return len;
        }
        // SAFETY: that buffer, as far as it is filled.
        let written = unsafe { to_pipe(buf.as_ptr() as usize, len) };
        if written != 0 {
            return written;
        }
        offset += len;
    }
}
