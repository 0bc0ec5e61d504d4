//! The running kernel as the rest of the library sees it.

use core::ffi::CStr;

use linux_raw_sys::general as nr;

use super::calls::*;
use super::paged::Paged;
use super::{arch, child, gate, stream, worker};
use crate::errno::Errno;
use crate::kernel::{Kernel, Opener, Stat, StreamError, WorkerError};
use crate::limits::SPAWN_STRINGS;

/// The running kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Linux;

impl Kernel for Linux {
    type File = Fd;
    type Region = Region;
    type Paged = Paged;

    fn open(&self, path: &CStr) -> Result<Fd, Errno> {
        openat(None, path, READING)
    }

    fn open_beneath(&self, dir: &Fd, path: &CStr) -> Result<Fd, Errno> {
        match openat2_beneath(dir, path, READING) {
            Err(Errno::ENOSYS) => open_without_links(dir, path),
            opened => opened,
        }
    }

    fn read(&self, file: &Fd, buf: &mut [u8]) -> Result<usize, Errno> {
        read(file, buf)
    }

    fn read_at(&self, file: &Fd, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        pread64(file, buf, offset)
    }

    fn stat(&self, file: &Fd) -> Result<Stat, Errno> {
        fstat(file)
    }

    fn in_worker<T: Copy + 'static>(
        &self, timeout_ms: Option<u32>, job: &mut dyn FnMut() -> T,
    ) -> Result<T, WorkerError> {
        worker::run(timeout_ms, job)
    }

    fn finit_module(&self, file: &Fd, params: &CStr, flags: u32) -> Result<(), Errno> {
        call(nr::__NR_finit_module, [file.0 as usize, params.as_ptr() as usize, flags as usize]).map(drop)
    }

    fn has_finit_module(&self) -> bool {
        // No file has this number: a kernel that knows the call says EBADF.
        self.finit_module(&Fd::inherited(-1), c"", 0) != Err(Errno::ENOSYS)
    }

    fn init_module(&self, image: &[u8], params: &CStr) -> Result<(), Errno> {
        call(nr::__NR_init_module, [image.as_ptr() as usize, image.len(), params.as_ptr() as usize]).map(drop)
    }

    fn stream_window_bytes(&self) -> Option<usize> {
        stream::window_bytes()
    }

    fn stream_module(&self, len_bytes: usize, params: &CStr, open: Opener) -> Result<(), StreamError> {
        stream::stream(len_bytes, open, |at| gate::init_module(at, len_bytes, params.as_ptr() as usize))
    }

    fn free_bytes(&self) -> u64 {
        free_bytes()
    }

    fn forget(&self, file: &Fd, offset: u64, len_bytes: u64) {
        let _ =
            call(arch::FADVISE64, arch::fadvise64_args(file.0 as usize, offset, len_bytes, nr::POSIX_FADV_DONTNEED));
    }

    fn unlink_from_memory(&self, path: &CStr) -> Result<(), Errno> {
        // Without O_NOFOLLOW a link would be deleted for the sake of the file that it leads to, which stays.
        let in_memory = filesystem_magic(&openat(None, path, READING | O_NOFOLLOW)?).map(is_memory)?;
        if in_memory { unlinkat(None, path, 0) } else { Err(Errno::EXDEV) }
    }

    fn map(&self, file: &Fd, len_bytes: usize) -> Result<Region, Errno> {
        mmap(Some(file), len_bytes, nr::PROT_READ | nr::PROT_WRITE, nr::MAP_PRIVATE)
    }

    fn paged(&self, file: Fd, len_bytes: usize) -> Result<Paged, Errno> {
        Paged::new(file, len_bytes)
    }

    fn allocate(&self, len_bytes: usize) -> Result<Region, Errno> {
        mmap(None, len_bytes, nr::PROT_READ | nr::PROT_WRITE, nr::MAP_PRIVATE | nr::MAP_ANONYMOUS)
    }

    fn list(&self, folder: &CStr, each: &mut dyn FnMut(&str)) -> Result<(), Errno> {
        let dir = openat(None, folder, O_RDONLY | O_DIRECTORY)?;
        let mut buf = [0; 1024];
        loop {
            match getdents64(&dir, &mut buf)? {
                0 => return Ok(()),
                len => directory_entries(&buf[..len]).for_each(|(_, name)| each(name.to_str().unwrap_or_default())),
            }
        }
    }

    fn exists(&self, path: &CStr) -> bool {
        faccessat(path, 0).is_ok()
    }

    fn spawn(&self, argv: &[&CStr], envp: &[&CStr], timeout_ms: Option<u32>) -> Result<i32, Errno> {
        let pointers = |texts: &[&CStr]| {
            let mut pointers = [core::ptr::null(); SPAWN_STRINGS + 1];
            for (to, text) in pointers[..SPAWN_STRINGS].iter_mut().zip(texts) {
                *to = text.as_ptr();
            }
            if texts.len() > SPAWN_STRINGS { Err(Errno::E2BIG) } else { Ok(pointers) }
        };
        let (path, argv, envp) = (argv.first().ok_or(Errno::EINVAL)?, pointers(argv)?, pointers(envp)?);
        child::spawn(path.as_ptr() as usize, argv.as_ptr() as usize, envp.as_ptr() as usize, timeout_ms)
    }

    fn uevents(&self) -> Option<Fd> {
        uevents().ok()
    }

    fn wait(&self, uevents: Option<&Fd>, timeout_ms: u32) {
        /// Not all that is waited for is told of: what a program or a thread of the kernel makes.
        const LOOK_MS: u32 = 20;
        const LOOK_ALL_THE_SAME_MS: u32 = 250;
        while reap() {}
        let Some(uevents) = uevents else { return sleep_ms(timeout_ms.min(LOOK_MS)) };
        if poll([uevents], Some(timeout_ms.min(LOOK_ALL_THE_SAME_MS))).is_ok() {
            // What they say does not matter: all is looked at again. That some were lost is told as an error, once.
            while matches!(read(uevents, &mut [0; 64]), Ok(_) | Err(Errno::ENOBUFS)) {}
        }
    }

    fn release<'b>(&self, buf: &'b mut [u8; 65]) -> Result<&'b str, Errno> {
        uname_release(buf)
    }

    fn log_record(&self, record: &[u8]) {
        if let Ok(log) = openat(None, c"/dev/kmsg", O_WRONLY) {
            let _ = write(&log, record);
        }
    }

    fn now_us(&self) -> u64 {
        monotonic_us()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Output;
    use std::ffi::CString;
    use std::path::Path;

    fn c_path(path: &Path) -> CString {
        CString::new(path.to_str().unwrap()).unwrap()
    }

    /// A folder of this test's own in `parent`, removed when dropped.
    struct Folder(std::path::PathBuf);

    impl Folder {
        fn new(parent: &Path, name: &str) -> Folder {
            let folder = parent.join(format!("modest-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            Folder(folder)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_setting_is_written_whole_and_with_its_newline() {
        let folder = Folder::new(&std::env::temp_dir(), "set");
        let file = folder.0.join("printk_devkmsg");
        assert_eq!(set(&c_path(&file), b"on"), Err(Errno::ENOENT));
        std::fs::write(&file, "").unwrap();
        assert_eq!(set(&c_path(&file), b"on"), Ok(()));
        assert_eq!(std::fs::read(&file).unwrap(), b"on\n");
        assert_eq!(set(&c_path(&file), &[b'x'; 200]), Err(Errno::E2BIG));
        assert_eq!(set(c"/dev/full", b"on"), Err(Errno::ENOSPC));
    }

    #[test]
    fn a_link_is_not_deleted_for_the_file_that_it_leads_to() {
        let (memory, disk) =
            (Folder::new(Path::new("/dev/shm"), "unlink"), Folder::new(&std::env::temp_dir(), "unlink"));
        let (file, link) = (memory.0.join("a.ko"), disk.0.join("a.ko"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(Linux.unlink_from_memory(&c_path(&link)), Err(Errno::ELOOP));
        assert!(link.is_symlink() && file.exists());
        assert_eq!(Linux.unlink_from_memory(&c_path(&file)), Ok(()));
        assert!(!file.exists());
    }

    #[test]
    fn a_full_pipe_is_not_ready() {
        let (reader, writer) = std::io::pipe().unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&writer);
        let out = Fd::inherited(number);
        assert!(out.is_ready(Some(0)));
        while out.is_ready(Some(0)) {
            write(&out, &[0; 4096]).unwrap();
        }
        assert!(!out.is_ready(Some(10)));
        drop(reader);
        assert!(out.is_ready(None), "that nobody reads it, the write says");
    }
}
