//! A worker: a process with a copy of this one's memory, which does a job, reports, and ends.
//!
//! What it does to memory stays its own, so that the kernel can kill it, as often as it must, and nothing here is lost but
//! that job.

use core::mem::MaybeUninit;

use linux_raw_sys::general as nr;

use super::calls::{Fd, call, call_restarting, exit, getpid, pipe, poll, set, wait};
use crate::errno::Errno;
use crate::kernel::WorkerError;
use crate::limits::KILL_WAIT_MS;

/// Where a report is, in both processes.
#[derive(Clone, Copy)]
struct Report {
    at: usize,
    len: usize,
}

/// See [`crate::kernel::Kernel::in_worker`].
pub(super) fn run<T: Copy + 'static>(timeout_ms: Option<u32>, job: &mut dyn FnMut() -> T) -> Result<T, WorkerError> {
    // No bytes are no report; up to PIPE_BUF of them are written and read whole.
    const { assert!(size_of::<T>() > 0 && size_of::<T>() <= 4096) }
    let mut result = MaybeUninit::<T>::uninit();
    let at = result.as_mut_ptr();
    // SAFETY: `at` is this function's own, and is of that type.
    let mut work = || unsafe { at.write(job()) };
    run_reporting(timeout_ms, &mut work, Report { at: at as usize, len: size_of::<T>() })?;
    // SAFETY: each of its bytes came from a value of this type. That is Copy and refers to nothing that was made after the
    // fork: to statics of the same program, at the same addresses.
    Ok(unsafe { result.assume_init() })
}

/// Has a worker do `work`, which leaves its result in `report`, and copies that to here.
fn run_reporting(timeout_ms: Option<u32>, work: &mut dyn FnMut(), report: Report) -> Result<(), WorkerError> {
    let (reader, writer) = pipe().map_err(WorkerError::Start)?;
    let parent = getpid();
    let pid = fork().map_err(WorkerError::Start)?;
    if pid == 0 {
        work_and_exit(parent, work, &writer, report);
    }
    // From here on the worker alone, and what it starts, can write.
    drop(writer);
    if let Some(timeout_ms) = timeout_ms
        && !reports_within(&reader, timeout_ms)
    {
        let _ = call(nr::__NR_kill, [pid, nr::SIGKILL as usize]);
        if !reports_within(&reader, KILL_WAIT_MS) {
            // It is reaped with others, once it ends.
            return Err(WorkerError::TimedOut { timeout_ms, is_left: true });
        }
        // It may have reported at the last moment.
        return received(&reader, pid, report).map_err(|_| WorkerError::TimedOut { timeout_ms, is_left: false });
    }
    received(&reader, pid, report)
}

/// clone(2): 0 in the process that it makes, which has a copy of all memory, and the one thread that called.
fn fork() -> Result<usize, Errno> {
    call(nr::__NR_clone, [nr::SIGCHLD as usize, 0, 0, 0, 0])
}

fn work_and_exit(parent: u32, work: &mut dyn FnMut(), writer: &Fd, report: Report) -> ! {
    const PR_SET_PDEATHSIG: usize = 1;
    let _ = call(nr::__NR_prctl, [PR_SET_PDEATHSIG, nr::SIGKILL as usize]);
    // A parent that had ended before that would never be heard of.
    if call(nr::__NR_getppid, []) == Ok(parent as usize) {
        // Where /proc is not there, the kernel chooses among processes by their size.
        let _ = set(c"/proc/self/oom_score_adj", b"1000");
        work();
        // If this fails, the end without a report says so.
        let _ = call_restarting(nr::__NR_write, [writer.0 as usize, report.at, report.len]);
    }
    exit(0)
}

/// Whether the worker reports within this time, or ends, with all that it started.
fn reports_within(reader: &Fd, timeout_ms: u32) -> bool {
    poll([reader], Some(timeout_ms)) == Ok([true])
}

/// Waits for the report and the worker's end.
fn received(reader: &Fd, pid: usize, report: Report) -> Result<(), WorkerError> {
    let read = call_restarting(nr::__NR_read, [reader.0 as usize, report.at, report.len]);
    let _ = wait(pid);
    if read == Ok(report.len) { Ok(()) } else { Err(WorkerError::Killed) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{DecodeError, Source};
    use crate::sys::{Linux, read, sleep_ms, stream, write};
    use std::os::fd::AsRawFd;
    use std::time::{Duration, Instant};

    /// Sleeps until it is killed.
    fn hang() -> ! {
        loop {
            sleep_ms(1000);
        }
    }

    /// Whether all that have the other end of the pipe open end within some seconds.
    fn ends(reader: &std::io::PipeReader) -> bool {
        poll([&Fd::inherited(reader.as_raw_fd())], Some(10_000)) == Ok([true])
    }

    #[test]
    fn a_result_comes_back_and_nothing_else() {
        let (mut seen, parent) = (7, getpid());
        let result = run(None, &mut || {
            seen = 8;
            (seen, "text", getpid() != parent)
        });
        assert_eq!((result, seen), (Ok((8, "text", true)), 7));
        assert_eq!(run(Some(10_000), &mut || Err::<(), _>(Errno::ENODEV)), Ok(Err(Errno::ENODEV)));
    }

    #[test]
    fn the_kernel_kills_it_before_others() {
        let mut buf = [0; 8];
        let score = run(None, &mut || {
            let file = crate::sys::openat(None, c"/proc/self/oom_score_adj", nr::O_RDONLY).unwrap_or(Fd(-1));
            let len = read(&file, &mut buf).unwrap_or(0);
            (buf, len)
        });
        let (buf, len) = score.unwrap();
        assert_eq!(buf[..len].trim_ascii(), b"1000");
    }

    #[test]
    fn each_that_is_killed_costs_its_own_job() {
        let kill_itself = || call(nr::__NR_kill, [getpid() as usize, nr::SIGKILL as usize]).is_ok();
        for timeout_ms in [None, Some(10_000)] {
            for _ in 0..3 {
                assert_eq!(run(timeout_ms, &mut || kill_itself()), Err(WorkerError::Killed));
            }
            assert_eq!(run(timeout_ms, &mut || 1), Ok(1));
        }
    }

    #[test]
    fn it_ends_with_its_time() {
        let (reader, writer) = std::io::pipe().unwrap();
        let start = Instant::now();
        let result = run::<u8>(Some(200), &mut || hang());
        assert_eq!(result, Err(WorkerError::TimedOut { timeout_ms: 200, is_left: false }));
        assert!(start.elapsed() >= Duration::from_millis(200));
        drop(writer);
        assert!(ends(&reader));
    }

    #[test]
    fn it_ends_with_its_parent() {
        let (reader, writer) = std::io::pipe().unwrap();
        let number = writer.as_raw_fd();
        // A worker of a worker, which is killed once the inner one is at work.
        let result = run(Some(10_000), &mut || {
            let outer = getpid() as usize;
            run::<u8>(None, &mut || {
                let _ = write(&Fd::inherited(number), b"!");
                let _ = call(nr::__NR_kill, [outer, nr::SIGKILL as usize]);
                hang()
            })
            .is_ok()
        });
        assert_eq!(result, Err(WorkerError::Killed));
        drop(writer);
        let number = reader.as_raw_fd();
        assert_eq!(read(&Fd::inherited(number), &mut [0; 4]), Ok(1));
        assert!(ends(&reader) && read(&Fd::inherited(number), &mut [0; 4]) == Ok(0));
    }

    /// As many zeros as are asked for.
    struct Zeros;

    impl Source for Zeros {
        fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
            out.fill(0);
            Ok(out.len())
        }
        fn finish(&mut self) -> Result<(), DecodeError> {
            Ok(())
        }
    }

    #[test]
    fn a_call_on_the_window_ends_with_the_worker() {
        use crate::kernel::Kernel;
        if Linux.stream_window_bytes().is_none() {
            return;
        }
        const LEN: usize = 1 << 20;
        let streamed = |timeout_ms, writer: &std::io::PipeWriter| {
            let number = writer.as_raw_fd() as usize;
            run(timeout_ms, &mut || {
                stream::stream(LEN, &mut |take| take(&mut Zeros), |at| (nr::__NR_write, [number, at, LEN]))
            })
        };
        let (mut reader, writer) = std::io::pipe().unwrap();
        let drain = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
        assert_eq!(streamed(None, &writer), Ok(Ok(())));
        drop(writer);
        assert_eq!(drain.join().unwrap(), LEN as u64);
        // Nobody reads from this one, so that the call waits in the middle of the image.
        let (reader, writer) = std::io::pipe().unwrap();
        assert_eq!(streamed(Some(300), &writer), Err(WorkerError::TimedOut { timeout_ms: 300, is_left: false }));
        drop(writer);
        // What was written is there still, and then the end: nobody else has it open.
        let mut all = Vec::new();
        std::io::Read::read_to_end(&mut &reader, &mut all).unwrap();
        assert!(!all.is_empty() && all.len() < LEN);
    }
}
