//! A child process that shares our memory and makes one system call: what blocks, or what the kernel shall be able to kill.

use core::cell::Cell;
use core::mem::ManuallyDrop;

use linux_raw_sys::general as nr;

use super::{Fd, arch, call, call_restarting};
use crate::errno::Errno;
use crate::kernel::{CallError, Caller};
use crate::limits::KILL_WAIT_MS;

/// A system call that a child process makes: its number, its arguments, and when it has returned, its result.
///
/// The order of the fields is known to `arch::call_in_child`.
#[repr(C)]
pub(super) struct ChildCall {
    number: usize,
    args: [usize; 3],
    result: Cell<usize>,
    /// Of a call with zeros for arguments to make before it; 0 for none.
    before: usize,
}

impl ChildCall {
    /// The result of a call that never returned, since its process was killed; none that returns has this one.
    const KILLED: usize = usize::MAX / 2;

    pub(super) fn new(number: u32, args: [usize; 3]) -> ChildCall {
        ChildCall { number: number as usize, args, result: Cell::new(Self::KILLED), before: 0 }
    }

    pub(super) fn was_killed(&self) -> bool {
        self.result.get() == Self::KILLED
    }

    pub(super) fn result(&self) -> Result<(), Errno> {
        // Nothing but the kernel knows of the child, and lack of memory is what the kernel kills for.
        if self.was_killed() { Err(Errno::ENOMEM) } else { super::result(self.result.get()).map(drop) }
    }
}

/// A running child process, waited for when dropped: as long as it lives it may read and write our memory. One that was killed
/// runs no instruction of ours any more, so that it need not be waited for; but a system call that it is in may still read.
pub(super) struct Child<'c> {
    pid: usize,
    _call: &'c ChildCall,
}

impl<'c> Child<'c> {
    pub(super) fn start(call: &'c ChildCall) -> Result<Child<'c>, Errno> {
        // Not a thread: its end is told by its open files, and waiting for it is one call.
        let flags = (nr::CLONE_VM | nr::SIGCHLD) as usize;
        // SAFETY: `call` outlives the child, since dropping this value waits for its end, or else the child was killed and does
        // not come back from the kernel to note a result. What the child's system call reads lives as long, is the window, which
        // answers with EFAULT once it is unmapped, or is never given back; it writes nothing but the result.
        let pid = unsafe { arch::call_in_child(nr::__NR_clone, flags, call) };
        super::result(pid).map(|pid| Child { pid, _call: call })
    }
}

impl Child<'_> {
    /// Kills it, as its time is over; whether it ended by that. If not it is left behind: it is in a call of the kernel that no
    /// signal ends. Once that returns it is a zombie of this process, or of who has this process's number then.
    pub(super) fn kill(self, ended: &Fd) -> bool {
        let _ = call(nr::__NR_kill, [self.pid, nr::SIGKILL as usize]);
        let has_ended = ends_within(ended, KILL_WAIT_MS);
        if !has_ended {
            core::mem::forget(self);
        }
        has_ended
    }

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
        let start_us = super::monotonic_us();
        let mut sleep_ms = 1;
        loop {
            let mut status = 0;
            let args = [self.pid, &raw mut status as usize, nr::WNOHANG as usize, 0];
            if call(nr::__NR_wait4, args)? != 0 {
                return Ok(Some(status));
            }
            let left_ms = u64::from(timeout_ms).saturating_sub((super::monotonic_us() - start_us) / 1000);
            if left_ms == 0 {
                return Ok(None);
            }
            super::sleep_ms(sleep_ms.min(left_ms as u32));
            sleep_ms = LONGEST_SLEEP_MS.min(2 * sleep_ms);
        }
    }
}

impl Drop for Child<'_> {
    fn drop(&mut self) {
        let _ = wait(self.pid);
    }
}

/// wait4(2) for one child: its status.
fn wait(pid: usize) -> Result<i32, Errno> {
    let mut status = 0;
    call_restarting(nr::__NR_wait4, [pid, &raw mut status as usize, 0, 0])?;
    Ok(status)
}

/// Runs a program in a child process and waits for its end: the status of wait4(2). `argv` and `envp` are arrays of C strings
/// that end in a null pointer.
pub(super) fn spawn(path: usize, argv: usize, envp: usize, timeout_ms: Option<u32>) -> Result<i32, Errno> {
    let mut request = ChildCall::new(nr::__NR_execve, [path, argv, envp]);
    // By itself, since nobody else may once it runs the program. Without a limit it keeps ours, to be in the terminal's.
    if timeout_ms.is_some() {
        request.before = nr::__NR_setpgid as usize;
    }
    let ignored = super::ignore(nr::SIGPIPE, false);
    let child = Child::start(&request).map(ManuallyDrop::new);
    // Programs count on its default.
    super::ignore(nr::SIGPIPE, ignored);
    let child = child?;
    let status = match timeout_ms {
        Some(ms) => child.wait_within(ms)?,
        _ => wait(child.pid)?,
    };
    // A call that succeeds never returns.
    if request.was_killed() { Ok(status) } else { request.result().map(|()| status) }
}

/// Makes a system call that loads a module, by `caller`. In a child process: where it runs out of memory the kernel kills the
/// child, and does not panic because there is nothing to kill but PID 1.
pub(super) fn load(number: u32, args: [usize; 3], caller: Caller) -> Result<(), CallError> {
    match caller {
        Caller::Within(ms) => load_within(number, args, ms),
        Caller::Child => call_in_child(number, args).map_err(CallError::Kernel),
        _ => call(number, args).map(drop).map_err(CallError::Kernel),
    }
}

fn call_in_child(number: u32, args: [usize; 3]) -> Result<(), Errno> {
    let request = ChildCall::new(number, args);
    drop(Child::start(&request)?);
    request.result()
}

#[inline(never)]
fn load_within(number: u32, args: [usize; 3], timeout_ms: u32) -> Result<(), CallError> {
    let request = ChildCall::new(number, args);
    let (ended, alive) = pipe().map_err(CallError::Kernel)?;
    let child = Child::start(&request).map_err(CallError::Kernel)?;
    drop(alive);
    if ends_within(&ended, timeout_ms) {
        drop(child);
        return request.result().map_err(CallError::Kernel);
    }
    let is_left = !child.kill(&ended);
    // It may have come back at the last moment.
    if request.was_killed() {
        return Err(CallError::TimedOut { timeout_ms, is_left });
    }
    request.result().map_err(CallError::Kernel)
}

/// Whether the child that alone holds the other end of this pipe ends within this time.
fn ends_within(ended: &Fd, timeout_ms: u32) -> bool {
    super::poll([ended], Some(timeout_ms)) == Ok([true])
}

/// pipe2(2): the end to read from and the end to write to. If a child alone holds the latter, the former reads as ended when the
/// child is.
pub(super) fn pipe() -> Result<(Fd, Fd), Errno> {
    let mut fds = [-1; 2];
    call(nr::__NR_pipe2, [&raw mut fds as usize, nr::O_CLOEXEC as usize])?;
    Ok((Fd(fds[0]), Fd(fds[1])))
}

#[cfg(test)]
mod tests {
    use crate::errno::Errno;
    use crate::kernel::Kernel;
    use crate::limits::SPAWN_STRINGS;
    use crate::sys::Linux;
    use core::ffi::CStr;
    use {super::*, std::io::Read, std::io::Write, std::os::fd::AsRawFd};

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
    fn a_call_ends_with_its_time() {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut buf = [0u8; 4];
        let args = [reader.as_raw_fd() as usize, buf.as_mut_ptr() as usize, 4];
        let start = std::time::Instant::now();
        let load = |ms| super::load(nr::__NR_read, args, Caller::Within(ms));
        assert_eq!(load(200), Err(CallError::TimedOut { timeout_ms: 200, is_left: false }));
        assert!(start.elapsed().as_millis() >= 200);
        (&writer).write_all(b"abcd").unwrap();
        assert_eq!((load(10_000), buf), (Ok(()), *b"abcd"));
        assert_eq!(
            super::load(nr::__NR_read, [usize::MAX, 0, 0], Caller::Within(10_000)),
            Err(CallError::Kernel(Errno::EBADF))
        );
        drop(writer);
        assert_eq!(reader.read_to_end(&mut Vec::new()).unwrap(), 0);
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
