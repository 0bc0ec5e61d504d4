//! The whole of modest's thinking: reads a manifest, finds and loads the modules it names, and says why one failed.
//!
//! No libc, no heap, and no unsafe code outside [`sys`]. One vocabulary: a **manifest** has lines, of which each names an
//! **entry**; an entry is resolved to a **plan** of module files; a file holds a module's **image**, perhaps compressed; a
//! **load path** puts it into the kernel within the **budget**.
//!
//! Where to look: [`run`] is the one loop. It reads lines ([`lines`], [`manifest`]), resolves names ([`resolve`]), loads
//! ([`load`], with [`image`] and [`decode`]), and reports ([`report`], [`explain`] with [`elf`]). [`cmdline`] and [`root`] serve PID 1.
//! Every capacity is in [`limits`].

#![cfg_attr(not(test), no_std)]

use core::fmt;

pub mod cmdline;
pub mod decode;
pub mod elf;
pub mod errno;
pub mod explain;
pub mod format;
pub mod kernel;
pub mod limits;
pub mod load;
pub mod load_path;
pub mod manifest;
pub mod name;
pub mod pin;
pub mod report;
pub mod resolve;
pub mod root_device;
pub mod run;
pub mod source;
pub mod sys;
pub mod text;

/// A path as the kernel takes it, in fixed memory.
pub type Path = heapless::CString<{ limits::PATH_BYTES }>;

/// The path that `text` spells; `None` as with [`path`].
pub fn path_of(text: fmt::Arguments) -> Option<Path> {
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

/// Joins `parts` to a path; `None` when it would be longer than [`limits::PATH_BYTES`] or holds a NUL.
pub fn path(parts: &[&[u8]]) -> Option<Path> {
    let mut path = Path::new();
    for part in parts {
        path.extend_from_bytes(part).ok()?;
    }
    Some(path)
}
