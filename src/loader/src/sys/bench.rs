//! What measuring other programs takes, and loading modules does not: only with the feature `bench`.

use core::ffi::CStr;

use linux_raw_sys::{general as nr, ptrace};

use super::calls::{Fd, StringArray, call, call_restarting};
use crate::errno::Errno;

/// How a child was found by [`wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// Ended by itself, with this code.
    Exited(u8),
    /// Ended by this signal.
    Killed(u32),
    /// Traced, and stopped by this signal; with [`SYSCALL_STOP`], where a system call begins or ends.
    Stopped(u32),
}

/// The signal of a stop at a system call (PTRACE_O_TRACESYSGOOD): SIGTRAP and a bit that no signal has.
pub const SYSCALL_STOP: u32 = nr::SIGTRAP | 0x80;

/// The signal of the stop after execve(2), which is none of the program's own.
pub const EXEC_STOP: u32 = nr::SIGTRAP;

impl StringArray {
    /// The strings from the one numbered `first`.
    pub fn from(self, first: usize) -> StringArray {
        let mut rest = self.0;
        for _ in 0..first {
            // SAFETY: by the contract of `new`, `rest` is within the array, and its end is never passed.
            unsafe {
                if (*rest).is_null() {
                    break;
                }
                rest = rest.add(1);
            }
        }
        StringArray(rest)
    }
}

/// fork(2): the child's process id, or in the child `None`.
pub fn fork() -> Result<Option<u32>, Errno> {
    // Without CLONE_VM: the child has a copy of all memory, its stack included.
    let pid = call(nr::__NR_clone, [nr::SIGCHLD as usize, 0, 0, 0, 0])?;
    Ok((pid != 0).then_some(pid as u32))
}

/// wait4(2) for one child.
pub fn wait(pid: u32) -> Result<Waited, Errno> {
    let mut status = 0u32;
    call_restarting(nr::__NR_wait4, [pid as usize, &raw mut status as usize, 0, 0])?;
    Ok(match (status & 0x7f, status >> 8 & 0xff) {
        (0, code) => Waited::Exited(code as u8),
        (0x7f, signal) => Waited::Stopped(signal),
        (signal, _) => Waited::Killed(signal),
    })
}

/// ptrace(2): the parent traces this process, which stops at its next execve.
pub fn trace_me() -> Result<(), Errno> {
    call(nr::__NR_ptrace, [ptrace::PTRACE_TRACEME as usize, 0, 0, 0]).map(drop)
}

/// ptrace(2): the stops of this stopped child at system calls can be told from signals of its own.
pub fn trace_syscalls(pid: u32) -> Result<(), Errno> {
    let options = ptrace::PTRACE_O_TRACESYSGOOD as usize;
    call(nr::__NR_ptrace, [ptrace::PTRACE_SETOPTIONS as usize, pid as usize, 0, options]).map(drop)
}

/// ptrace(2): this stopped child goes on, with `signal` if not 0, to where a system call begins or ends.
pub fn go_on(pid: u32, signal: u32) -> Result<(), Errno> {
    call(nr::__NR_ptrace, [ptrace::PTRACE_SYSCALL as usize, pid as usize, 0, signal as usize]).map(drop)
}

/// ftruncate(2).
pub fn ftruncate(fd: &Fd, len: usize) -> Result<(), Errno> {
    call(nr::__NR_ftruncate, [fd.0 as usize, len]).map(drop)
}

/// delete_module(2), without waiting until nobody uses it.
pub fn delete_module(name: &CStr) -> Result<(), Errno> {
    call(nr::__NR_delete_module, [name.as_ptr() as usize, nr::O_NONBLOCK as usize]).map(drop)
}
