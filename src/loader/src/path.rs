//! Paths and file names as the kernel takes them, in fixed memory.

use core::fmt;

use crate::limits::{FILE_NAME_BYTES, PATH_BYTES};

/// A path with its NUL.
pub type Path = heapless::CString<PATH_BYTES>;

/// A file's name in its folder.
pub type FileName = heapless::String<FILE_NAME_BYTES>;

/// The path that `text` spells; `None` as with [`joined`].
pub fn spelled(text: fmt::Arguments) -> Option<Path> {
    struct Spelled(Path);
    impl fmt::Write for Spelled {
        fn write_str(&mut self, part: &str) -> fmt::Result {
            self.0.extend_from_bytes(part.as_bytes()).map_err(|_| fmt::Error)
        }
    }
    let mut path = Spelled(Path::new());
    fmt::write(&mut path, text).ok()?;
    Some(path.0)
}

/// Joins `parts` to a path; `None` when it would be longer than [`PATH_BYTES`] or holds a NUL.
pub fn joined(parts: &[&[u8]]) -> Option<Path> {
    let mut path = Path::new();
    for part in parts {
        path.extend_from_bytes(part).ok()?;
    }
    Some(path)
}
