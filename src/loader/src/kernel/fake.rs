//! A kernel made of a table, for tests: files in memory, answers of the module calls by script, every call recorded.

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
    answers: RefCell<VecDeque<Result<(), Errno>>>,
    workers: RefCell<VecDeque<WorkerError>>,
    /// What was asked of the kernel, but for reads.
    pub calls: RefCell<Vec<String>>,
    /// The images given to init_module.
    pub images: RefCell<Vec<Vec<u8>>>,
    clock: Cell<u64>,
    lacks_finit: bool,
    lacks_userfaultfd: bool,
    free_bytes: u64,
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
        self.answers.borrow_mut().extend(answers);
        self
    }
    /// What becomes of the next worker: this, whatever it did.
    pub fn losing(self, error: WorkerError) -> Self {
        self.workers.borrow_mut().push_back(error);
        self
    }
    pub fn with_free_bytes(mut self, bytes: u64) -> Self {
        self.free_bytes = bytes;
        self
    }
    fn record(&self, call: String) {
        self.calls.borrow_mut().push(call);
    }
    fn answer(&self) -> Result<(), Errno> {
        self.answers.borrow_mut().pop_front().unwrap_or(Ok(()))
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
        let is_file = self.files.contains_key(&file.path);
        let kind = if is_file { FileKind::Regular } else { FileKind::Directory };
        Ok(Stat { kind, size_bytes: file.content.len() as u64, device: 1 })
    }
    fn in_worker<T: Copy + 'static>(
        &self, timeout_ms: Option<u32>, job: &mut dyn FnMut() -> T,
    ) -> Result<T, WorkerError> {
        self.record(timeout_ms.map_or("worker".into(), |ms| format!("worker within {ms} ms")));
        let result = job();
        match self.workers.borrow_mut().pop_front() {
            None => Ok(result),
            Some(error) => {
                self.clock.set(self.clock.get() + u64::from(timeout_ms.unwrap_or(0)) * 1000);
                Err(error)
            }
        }
    }
    fn finit_module(&self, file: &File, params: &CStr, flags: u32) -> Result<(), Errno> {
        self.record(format!("finit {} {:?} {flags}", file.path, params.to_str().unwrap()));
        if self.lacks_finit { Err(Errno::ENOSYS) } else { self.answer() }
    }
    fn has_finit_module(&self) -> bool {
        !self.lacks_finit
    }
    fn init_module(&self, image: &[u8], params: &CStr) -> Result<(), Errno> {
        self.record(format!("init {:?}", params.to_str().unwrap()));
        self.images.borrow_mut().push(image.to_vec());
        self.answer()
    }
    fn stream_window_bytes(&self) -> Option<usize> {
        self.record("userfaultfd".into());
        (!self.lacks_userfaultfd).then_some(WINDOW_BYTES)
    }
    fn free_bytes(&self) -> u64 {
        self.free_bytes
    }
    fn stream_module(&self, len_bytes: usize, params: &CStr, open: Opener) -> Result<(), StreamError> {
        self.record(format!("stream {len_bytes} {:?}", params.to_str().unwrap()));
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
        self.answer().map_err(StreamError::Call)
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
        let folder = format!("{}/", folder.to_str().unwrap().trim_end_matches('/'));
        self.record(format!("list {folder}"));
        let below = self.files.keys().filter_map(|path| path.strip_prefix(&folder));
        let names: std::collections::BTreeSet<_> = below.map(|rest| rest.split('/').next().unwrap()).collect();
        names.iter().for_each(|name| each(name));
        if names.is_empty() { Err(Errno::ENOENT) } else { Ok(()) }
    }
    fn exists(&self, path: &CStr) -> bool {
        let (path, folder) = (path.to_str().unwrap(), format!("{}/", path.to_str().unwrap()));
        self.files.keys().any(|file| file == path || file.starts_with(&folder))
    }
    fn spawn(&self, argv: &[&CStr], envp: &[&CStr], timeout_ms: Option<u32>) -> Result<i32, Errno> {
        let within = timeout_ms.map_or(String::new(), |ms| format!(" within {ms} ms"));
        self.record(format!("spawn {argv:?} {envp:?}{within}"));
        self.answer().map(|()| 0)
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
