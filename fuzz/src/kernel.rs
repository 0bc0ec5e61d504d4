//! A kernel made of an input: files in memory, reads that are short or fail, and answers to the calls that load modules.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{CStr, CString};
use std::rc::Rc;

use modest_loader::errno::Errno;
use modest_loader::format::Format;
use modest_loader::kernel::{FileKind, Kernel, Opener, Pages, Stat, StreamError, WorkerError};
use modest_loader::name;
use modest_loader::source::DecodeError;

/// The most memory that can be had in one piece: what a file of a few KB claims must not be believed.
pub const ALLOCATE_BYTES: usize = 16 << 20;

/// Calls after which something goes round in circles.
const MOST_CALLS: u64 = 2_000_000;

/// The piece in which an image is taken from its source, less than a page so that small images have several.
const PIECE_BYTES: usize = 1000;

/// See the module.
#[derive(Debug, Default)]
pub struct Memory {
    files: BTreeMap<String, Content>,
    /// The most that a read gives, if not 0.
    pub read_at_most: usize,
    /// From which byte on reading a file fails.
    pub fails_from: Option<u64>,
    /// What calls that load say, one after the other; see [`Memory::answer`].
    pub answers: RefCell<VecDeque<u8>>,
    /// Whether finit_module is missing.
    pub lacks_finit: bool,
    /// Whether userfaultfd is missing.
    pub lacks_window: bool,
    /// The images that init_module was given, or that were streamed.
    pub images: RefCell<Vec<Vec<u8>>>,
    /// The modules that are there.
    pub loaded: RefCell<BTreeSet<String>>,
    /// How many calls loaded a module.
    pub successes: Cell<usize>,
    /// How many were for a module that was there.
    pub repeats: Cell<usize>,
    /// Programs that ran, and those of them that ended well.
    pub spawned: Cell<usize>,
    /// See `spawned`.
    pub done: Cell<usize>,
    /// How many files were deleted.
    pub unlinked: Cell<usize>,
    /// The module file that was opened last, and what the last call for it said.
    current: RefCell<(String, Option<Errno>, bool)>,
    /// The time that the worker at work has, in ms, and once that is over, whether the worker is left behind.
    worker: Cell<(Option<u32>, Option<bool>)>,
    calls: Cell<u64>,
    clock_us: Cell<u64>,
}

#[derive(Debug)]
struct Content {
    bytes: Rc<[u8]>,
    /// The module without which there is no such file.
    needs: Option<String>,
}

/// An open file of [`Memory`].
#[derive(Debug)]
pub struct File {
    path: String,
    content: Rc<[u8]>,
    kind: FileKind,
    position: Cell<u64>,
}

/// A file of [`Memory`] that is read by pages, with those that cannot be.
#[derive(Debug)]
pub struct Paged {
    content: Rc<[u8]>,
    fails_from: Option<u64>,
}

impl Pages for Paged {
    fn len_bytes(&self) -> usize {
        self.content.len()
    }
    fn get(&self, at: usize, len_bytes: usize) -> Result<&[u8], Errno> {
        let end = at.checked_add(len_bytes).ok_or(Errno::EFAULT)?;
        if self.fails_from.is_some_and(|from| end as u64 > from) {
            return Err(Errno::EIO);
        }
        self.content[..].get(at..end).ok_or(Errno::EFAULT)
    }
}

impl Memory {
    /// One whose reads give so much at most, and fail from the byte before this one on; 0 is no limit.
    pub fn new(read_at_most: u8, fails_from: usize) -> Self {
        let fails_from = (fails_from as u64).checked_sub(1);
        Memory { read_at_most: read_at_most.into(), fails_from, ..Memory::default() }
    }

    /// With another file.
    pub fn with_file(mut self, path: &str, bytes: &[u8]) -> Self {
        self.add_file(path, bytes);
        self
    }

    /// Adds a file.
    pub fn add_file(&mut self, path: &str, bytes: &[u8]) {
        self.files.insert(path.into(), Content { bytes: bytes.into(), needs: None });
    }

    /// Adds a file that is there once a module is.
    pub fn add_file_of(&mut self, module: &str, path: &str, bytes: &[u8]) {
        self.files.insert(path.into(), Content { bytes: bytes.into(), needs: Some(module.into()) });
    }

    fn count(&self) {
        self.calls.set(self.calls.get() + 1);
        assert!(self.calls.get() < MOST_CALLS, "goes on without an end");
    }

    fn file(&self, path: &str) -> Option<Rc<[u8]>> {
        if let Some(name) = path.strip_prefix("/sys/module/").and_then(|rest| rest.strip_suffix("/initstate"))
            && self.loaded.borrow().contains(name)
        {
            return Some(b"live\n"[..].into());
        }
        let Content { bytes, needs } = self.files.get(path)?;
        let is_there = needs.as_ref().is_none_or(|name| self.loaded.borrow().contains(name));
        is_there.then(|| bytes.clone())
    }

    fn below<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a str> {
        let start = format!("{}/", folder.trim_end_matches('/'));
        let paths = self.files.range(start.clone()..).map(|(path, _)| path.as_str());
        let paths = paths.take_while(move |path| path.starts_with(&start));
        paths.filter(|path| self.file(path).is_some()).map(move |path| &path[folder.trim_end_matches('/').len() + 1..])
    }

    /// What a call that loads the module in `path` says. What fails may be tried otherwise only where nothing of it ran.
    fn answer(&self, path: &str, by_finit: bool) -> Result<(), Errno> {
        let (current, last, was_finit) = self.current.take();
        match last {
            Some(Errno::ENOSYS) if self.lacks_finit && was_finit => {}
            Some(Errno::ENOEXEC) if was_finit => {}
            Some(errno) if current == path => panic!("{path} is tried again after {errno}"),
            _ => {}
        }
        let name = name::of(path).to_string();
        let result = if by_finit && self.lacks_finit {
            Err(Errno::ENOSYS)
        } else if self.loaded.borrow().contains(&name) {
            self.repeats.set(self.repeats.get() + 1);
            Err(Errno::EEXIST)
        } else {
            let answer = self.answers.borrow_mut().pop_front().unwrap_or(0);
            if let (9 | 10, (Some(_), None)) = (answer, self.worker.get()) {
                self.worker.set((self.worker.get().0, Some(answer == 10)));
                *self.current.borrow_mut() = (path.to_string(), Some(Errno::ETIMEDOUT), by_finit);
                return Err(Errno::ETIMEDOUT);
            }
            match answer {
                1 => Err(Errno::ENODEV),
                2 => Err(Errno::ENOEXEC),
                3 => Err(Errno::EEXIST),
                4 => Err(Errno::EPERM),
                5 => Err(Errno::EINVAL),
                6 => Err(Errno::ENOSYS),
                7 => Err(Errno::ENOENT),
                8 => Err(Errno::ENOMEM),
                _ => Ok(()),
            }
        };
        // A success is told by a number that is no error.
        *self.current.borrow_mut() = (path.to_string(), Some(result.err().unwrap_or(Errno(0))), by_finit);
        if result.is_ok() {
            self.loaded.borrow_mut().insert(name);
            self.successes.set(self.successes.get() + 1);
        }
        result
    }
}

impl Kernel for Memory {
    type File = File;
    type Region = Vec<u8>;
    type Paged = Paged;

    fn open(&self, path: &CStr) -> Result<File, Errno> {
        self.count();
        let path = path.to_str().map_err(|_| Errno::ENOENT)?.to_string();
        // What is asked for while a module's file is open.
        let is_aside = ["/proc/meminfo", "/proc/self/status", "/sys/module/compression"].contains(&path.as_str());
        if !is_aside && !path.ends_with("/initstate") {
            *self.current.borrow_mut() = (path.clone(), None, false);
        }
        let (content, kind) = match self.file(&path) {
            Some(content) => (content, FileKind::Regular),
            None if self.below(&path).next().is_some() => (Rc::default(), FileKind::Directory),
            None => return Err(Errno::ENOENT),
        };
        Ok(File { path, content, kind, position: Cell::new(0) })
    }
    fn open_beneath(&self, dir: &File, path: &CStr) -> Result<File, Errno> {
        let below = path.to_str().map_err(|_| Errno::ENOENT)?;
        let mut depth = 0;
        for part in below.split('/') {
            depth += match part {
                "" | "." => 0,
                ".." => -1,
                _ => 1,
            };
            if depth < 0 {
                return Err(Errno::EXDEV);
            }
        }
        if below.starts_with('/') {
            return Err(Errno::EXDEV);
        }
        let path = format!("{}/{below}", dir.path.trim_end_matches('/'));
        self.open(&CString::new(path).map_err(|_| Errno::ENOENT)?)
    }
    fn read(&self, file: &File, buf: &mut [u8]) -> Result<usize, Errno> {
        let n = self.read_at(file, buf, file.position.get())?;
        file.position.set(file.position.get() + n as u64);
        Ok(n)
    }
    fn read_at(&self, file: &File, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.count();
        if file.kind != FileKind::Regular {
            return Err(Errno::EISDIR);
        }
        // As pread(2), which takes no offset that is negative as a signed number.
        if i64::try_from(offset).is_err() {
            return Err(Errno::EINVAL);
        }
        // No file system cuts a read of a few bytes.
        let mut most = if self.read_at_most == 0 { usize::MAX } else { self.read_at_most.max(64) };
        if let Some(from) = self.fails_from {
            match from.checked_sub(offset) {
                None | Some(0) => return Err(Errno::EIO),
                Some(left) => most = most.min(left as usize),
            }
        }
        let rest = usize::try_from(offset).ok().and_then(|at| file.content[..].get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len()).min(most);
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }
    fn stat(&self, file: &File) -> Result<Stat, Errno> {
        self.count();
        Ok(Stat { kind: file.kind, size_bytes: file.content.len() as u64, device: 1 })
    }
    fn in_worker<T: Copy + 'static>(
        &self, timeout_ms: Option<u32>, job: &mut dyn FnMut() -> T,
    ) -> Result<T, WorkerError> {
        self.worker.set((timeout_ms, None));
        let result = job();
        let (timeout_ms, left) = self.worker.take();
        let (Some(timeout_ms), Some(is_left)) = (timeout_ms, left) else { return Ok(result) };
        self.clock_us.set(self.clock_us.get() + u64::from(timeout_ms) * 1000);
        Err(WorkerError::TimedOut { timeout_ms, is_left })
    }
    fn finit_module(&self, file: &File, _: &CStr, _: u32) -> Result<(), Errno> {
        self.count();
        self.answer(&file.path, true)
    }
    fn has_finit_module(&self) -> bool {
        !self.lacks_finit
    }
    fn init_module(&self, image: &[u8], _: &CStr) -> Result<(), Errno> {
        self.count();
        // The state of a module may be named in place of one; it is opened without being noted.
        if Format::of(image) != Format::Plain || image == b"live\n" {
            return Err(Errno::ENOEXEC);
        }
        self.images.borrow_mut().push(image.to_vec());
        let path = self.current.borrow().0.clone();
        self.answer(&path, false)
    }
    fn stream_window_bytes(&self) -> Option<usize> {
        (!self.lacks_window).then_some(3 * PIECE_BYTES)
    }
    fn stream_module(&self, len_bytes: usize, _: &CStr, open: Opener) -> Result<(), StreamError> {
        self.count();
        // Where the machine does not tell what it has, what the file claims is found out here.
        if len_bytes > ALLOCATE_BYTES {
            return Err(StreamError::Memory(Errno::ENOMEM));
        }
        let mut image = vec![0; len_bytes];
        open(&mut |source| {
            for piece in image.chunks_mut(PIECE_BYTES) {
                if source.read(piece)? != piece.len() {
                    return Err(DecodeError::Length.into());
                }
            }
            Ok(source.finish()?)
        })?;
        if Format::of(&image) != Format::Plain {
            return Err(StreamError::Call(Errno::ENOEXEC));
        }
        self.images.borrow_mut().push(image);
        let path = self.current.borrow().0.clone();
        self.answer(&path, false).map_err(StreamError::Call)
    }
    fn free_bytes(&self) -> u64 {
        0
    }
    fn forget(&self, file: &File, offset: u64, len_bytes: u64) {
        assert!(offset + len_bytes <= file.content.len() as u64);
    }
    fn unlink_from_memory(&self, _: &CStr) -> Result<(), Errno> {
        self.count();
        self.unlinked.set(self.unlinked.get() + 1);
        Ok(())
    }
    fn map(&self, file: &File, len_bytes: usize) -> Result<Vec<u8>, Errno> {
        self.count();
        assert!(len_bytes > 0, "mmap refuses a length of 0");
        match self.fails_from.filter(|from| len_bytes as u64 > *from) {
            Some(_) => Err(Errno::ENOMEM),
            None => Ok(file.content[..len_bytes].to_vec()),
        }
    }
    fn paged(&self, file: File, len_bytes: usize) -> Result<Paged, Errno> {
        self.count();
        assert_eq!(len_bytes, file.content.len());
        Ok(Paged { content: file.content, fails_from: self.fails_from })
    }
    fn allocate(&self, len_bytes: usize) -> Result<Vec<u8>, Errno> {
        self.count();
        assert!(len_bytes > 0, "mmap refuses a length of 0");
        if len_bytes > ALLOCATE_BYTES { Err(Errno::ENOMEM) } else { Ok(vec![0; len_bytes]) }
    }
    fn list(&self, folder: &CStr, each: &mut dyn FnMut(&str)) -> Result<(), Errno> {
        self.count();
        let folder = folder.to_str().map_err(|_| Errno::ENOENT)?;
        // What appears meanwhile is not told.
        let names: BTreeSet<_> =
            self.below(folder).map(|rest| rest.split('/').next().unwrap_or_default().to_string()).collect();
        names.iter().for_each(|name| each(name));
        if names.is_empty() { Err(Errno::ENOENT) } else { Ok(()) }
    }
    fn exists(&self, path: &CStr) -> bool {
        self.count();
        path.to_str().is_ok_and(|path| self.file(path).is_some())
    }
    fn spawn(&self, argv: &[&CStr], _: &[&CStr], _: Option<u32>) -> Result<i32, Errno> {
        self.count();
        assert_eq!(argv.len(), 3, "{argv:?}");
        self.spawned.set(self.spawned.get() + 1);
        match self.answers.borrow_mut().pop_front().unwrap_or(0) {
            1 => Err(Errno::ENOENT),
            2 => Ok(256),
            3 => Ok(9),
            _ => {
                self.done.set(self.done.get() + 1);
                Ok(0)
            }
        }
    }
    fn uevents(&self) -> Option<File> {
        None
    }
    fn wait(&self, _: Option<&File>, timeout_ms: u32) {
        self.count();
        // Something happens after half of the time.
        self.clock_us.set(self.clock_us.get() + (u64::from(timeout_ms) * 500).max(1));
    }
    fn release<'b>(&self, _: &'b mut [u8; 65]) -> Result<&'b str, Errno> {
        Ok("6.1")
    }
    fn log_record(&self, record: &[u8]) {
        self.count();
        assert!(record.ends_with(b"\n"));
    }
    fn now_us(&self) -> u64 {
        self.clock_us.replace(self.clock_us.get() + 1)
    }
}
