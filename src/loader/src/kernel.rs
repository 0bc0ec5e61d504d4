//! The few operations of a kernel that the loader needs, so that tests can stand in for it.
//!
//! Only what loading needs belongs here; the duties of PID 1 (mounting, rebooting) are plain functions in [`crate::sys`].

use core::ffi::CStr;
use core::fmt;

use crate::errno::Errno;
use crate::source::{DecodeError, Source};

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

/// Who makes a call that loads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    /// This process.
    #[default]
    Itself,
    /// A child process, which the kernel may kill: then the call is ENOMEM.
    Child,
    /// The same, for so many ms at most.
    Within(u32),
}

impl Caller {
    /// The call's time in ms, if it has a limit.
    pub fn timeout_ms(self) -> Option<u32> {
        match self {
            Caller::Within(ms) => Some(ms),
            _ => None,
        }
    }
}

/// Why a call that loads failed. In builds without the feature `time`, an errno.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The kernel refused the module, or its init did.
    Kernel(Errno),
    /// See [`crate::load::Failure::TimedOut`].
    TimedOut {
        /// The time that it had.
        timeout_ms: u32,
        /// Whether the call goes on.
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
    /// The call that loads failed.
    Call(CallError),
}

impl From<DecodeError> for StreamError {
    fn from(error: DecodeError) -> StreamError {
        StreamError::Source(error)
    }
}

impl From<CallError> for StreamError {
    fn from(error: CallError) -> StreamError {
        StreamError::Call(error)
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
    /// Loads the module in `file` (finit_module(2)); `flags` are `MODULE_INIT_*` of `linux/module.h`.
    fn finit_module(&self, file: &Self::File, params: &CStr, flags: u32, caller: Caller) -> Result<(), CallError>;
    /// Whether the kernel knows finit_module at all (since 3.8), whatever it answered to a module.
    fn has_finit_module(&self) -> bool;
    /// Loads the module at `image` (init_module(2)). After [`CallError::TimedOut`] with a call that was left behind, image and
    /// parameters must stay where they are, as with the calls above and below.
    fn init_module(&self, image: &[u8], params: &CStr, caller: Caller) -> Result<(), CallError>;
    /// User memory that [`Kernel::stream_module`] takes besides its source; `None` where the kernel cannot do it.
    fn stream_window_bytes(&self) -> Option<usize>;
    /// Loads the module whose image of `len_bytes` is what the source makes, piece by piece (init_module(2) on memory that
    /// userfaultfd(2) fills). The last piece is handed over only when the source has confirmed its end and is closed. It is
    /// always a child process that makes the call.
    fn stream_module(&self, len_bytes: usize, params: &CStr, caller: Caller, open: Opener) -> Result<(), StreamError>;
    /// Lets the page cache drop a part of `file` that will not be read again (posix_fadvise(2)); best effort.
    fn forget(&self, file: &Self::File, offset: u64, len_bytes: u64);
    /// Deletes a file of the initramfs, whose memory it gives back; EXDEV if the file is not in memory (unlink(2)).
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

/// Reads a small file whole, such as one of `/proc` or `/sys`, without the newline at its end; what does not fit is left.
pub fn read_small<'b, K: Kernel>(kernel: &K, path: &CStr, buf: &'b mut [u8]) -> Result<&'b [u8], Errno> {
    let file = kernel.open(path)?;
    Ok(read_full(kernel, &file, buf)?.trim_ascii_end())
}

/// A kernel made of a table, for tests: files in memory, answers of the module calls by script, every call recorded.
#[cfg(test)]
#[allow(missing_docs)]
pub mod fake {
    use super::*;
    use std::cell::{Cell, RefCell};
    use std::collections::{BTreeMap, VecDeque};
    use std::rc::Rc;

    /// See the module.
    #[derive(Clone, Default)]
    pub struct Fake {
        files: BTreeMap<String, Rc<Vec<u8>>>,
        read_at_most: Option<usize>,
        fail_read_after: Option<(usize, Errno)>,
        answers: RefCell<VecDeque<Result<(), CallError>>>,
        /// What was asked of the kernel, but for reads.
        pub calls: RefCell<Vec<String>>,
        /// The images given to init_module.
        pub images: RefCell<Vec<Vec<u8>>>,
        clock: Cell<u64>,
        lacks_finit: bool,
        lacks_userfaultfd: bool,
    }

    /// What the fake window takes, and the piece in which it asks for the image.
    pub const WINDOW_BYTES: usize = 48 << 10;

    /// An open file of [`Fake`].
    pub struct File {
        path: String,
        content: Rc<Vec<u8>>,
        position: Cell<usize>,
    }

    impl Fake {
        pub fn with_file(mut self, path: &str, content: &[u8]) -> Self {
            self.files.insert(path.into(), Rc::new(content.to_vec()));
            self
        }
        pub fn reading_at_most(mut self, bytes: usize) -> Self {
            self.read_at_most = Some(bytes);
            self
        }
        pub fn failing_read_after(mut self, bytes: usize, errno: Errno) -> Self {
            self.fail_read_after = Some((bytes, errno));
            self
        }
        pub fn without_finit(mut self) -> Self {
            self.lacks_finit = true;
            self
        }
        pub fn without_userfaultfd(mut self) -> Self {
            self.lacks_userfaultfd = true;
            self
        }
        /// What the next calls of finit_module and init_module return; success once these are used up.
        pub fn answering(self, answers: &[Result<(), Errno>]) -> Self {
            self.answers.borrow_mut().extend(answers.iter().map(|answer| answer.map_err(CallError::Kernel)));
            self
        }
        /// What follows them: this failure.
        pub fn then(self, error: CallError) -> Self {
            self.answers.borrow_mut().push_back(Err(error));
            self
        }
        fn record(&self, call: String) {
            self.calls.borrow_mut().push(call);
        }
        fn answer(&self, caller: Caller) -> Result<(), CallError> {
            let answer = self.answers.borrow_mut().pop_front().unwrap_or(Ok(()));
            if let Err(CallError::TimedOut { .. }) = answer {
                self.clock.set(self.clock.get() + u64::from(caller.timeout_ms().unwrap()) * 1000);
            }
            answer
        }
    }

    /// Who makes a call, as it is recorded.
    fn by(caller: Caller) -> String {
        match caller {
            Caller::Itself => String::new(),
            Caller::Child => " in a child".into(),
            Caller::Within(ms) => format!(" in a child within {ms} ms"),
        }
    }

    impl Kernel for Fake {
        type File = File;
        type Region = Vec<u8>;
        type Paged = Vec<u8>;

        fn open(&self, path: &CStr) -> Result<File, Errno> {
            let path = path.to_str().unwrap().to_string();
            self.record(format!("open {path}"));
            let is_folder = || self.files.keys().any(|file| file.starts_with(&format!("{path}/")));
            let content = self.files.get(&path).cloned().or_else(|| is_folder().then(Default::default));
            let content = content.ok_or(Errno::ENOENT)?;
            Ok(File { path, content, position: Cell::new(0) })
        }
        fn open_beneath(&self, dir: &File, path: &CStr) -> Result<File, Errno> {
            let path = path.to_str().unwrap();
            if path.split('/').any(|part| part == "..") {
                return Err(Errno::EXDEV);
            }
            self.open(&std::ffi::CString::new(format!("{}/{path}", dir.path)).unwrap())
        }
        fn read(&self, file: &File, buf: &mut [u8]) -> Result<usize, Errno> {
            let n = self.read_at(file, buf, file.position.get() as u64)?;
            file.position.set(file.position.get() + n);
            Ok(n)
        }
        fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
            let rest = file.content[..].get(offset as usize..).unwrap_or_default();
            if let Some((_, errno)) = self.fail_read_after.filter(|(bytes, _)| offset as usize >= *bytes) {
                return Err(errno);
            }
            let n = rest.len().min(buf.len()).min(self.read_at_most.unwrap_or(usize::MAX));
            buf[..n].copy_from_slice(&rest[..n]);
            Ok(n)
        }
        fn stat(&self, file: &File) -> Result<Stat, Errno> {
            Ok(Stat { kind: FileKind::Regular, size_bytes: file.content.len() as u64, device: 1 })
        }
        fn finit_module(&self, file: &File, params: &CStr, flags: u32, caller: Caller) -> Result<(), CallError> {
            self.record(format!("finit {} {:?} {flags}{}", file.path, params.to_str().unwrap(), by(caller)));
            if self.lacks_finit {
                return Err(CallError::Kernel(Errno::ENOSYS));
            }
            self.answer(caller)
        }
        fn has_finit_module(&self) -> bool {
            !self.lacks_finit
        }
        fn init_module(&self, image: &[u8], params: &CStr, caller: Caller) -> Result<(), CallError> {
            self.record(format!("init {:?}{}", params.to_str().unwrap(), by(caller)));
            self.images.borrow_mut().push(image.to_vec());
            self.answer(caller)
        }
        fn stream_window_bytes(&self) -> Option<usize> {
            self.record("userfaultfd".into());
            (!self.lacks_userfaultfd).then_some(WINDOW_BYTES)
        }
        fn stream_module(
            &self, len_bytes: usize, params: &CStr, caller: Caller, open: Opener,
        ) -> Result<(), StreamError> {
            let within = caller.timeout_ms().map_or(String::new(), |ms| format!(" within {ms} ms"));
            self.record(format!("stream {len_bytes} {:?}{within}", params.to_str().unwrap()));
            let mut image = vec![0; len_bytes];
            open(&mut |source| {
                for piece in image.chunks_mut(WINDOW_BYTES / 3) {
                    if source.read(piece)? != piece.len() {
                        return Err(DecodeError::Length.into());
                    }
                }
                Ok(source.finish()?)
            })?;
            self.images.borrow_mut().push(image);
            Ok(self.answer(caller)?)
        }
        fn forget(&self, file: &File, offset: u64, len_bytes: u64) {
            self.record(format!("forget {} {offset} {len_bytes}", file.path));
        }
        fn unlink_from_memory(&self, path: &CStr) -> Result<(), Errno> {
            self.record(format!("unlink {}", path.to_str().unwrap()));
            Ok(())
        }
        fn map(&self, file: &File, len_bytes: usize) -> Result<Vec<u8>, Errno> {
            self.record(format!("map {}", file.path));
            Ok(file.content[..len_bytes].to_vec())
        }
        fn paged(&self, file: File, len_bytes: usize) -> Result<Vec<u8>, Errno> {
            self.map(&file, len_bytes)
        }
        fn allocate(&self, len_bytes: usize) -> Result<Vec<u8>, Errno> {
            self.record(format!("allocate {len_bytes}"));
            Ok(vec![0; len_bytes])
        }
        fn list(&self, folder: &CStr, each: &mut dyn FnMut(&str)) -> Result<(), Errno> {
            let folder = format!("{}/", folder.to_str().unwrap());
            let below = self.files.keys().filter_map(|path| path.strip_prefix(&folder));
            let names: std::collections::BTreeSet<_> = below.map(|rest| rest.split('/').next().unwrap()).collect();
            names.iter().for_each(|name| each(name));
            if names.is_empty() { Err(Errno::ENOENT) } else { Ok(()) }
        }
        fn exists(&self, path: &CStr) -> bool {
            self.files.contains_key(path.to_str().unwrap())
        }
        fn spawn(&self, argv: &[&CStr], envp: &[&CStr], timeout_ms: Option<u32>) -> Result<i32, Errno> {
            let within = timeout_ms.map_or(String::new(), |ms| format!(" within {ms} ms"));
            self.record(format!("spawn {argv:?} {envp:?}{within}"));
            match self.answer(Caller::Itself) {
                Err(CallError::Kernel(errno)) => Err(errno),
                answer => answer.map(|()| 0).map_err(|error| panic!("{error:?}")),
            }
        }
        fn uevents(&self) -> Option<File> {
            None
        }
        fn wait(&self, _: Option<&File>, timeout_ms: u32) {
            self.clock.set(self.clock.get() + u64::from(timeout_ms) * 1000);
        }
        fn release<'b>(&self, _: &'b mut [u8; 65]) -> Result<&'b str, Errno> {
            Ok("6.1.0-test")
        }
        fn log_record(&self, record: &[u8]) {
            self.record(format!("log {}", String::from_utf8_lossy(record)));
        }
        fn now_us(&self) -> u64 {
            self.clock.replace(self.clock.get() + 10)
        }
    }
}
