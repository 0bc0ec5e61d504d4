//! A file's bytes in memory of our own, where a page of them is read when it is first asked for.

use core::cell::Cell;
use core::fmt;

use super::calls::{Fd, mmap, pread64};
use crate::errno::Errno;
use crate::kernel::{PAGE_BYTES, Pages};
use linux_raw_sys::general as nr;

/// See [`crate::kernel::Kernel::paged`].
pub struct Paged {
    file: Fd,
    /// Whole pages for the file, and behind them a byte for each that is not 0 once it is read.
    memory: super::calls::Region,
    len: usize,
}

impl fmt::Debug for Paged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {:?}", self.len, self.file)
    }
}

impl Paged {
    pub(super) fn new(file: Fd, len: usize) -> Result<Paged, Errno> {
        let pages = len.div_ceil(PAGE_BYTES);
        let total = pages.checked_mul(PAGE_BYTES + 1).ok_or(Errno::EFBIG)?;
        // Most of it is never touched.
        let flags = nr::MAP_PRIVATE | nr::MAP_ANONYMOUS | nr::MAP_NORESERVE;
        Ok(Paged { file, memory: mmap(None, total, nr::PROT_READ | nr::PROT_WRITE, flags)?, len })
    }

    fn is_read(&self, page: usize) -> &Cell<u8> {
        debug_assert!(page < self.len.div_ceil(PAGE_BYTES));
        let at = self.len.div_ceil(PAGE_BYTES) * PAGE_BYTES + page;
        // SAFETY: within the memory, and behind what any slice of the file is of; nobody else refers to it but through cells.
        unsafe { &*self.memory.at.add(at).cast::<Cell<u8>>() }
    }

    /// Reads a page, unless it is there.
    fn need(&self, page: usize) -> Result<(), Errno> {
        if self.is_read(page).get() != 0 {
            return Ok(());
        }
        let start = page * PAGE_BYTES;
        let len = PAGE_BYTES.min(self.len - start);
        // SAFETY: within the memory; as the page was not read yet, there is no other reference to it.
        let to = unsafe { core::slice::from_raw_parts_mut(self.memory.at.add(start), len) };
        let mut done = 0;
        while done < len {
            match pread64(&self.file, &mut to[done..], (start + done) as u64)? {
                // It became shorter.
                0 => return Err(Errno::EIO),
                n => done += n,
            }
        }
        self.is_read(page).set(1);
        Ok(())
    }
}

impl Pages for Paged {
    fn len_bytes(&self) -> usize {
        self.len
    }

    fn get(&self, at: usize, len_bytes: usize) -> Result<&[u8], Errno> {
        let end = at.checked_add(len_bytes).filter(|end| *end <= self.len).ok_or(Errno::EFAULT)?;
        (at / PAGE_BYTES..end.div_ceil(PAGE_BYTES)).try_for_each(|page| self.need(page))?;
        // SAFETY: all of it is within the memory and was read; it is not written again.
        Ok(unsafe { core::slice::from_raw_parts(self.memory.at.add(at), len_bytes) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel;
    use crate::sys::Linux;

    #[test]
    fn a_file_is_read_by_pages_as_it_is_asked_for() {
        let bytes: Vec<u8> = (0..3 * PAGE_BYTES + 5).map(|i| (i ^ i >> 8) as u8).collect();
        let path = std::env::temp_dir().join(format!("modest-paged-{}", std::process::id()));
        std::fs::write(&path, &bytes).unwrap();
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let open = || Linux.paged(Linux.open(&name).unwrap(), bytes.len()).unwrap();
        let paged = open();
        for (at, len) in [(0, 0), (PAGE_BYTES - 1, 2), (5, 7), (3 * PAGE_BYTES, 5), (bytes.len(), 0), (0, bytes.len())]
        {
            assert_eq!(paged.get(at, len), Ok(&bytes[at..at + len]));
        }
        for (at, len) in [(0, bytes.len() + 1), (bytes.len() + 1, 0), (usize::MAX, 2)] {
            assert_eq!(paged.get(at, len), Err(Errno::EFAULT));
        }
        // What is cut off is missed only where it is asked for.
        let paged = open();
        std::fs::write(&path, &bytes[..PAGE_BYTES]).unwrap();
        assert_eq!(paged.get(0, PAGE_BYTES), Ok(&bytes[..PAGE_BYTES]));
        assert_eq!(paged.get(PAGE_BYTES, 1), Err(Errno::EIO));
        std::fs::remove_file(&path).unwrap();
    }
}
