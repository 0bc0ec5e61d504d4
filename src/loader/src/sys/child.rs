//! One system call that is made beside this thread: by a child process, which becomes a program, or by a second thread.
//!
//! Both share our memory, and run nothing but a few instructions around that call, without a stack.

use core::cell::Cell;

use linux_raw_sys::general as nr;

use super::arch;
use super::calls::{Fd, call, pipe, read, wait};
use crate::errno::Errno;
use crate::limits::KILL_WAIT_MS;

/// A system call that is made beside this thread: its number, its arguments, and when it has returned, its result.
///
/// The order of the fields is known to `arch::call_in_child`.
#[repr(C)]
pub(super) struct ChildCall {
    number: usize,
    args: [usize; 3],
    /// 0 until then.
    result: Cell<usize>,
    /// Of a call with zeros for arguments to make before it; 0 for none.
    before: usize,
}

impl ChildCall {
    pub(super) fn new(number: u32, args: [usize; 3]) -> ChildCall {
        ChildCall { number: number as usize, args, result: Cell::new(0), before: 0 }
    }

    fn start(&self, flags: u32) -> Result<usize, Errno> {
        // SAFETY: who calls this keeps `self`, and what its call reads, until the call has returned or never will.
        super::calls::result(unsafe {
            arch::call_in_child(nr::__NR_clone, flags as usize, core::ptr::from_ref(self).cast())
        })
    }

    fn result(&self) -> Result<(), Errno> {
        super::calls::result(self.result.get()).map(drop)
    }
}

/// A thread of this process that makes one call, waited for when dropped. It ends with the process, whatever ends that.
pub(super) struct Thread<'c> {
    call: &'c ChildCall,
    /// Reads as ended when the thread is.
    pub(super) ended: Fd,
}

impl<'c> Thread<'c> {
    pub(super) fn start(call: &'c ChildCall) -> Result<Thread<'c>, Errno> {
        let (ended, alive) = pipe()?;
        // It has open files of its own, so that once this side has closed the pipe's end, the thread alone holds that.
        call.start(nr::CLONE_VM | nr::CLONE_SIGHAND | nr::CLONE_THREAD)?;
        drop(alive);
        Ok(Thread { call, ended })
    }

    /// Waits for its end: what the call returned.
    pub(super) fn join(self) -> Result<(), Errno> {
        let call = self.call;
        drop(self);
        call.result()
    }
}

impl Drop for Thread<'_> {
    fn drop(&mut self) {
        // Nothing is ever written.
        while read(&self.ended, &mut [0]) != Ok(0) {}
    }
}

/// A child process that becomes a program.
struct Child {
    pid: usize,
}

impl Child {
    /// Waits for the end of a program that has a process group of its own, which is killed when the time is over: the status of
    /// wait4(2), or ETIMEDOUT.
    fn wait_within(&self, timeout_ms: u32) -> Result<i32, Errno> {
        if let Some(status) = self.poll(timeout_ms)? {
            return Ok(status);
        }
        // The process too: there may have been no time even for a group.
        for pid in [self.pid.wrapping_neg(), self.pid] {
            let _ = call(nr::__NR_kill, [pid, nr::SIGKILL as usize]);
        }
        self.poll(KILL_WAIT_MS)?;
        Err(Errno::ETIMEDOUT)
    }

    /// Its status, if it ends within this time. What a program has open tells nothing of its end, so it is looked at.
    fn poll(&self, timeout_ms: u32) -> Result<Option<i32>, Errno> {
        const LONGEST_SLEEP_MS: u32 = 16;
        let start_us = super::calls::monotonic_us();
        let mut sleep_ms = 1;
        loop {
            let mut status = 0;
            let args = [self.pid, &raw mut status as usize, nr::WNOHANG as usize, 0];
            if call(nr::__NR_wait4, args)? != 0 {
                return Ok(Some(status));
            }
            let left_ms = u64::from(timeout_ms).saturating_sub((super::calls::monotonic_us() - start_us) / 1000);
            if left_ms == 0 {
                return Ok(None);
            }
            super::calls::sleep_ms(sleep_ms.min(left_ms as u32));
            sleep_ms = LONGEST_SLEEP_MS.min(2 * sleep_ms);
        }
    }
}

/// Runs a program in a child process and waits for its end: the status of wait4(2). `argv` and `envp` are arrays of C strings
/// that end in a null pointer.
pub(super) fn spawn(path: usize, argv: usize, envp: usize, timeout_ms: Option<u32>) -> Result<i32, Errno> {
    let mut request = ChildCall::new(nr::__NR_execve, [path, argv, envp]);
    // By itself, since nobody else may once it runs the program. Without a limit it keeps ours, to be in the terminal's.
    if timeout_ms.is_some() {
        request.before = nr::__NR_setpgid as usize;
    }
    let ignored = super::calls::ignore(nr::SIGPIPE, false);
    let child = request.start(nr::CLONE_VM | nr::SIGCHLD).map(|pid| Child { pid });
    // Programs count on its default.
    super::calls::ignore(nr::SIGPIPE, ignored);
    let child = child?;
    let status = match timeout_ms {
        Some(ms) => child.wait_within(ms)?,
        _ => wait(child.pid)?,
    };
    // A call that succeeds never returns.
    request.result().map(|()| status)
}

#[cfg(test)]
mod tests {
    use crate::errno::Errno;
    use crate::kernel::Kernel;
    use crate::limits::SPAWN_STRINGS;
    use crate::sys::Linux;
    use core::ffi::CStr;
    use std::{io::Read, os::fd::AsRawFd};

    #[test]
    fn a_program_and_what_it_starts_end_with_its_time() {
        let run = |command: &CStr, ms| Linux.spawn(&[c"/bin/sh", c"-c", command], &[c"PATH=/bin:/usr/bin"], Some(ms));
        assert_eq!(run(c"exit 3", 10_000), Ok(3 << 8));
        assert_eq!(Linux.spawn(&[c"/none"], &[], Some(10_000)), Err(Errno::ENOENT));
        let start = std::time::Instant::now();
        // The pipe ends when all that have it open do.
        let (mut reader, writer) = std::io::pipe().unwrap();
        let command = format!("exec 9>/proc/{}/fd/{}; sleep 1000 & sleep 1000", std::process::id(), writer.as_raw_fd());
        let command = std::ffi::CString::new(command).unwrap();
        assert_eq!(run(&command, 300), Err(Errno::ETIMEDOUT));
        drop(writer);
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
        assert!((300..100_000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    }

    #[test]
    fn a_program_is_run_with_what_it_is_given_and_waited_for() {
        let run = |command: &CStr| Linux.spawn(&[c"/bin/sh", c"-c", command], &[c"PATH=/bin:/usr/bin", c"A=b c"], None);
        assert_eq!(run(c"test \"$A\" = 'b c'"), Ok(0));
        assert_eq!(run(c"exit 3"), Ok(3 << 8));
        assert_eq!(run(c"kill -9 $$"), Ok(9));
        assert_eq!(Linux.spawn(&[c"/none"], &[], None), Err(Errno::ENOENT));
        assert_eq!(Linux.spawn(&[c"/bin/sh"; SPAWN_STRINGS + 1], &[], None), Err(Errno::E2BIG));
        assert_eq!(Linux.spawn(&[], &[], None), Err(Errno::EINVAL));
    }
}
