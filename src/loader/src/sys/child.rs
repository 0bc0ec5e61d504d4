//! A child process that shares our memory and makes one system call: what blocks, or what the kernel shall be able to kill.

use core::cell::Cell;
use core::mem::ManuallyDrop;

use linux_raw_sys::general as nr;

use super::{arch, call_restarting};
use crate::errno::Errno;

/// A system call that a child process makes: its number, its arguments, and when it has returned, its result.
///
/// The order of the fields is known to `arch::call_in_child`.
#[repr(C)]
pub(super) struct ChildCall {
    number: usize,
    args: [usize; 3],
    result: Cell<usize>,
}

impl ChildCall {
    /// The result of a call that never returned, since its process was killed; none that returns has this one.
    const KILLED: usize = usize::MAX / 2;

    pub(super) fn new(number: u32, args: [usize; 3]) -> ChildCall {
        ChildCall { number: number as usize, args, result: Cell::new(Self::KILLED) }
    }

    pub(super) fn was_killed(&self) -> bool {
        self.result.get() == Self::KILLED
    }

    pub(super) fn result(&self) -> Result<(), Errno> {
        // Nothing but the kernel knows of the child, and lack of memory is what the kernel kills for.
        if self.was_killed() { Err(Errno::ENOMEM) } else { super::result(self.result.get()).map(drop) }
    }
}

/// A running child process, waited for when dropped: as long as it lives it may read and write our memory.
pub(super) struct Child<'c> {
    pid: usize,
    _call: &'c ChildCall,
}

impl<'c> Child<'c> {
    pub(super) fn start(call: &'c ChildCall) -> Result<Child<'c>, Errno> {
        // Not a thread: its end is told by its open files, and waiting for it is one call.
        let flags = (nr::CLONE_VM | nr::SIGCHLD) as usize;
        // SAFETY: `call` outlives the child, since dropping this value waits for its end. What the child's system call
        // reads lives as long, or is the window, which answers with EFAULT once it is unmapped; it writes nothing but the
        // result.
        let pid = unsafe { arch::call_in_child(nr::__NR_clone, flags, call) };
        super::result(pid).map(|pid| Child { pid, _call: call })
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
pub(super) fn spawn(path: usize, argv: usize, envp: usize) -> Result<i32, Errno> {
    let request = ChildCall::new(nr::__NR_execve, [path, argv, envp]);
    let child = ManuallyDrop::new(Child::start(&request)?);
    let status = wait(child.pid)?;
    // A call that succeeds never returns.
    if request.was_killed() { Ok(status) } else { request.result().map(|()| status) }
}

/// Makes a system call in a child process: where it runs out of memory the kernel kills the child, and does not panic
/// because there is nothing to kill but PID 1.
pub(super) fn call_in_child(number: u32, args: [usize; 3]) -> Result<(), Errno> {
    let request = ChildCall::new(number, args);
    drop(Child::start(&request)?);
    request.result()
}

#[cfg(test)]
mod tests {
    use crate::errno::Errno;
    use crate::kernel::Kernel;
    use crate::limits::SPAWN_STRINGS;
    use crate::sys::Linux;
    use core::ffi::CStr;

    #[test]
    fn a_program_is_run_with_what_it_is_given_and_waited_for() {
        let run = |command: &CStr| Linux.spawn(&[c"/bin/sh", c"-c", command], &[c"PATH=/bin:/usr/bin", c"A=b c"]);
        assert_eq!(run(c"test \"$A\" = 'b c'"), Ok(0));
        assert_eq!(run(c"exit 3"), Ok(3 << 8));
        assert_eq!(run(c"kill -9 $$"), Ok(9));
        assert_eq!(Linux.spawn(&[c"/none"], &[]), Err(Errno::ENOENT));
        assert_eq!(Linux.spawn(&[c"/bin/sh"; SPAWN_STRINGS + 1], &[]), Err(Errno::E2BIG));
        assert_eq!(Linux.spawn(&[], &[]), Err(Errno::EINVAL));
    }
}
