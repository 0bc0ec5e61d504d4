//! The few operations of a kernel that the loader needs, so that tests can stand in for it.
//!
//! Only what loading needs belongs here; the duties of PID 1 (mounting, rebooting) are plain functions in [`crate::sys`].

use core::ffi::CStr;
use core::fmt;

use crate::errno::Errno;
use crate::source::{DecodeError, Source};

#[cfg(test)]
#[allow(missing_docs)]
pub mod fake;
pub mod lines;
pub mod machine;

/// What kind of file a descriptor is open on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A block device.
    BlockDevice,
    /// A character device, FIFO or socket.
    Other,
}

/// The part of stat(2) that matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Kind of file.
    pub kind: FileKind,
    /// Length in bytes of a regular file.
    pub size_bytes: u64,
    /// The device that the file is on.
    pub device: u64,
}

/// What a page has where it has least, for those who care which ones they touch.
pub const PAGE_BYTES: usize = 4096;

/// The bytes of a file, of which only those are read that are asked for.
pub trait Pages: fmt::Debug {
    /// How many there are.
    fn len_bytes(&self) -> usize;
    /// Those from `at` on; EFAULT where there are fewer.
    fn get(&self, at: usize, len_bytes: usize) -> Result<&[u8], Errno>;
}

impl<T: AsRef<[u8]> + fmt::Debug> Pages for T {
    fn len_bytes(&self) -> usize {
        self.as_ref().len()
    }

    fn get(&self, at: usize, len_bytes: usize) -> Result<&[u8], Errno> {
        let end = at.checked_add(len_bytes).ok_or(Errno::EFAULT)?;
        self.as_ref().get(at..end).ok_or(Errno::EFAULT)
    }
}

/// Why a worker reported nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerError {
    /// No process could be made.
    Start(Errno),
    /// It was killed: what the kernel kills for is lack of memory.
    Killed,
    /// It did not end in its time.
    TimedOut {
        /// The time that it had.
        timeout_ms: u32,
        /// Whether nothing ended it: it is left behind in a call of the kernel.
        is_left: bool,
    },
}

/// Takes an image from a source.
pub type Taker<'t> = &'t mut dyn FnMut(&mut dyn Source) -> Result<(), StreamError>;

/// Opens a source, has the image taken from it, and closes it: after that the memory for decoding is free again.
pub type Opener<'o> = &'o mut dyn FnMut(Taker) -> Result<(), StreamError>;

/// Why an image was not streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamError {
    /// No memory can be mapped.
    Memory(Errno),
    /// Its source does not hand it out.
    Source(DecodeError),
    /// The kernel refused the module, or its init did.
    Call(Errno),
}

impl From<DecodeError> for StreamError {
    fn from(error: DecodeError) -> StreamError {
        StreamError::Source(error)
    }
}

/// A kernel to load modules into.
pub trait Kernel {
    /// An open file, closed when dropped.
    type File;
    /// Memory mapped for this process alone, unmapped when dropped.
    type Region: AsRef<[u8]> + AsMut<[u8]>;
    /// A file that is read a page at a time as it is needed; what was read stays until this is dropped.
    type Paged: Pages;

    /// Opens `path` for reading; never blocks on a FIFO (open(2)).
    fn open(&self, path: &CStr) -> Result<Self::File, Errno>;
    /// Opens `path` below the folder `dir` for reading: EXDEV if it or a link on its way leads out of that (openat2(2),
    /// RESOLVE_BENEATH). A kernel without that call, before 5.6, follows no link there.
    fn open_beneath(&self, dir: &Self::File, path: &CStr) -> Result<Self::File, Errno>;
    /// Reads on from the file's position: number of bytes, 0 at the end (read(2)).
    fn read(&self, file: &Self::File, buf: &mut [u8]) -> Result<usize, Errno>;
    /// Reads from `offset` without moving the file's position (pread(2)).
    fn read_at(&self, file: &Self::File, buf: &mut [u8], offset: u64) -> Result<usize, Errno>;
    /// Kind and size of an open file (fstat(2)).
    fn stat(&self, file: &Self::File) -> Result<Stat, Errno>;
    /// Has a worker do `job`: a process with a copy of this one's memory, which ends with it and may be killed alone. Of what the
    /// job changes only its result is seen here, which must refer to nothing that the job made.
    fn in_worker<T: Copy + 'static>(
        &self, timeout_ms: Option<u32>, job: &mut dyn FnMut() -> T,
    ) -> Result<T, WorkerError>;
    /// Loads the module in `file` (finit_module(2)); `flags` are `MODULE_INIT_*` of `linux/module.h`.
    fn finit_module(&self, file: &Self::File, params: &CStr, flags: u32) -> Result<(), Errno>;
    /// Whether the kernel knows finit_module at all (since 3.8), whatever it answered to a module.
    fn has_finit_module(&self) -> bool;
    /// Loads the module at `image` (init_module(2)).
    fn init_module(&self, image: &[u8], params: &CStr) -> Result<(), Errno>;
    /// User memory that [`Kernel::stream_module`] takes besides its source; `None` where the kernel cannot do it.
    fn stream_window_bytes(&self) -> Option<usize>;
    /// Loads the module whose image of `len_bytes` is what the source makes, piece by piece (init_module(2) on memory that
    /// userfaultfd(2) fills). The last piece is handed over only when the source has confirmed its end and is closed.
    fn stream_module(&self, len_bytes: usize, params: &CStr, open: Opener) -> Result<(), StreamError>;
    /// Memory that nothing uses, not even to cache files, in bytes (sysinfo(2)): less than what is available, but asked in
    /// a hundredth of the time.
    fn free_bytes(&self) -> u64;
    /// Lets the page cache drop a part of `file` that will not be read again (posix_fadvise(2)); best effort.
    fn forget(&self, file: &Self::File, offset: u64, len_bytes: u64);
    /// Deletes a file of the initramfs, whose memory it gives back; EXDEV if the file is not in memory, ELOOP if it
    /// is a symbolic link (unlink(2)).
    fn unlink_from_memory(&self, path: &CStr) -> Result<(), Errno>;
    /// Maps the first `len_bytes` of `file`, private (mmap(2)).
    fn map(&self, file: &Self::File, len_bytes: usize) -> Result<Self::Region, Errno>;
    /// The first `len_bytes` of `file`, to be read as they are needed. Unlike those of a mapping, its pages are taken one by one:
    /// around each that is touched, the kernel maps up to 64 KiB of what is in memory.
    fn paged(&self, file: Self::File, len_bytes: usize) -> Result<Self::Paged, Errno>;
    /// Fresh zeroed memory (mmap(2), anonymous).
    fn allocate(&self, len_bytes: usize) -> Result<Self::Region, Errno>;
    /// The names in a folder (getdents64(2)).
    fn list(&self, folder: &CStr, each: &mut dyn FnMut(&str)) -> Result<(), Errno>;
    /// Whether there is something at `path` (faccessat(2)).
    fn exists(&self, path: &CStr) -> bool;
    /// Runs a program with these arguments, the first of which is its path, and waits for its end: what wait4(2) says of it. When
    /// its time is over, it is killed with its process group, and that is ETIMEDOUT.
    fn spawn(&self, argv: &[&CStr], envp: &[&CStr], timeout_ms: Option<u32>) -> Result<i32, Errno>;
    /// Hears of devices from here on (netlink(7), NETLINK_KOBJECT_UEVENT); `None` where the kernel has no network.
    fn uevents(&self) -> Option<Self::File>;
    /// Waits until devices came or went, or the time is over. Without a source of news it waits for a moment only. Children of
    /// this process that ended are reaped.
    fn wait(&self, uevents: Option<&Self::File>, timeout_ms: u32);
    /// The running kernel's release, as in `/lib/modules/RELEASE` (uname(2)).
    fn release<'b>(&self, buf: &'b mut [u8; 65]) -> Result<&'b str, Errno>;
    /// Adds a record to the kernel's log (Documentation/ABI/testing/dev-kmsg), if it can.
    fn log_record(&self, record: &[u8]);
    /// Monotonic time in µs (clock_gettime(2)).
    fn now_us(&self) -> u64;
}

/// Reads until `buf` is full or the file ends: the part that was filled.
pub fn read_full<'b, K: Kernel>(kernel: &K, file: &K::File, buf: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let mut len = 0;
    while len < buf.len() {
        match kernel.read(file, &mut buf[len..])? {
            0 => break,
            n => len += n,
        }
    }
    Ok(&buf[..len])
}

/// Reads from `offset` until `buf` is full or the file ends: the number of bytes.
pub fn read_full_at<K: Kernel>(kernel: &K, file: &K::File, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buf.len() {
        match kernel.read_at(file, &mut buf[filled..], offset + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
}

/// Reads a small file whole, such as one of `/proc` or `/sys`, without the newline at its end; what does not fit is left.
pub fn read_small<'b, K: Kernel>(kernel: &K, path: &CStr, buf: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let file = kernel.open(path)?;
    Ok(read_full(kernel, &file, buf)?.trim_ascii_end())
}
