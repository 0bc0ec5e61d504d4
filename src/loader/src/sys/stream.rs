//! The window: user memory that a system call reads from start to end while it is being made, a piece at a time.
//!
//! The image's length of addresses is mapped without memory behind it and registered with userfaultfd(2). A second
//! thread calls init_module on it. The kernel copies the image in order; where it comes to a page that is
//! not there, it waits, and this side makes the next piece, puts it there, and takes away what lies more than a piece
//! behind. Whatever goes wrong here, the addresses are unmapped and the kernel's copy ends in EFAULT: nothing is loaded.

use linux_raw_sys::general as nr;
use linux_raw_sys::ioctl;

use super::arch;
use super::calls::{Fd, Region, call, mmap, read};
use super::child::{ChildCall, Thread};
use crate::errno::Errno;
use crate::kernel::{Opener, StreamError};
use crate::limits::{PIECE_BYTES, WINDOW_PIECES};
use crate::source::{DecodeError, Source};

/// User memory that [`stream`] takes besides its source; `None` where the kernel cannot do it.
pub(super) fn window_bytes() -> Option<usize> {
    userfaultfd().ok().map(|_| WINDOW_PIECES * PIECE_BYTES.max(page_bytes()))
}

/// Makes the system call `reader` on a region of `len` bytes that holds the image of the source that `open` opens, piece by
/// piece.
///
/// `reader` gives number and arguments of a call that reads the region, once and in order, given where it begins.
pub(super) fn stream(
    len: usize, open: Opener, reader: impl FnOnce(usize) -> (u32, [usize; 3]),
) -> Result<(), StreamError> {
    let mut window = Window::new(len).map_err(StreamError::Memory)?;
    let (number, args) = reader(window.at);
    let request = ChildCall::new(number, args);
    let thread = Thread::start(&request).map_err(StreamError::Memory)?;
    // The last piece waits until what made it has given back its memory: linking the module takes more than copying it.
    let served = open(&mut |source| window.serve(&thread.ended, source)).and_then(|()| window.end(&thread.ended));
    // If serving broke off, the copy ends now, for there is nothing left to copy.
    drop(window);
    let called = thread.join();
    served?;
    called.map_err(StreamError::Call)
}

/// The region that the thread reads.
struct Window {
    uffd: Fd,
    at: usize,
    /// Length of the image.
    len: usize,
    /// Length of the region: whole pages.
    mapped_len: usize,
    page_len: usize,
    /// Bytes from the start that are not there any more: whole pages.
    dropped: usize,
    /// Bytes from the start that were there at some time: whole pages.
    filled: usize,
    /// Where a piece is made before it appears in the region as a whole.
    piece: Region,
    /// How much of that is made: whole pages.
    made: usize,
    /// Whether the last piece has been made.
    is_whole: bool,
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = call(nr::__NR_munmap, [self.at, self.mapped_len]);
        // A reader that waits for a piece looks again, and finds no memory.
        let _ = control(&self.uffd, ioctl::UFFDIO_WAKE, &mut self.range());
    }
}

impl Window {
    fn new(len: usize) -> Result<Window, Errno> {
        let page_len = page_bytes();
        let mapped_len = len.checked_next_multiple_of(page_len).ok_or(Errno::EFBIG)?;
        let uffd = userfaultfd()?;
        let piece = anonymous(PIECE_BYTES.max(page_len))?;
        let region = anonymous(mapped_len)?;
        let at = region.at as usize;
        let window =
            Window { uffd, at, len, mapped_len, page_len, dropped: 0, filled: 0, piece, made: 0, is_whole: false };
        // The window's own drop unmaps it.
        core::mem::forget(region);
        let mut register =
            nr::uffdio_register { range: window.range(), mode: nr::UFFDIO_REGISTER_MODE_MISSING.into(), ioctls: 0 };
        control(&window.uffd, ioctl::UFFDIO_REGISTER, &mut register)?;
        Ok(window)
    }

    fn range(&self) -> nr::uffdio_range {
        nr::uffdio_range { start: self.at as u64, len: self.mapped_len as u64 }
    }

    /// Makes what the call waits for, up to the last piece, until it ends.
    fn serve(&mut self, ended: &Fd, source: &mut dyn Source) -> Result<(), StreamError> {
        while let Some(offset) = self.wait(ended)? {
            while self.filled <= offset {
                self.make(source)?;
                if self.is_whole {
                    return Ok(());
                }
                self.hand_over().map_err(StreamError::Memory)?;
            }
        }
        Ok(())
    }

    /// Hands over the last piece, if it was made, and waits for the call's end.
    fn end(&mut self, ended: &Fd) -> Result<(), StreamError> {
        if self.is_whole {
            self.hand_over().map_err(StreamError::Memory)?;
            // What follows takes more memory than all before.
            drop(core::mem::replace(&mut self.piece, Region::NONE));
        }
        self.wait(ended).map(drop)
    }

    /// Offset in the region of what the call waits for; `None` once it has ended.
    fn wait(&self, ended: &Fd) -> Result<Option<usize>, StreamError> {
        loop {
            let [faulted, has_ended] = super::calls::poll([&self.uffd, ended], None).map_err(StreamError::Memory)?;
            if !faulted && has_ended {
                return Ok(None);
            }
            if faulted && let Some(offset) = self.fault().map_err(StreamError::Memory)? {
                return Ok(Some(offset));
            }
        }
    }

    /// Offset in the region of a fault that nobody has answered.
    fn fault(&self) -> Result<Option<usize>, Errno> {
        // struct uffd_msg: u8 event, and for a page fault u64 flags at 8 and u64 address at 16.
        let mut message = [0; 32];
        match read(&self.uffd, &mut message) {
            Err(Errno::EAGAIN) => return Ok(None),
            read => read?,
        };
        const UFFD_EVENT_PAGEFAULT: u8 = 0x12;
        let [event, ..] = message;
        let address = message[16..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)) as usize;
        let offset = address.wrapping_sub(self.at);
        if event != UFFD_EVENT_PAGEFAULT || offset < self.filled || offset >= self.mapped_len {
            // No kernel that we know asks for anything else; serving it blindly could wait for ever.
            return Err(Errno::EFAULT);
        }
        Ok(Some(offset))
    }

    /// Makes the next piece. The last is a page, so that little is left of the window while the module is linked; after it, all
    /// of the image is known to be right.
    fn make(&mut self, source: &mut dyn Source) -> Result<(), DecodeError> {
        let left = self.len - self.filled;
        let before_last = (left - 1) / self.page_len * self.page_len;
        let want = if before_last == 0 { left } else { before_last.min(self.piece.len) };
        self.made = want.next_multiple_of(self.page_len);
        let (image, padding) = self.piece.as_mut()[..self.made].split_at_mut(want);
        if source.read(image)? != want {
            return Err(DecodeError::Length);
        }
        if want == left {
            source.finish()?;
            padding.fill(0);
            self.is_whole = true;
        }
        Ok(())
    }

    /// Puts the piece that was made in its place.
    fn hand_over(&mut self) -> Result<(), Errno> {
        self.drop_behind()?;
        self.copy(self.made)?;
        self.filled += self.made;
        Ok(())
    }

    /// Takes away all but the end of what was filled: the copy has left that by now, or is about to.
    fn drop_behind(&mut self) -> Result<(), Errno> {
        let kept = if self.is_whole { self.page_len } else { self.piece.len };
        let end = self.filled.saturating_sub(kept);
        if end > self.dropped {
            // Not by madvise: small kernels lack it, and a page that were asked for again would come back empty. Here it
            // is refused.
            let flags = nr::MAP_PRIVATE | nr::MAP_ANONYMOUS | nr::MAP_FIXED | nr::MAP_NORESERVE;
            let (at, len, prot) = (self.at + self.dropped, end - self.dropped, nr::PROT_NONE);
            call(arch::MMAP, [at, len, prot as usize, flags as usize, usize::MAX, 0])?;
            self.dropped = end;
        }
        Ok(())
    }

    fn copy(&mut self, len: usize) -> Result<(), Errno> {
        let (to, from) = ((self.at + self.filled) as u64, self.piece.at as u64);
        let mut done = 0;
        while done < len as u64 {
            let mut copy =
                nr::uffdio_copy { dst: to + done, src: from + done, len: len as u64 - done, mode: 0, copy: 0 };
            match control(&self.uffd, ioctl::UFFDIO_COPY, &mut copy) {
                // Interrupted between two pages.
                Err(Errno::EAGAIN) => done += u64::try_from(copy.copy).unwrap_or(0),
                result => return result,
            }
        }
        Ok(())
    }
}

/// Length of a page, one of those that our architectures have.
fn page_bytes() -> usize {
    const LENGTHS: [usize; 2] = [4 << 10, 16 << 10];
    const LARGEST: usize = 64 << 10;
    // mprotect refuses an address that begins no page before it finds that there is nothing to do.
    let is_page = |len: &usize| call(nr::__NR_mprotect, [*len, 0, nr::PROT_NONE as usize]).is_ok();
    LENGTHS.into_iter().find(is_page).unwrap_or(LARGEST)
}

fn anonymous(len: usize) -> Result<Region, Errno> {
    let flags = nr::MAP_PRIVATE | nr::MAP_ANONYMOUS | nr::MAP_NORESERVE;
    mmap(None, len, nr::PROT_READ | nr::PROT_WRITE, flags)
}

/// userfaultfd(2), ready for use. It can only be polled if it does not block.
fn userfaultfd() -> Result<Fd, Errno> {
    let fd = Fd(call(nr::__NR_userfaultfd, [(nr::O_CLOEXEC | nr::O_NONBLOCK) as usize])? as i32);
    let mut api = nr::uffdio_api { api: nr::UFFD_API.into(), features: 0, ioctls: 0 };
    control(&fd, ioctl::UFFDIO_API, &mut api)?;
    Ok(fd)
}

/// ioctl(2) of a userfaultfd; `request` takes a `T`.
fn control<T>(fd: &Fd, request: u32, argument: &mut T) -> Result<(), Errno> {
    call(nr::__NR_ioctl, [fd.0 as usize, request as usize, &raw mut *argument as usize]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsRawFd;

    /// A source of numbered bytes that may end early, late, or in an error.
    struct Numbers {
        next: usize,
        len: usize,
        fails_at: Option<usize>,
        finished: bool,
    }

    fn byte(i: usize) -> u8 {
        (i ^ i >> 8 ^ i >> 16) as u8
    }

    impl Source for Numbers {
        fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
            let n = out.len().min(self.len - self.next);
            for (i, to) in out[..n].iter_mut().enumerate() {
                if self.fails_at == Some(self.next + i) {
                    return Err(DecodeError::Checksum);
                }
                *to = byte(self.next + i);
            }
            self.next += n;
            self.finished = n < out.len();
            Ok(n)
        }
    }

    /// What comes through a pipe that the kernel fills from the window as it does a module's image: page after page.
    fn through_pipe(len: usize, source: &mut Numbers) -> (Result<(), StreamError>, Vec<u8>) {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let drain = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        let result =
            stream(len, &mut |take| take(source), |at| (nr::__NR_write, [writer.as_raw_fd() as usize, at, len]));
        drop(writer);
        (result, drain.join().unwrap())
    }

    fn numbers(len: usize) -> Numbers {
        Numbers { next: 0, len, fails_at: None, finished: false }
    }

    /// Where the machine does not let us use userfaultfd there is nothing to test.
    fn offered() -> bool {
        window_bytes().is_some()
    }

    #[test]
    fn the_kernel_reads_what_the_source_makes() {
        for len in [1, 4095, 4096, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 1_234_567] {
            let mut source = numbers(len);
            if offered() {
                let (result, got) = through_pipe(len, &mut source);
                assert_eq!(result, Ok(()), "{len}");
                assert!(got.len() == len && got.iter().enumerate().all(|(i, b)| *b == byte(i)), "{len}");
                assert!(source.finished);
            }
        }
    }

    #[test]
    fn a_source_that_fails_ends_the_call_and_is_the_cause() {
        let len = 10 * PIECE_BYTES + 5;
        let failing = |at| Numbers { fails_at: Some(at), ..numbers(len) };
        let short_or_long = [numbers(len - 1), numbers(len + 1), numbers(len - 2 * PIECE_BYTES)];
        let cases = [0, PIECE_BYTES, len - 1].map(failing).into_iter().map(|source| (source, DecodeError::Checksum));
        for (mut source, error) in cases.chain(short_or_long.into_iter().map(|s| (s, DecodeError::Length))) {
            if offered() {
                let (result, got) = through_pipe(len, &mut source);
                assert_eq!(result, Err(StreamError::Source(error)));
                // The last piece never came.
                assert!(got.len() <= 10 * PIECE_BYTES, "{}", got.len());
            }
        }
    }

    #[test]
    fn a_call_that_reads_nothing_ends_too() {
        if offered() {
            let mut source = numbers(100_000);
            let result =
                stream(100_000, &mut |take| take(&mut source), |at| (nr::__NR_write, [usize::MAX, at, 100_000]));
            assert_eq!((result, source.next), (Err(StreamError::Call(Errno::EBADF)), 0));
        }
    }

    #[test]
    fn memory_does_not_grow_with_the_image() {
        /// Looks at how much of the region is there each time it is asked for bytes.
        struct Watching(Numbers, u64);
        impl Source for Watching {
            fn read(&mut self, out: &mut [u8]) -> Result<usize, DecodeError> {
                let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
                // The window is the only one of its kind: registered for missing pages, or a hole.
                let rss = smaps
                    .split("VmFlags:")
                    .zip(smaps.split("VmFlags:").skip(1))
                    .filter(|(_, flags)| flags.lines().next().is_some_and(|flags| flags.contains(" um")))
                    .filter_map(|(map, _)| map.lines().find_map(|line| line.strip_prefix("Rss:")))
                    .filter_map(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
                self.1 = self.1.max(rss.sum());
                self.0.read(out)
            }
        }
        if offered() {
            let len = 64 * PIECE_BYTES;
            let mut source = Watching(numbers(len), 0);
            let (mut reader, writer) = std::io::pipe().unwrap();
            let drain = std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()).unwrap());
            let result = stream(len, &mut |take| take(&mut source), |at| {
                (nr::__NR_write, [writer.as_raw_fd() as usize, at, len])
            });
            drop(writer);
            assert_eq!((result, drain.join().unwrap()), (Ok(()), len as u64));
            // Other tests have regions of the same kind at the same time, each no larger.
            assert!(source.1 > 0 && source.1 <= 4 * 2 * (PIECE_BYTES as u64 >> 10), "{} KiB", source.1);
        }
    }
}
