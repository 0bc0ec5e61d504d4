//! The ways to put a module into the kernel, as manifests name them (`@path=`) and reports do.

use core::fmt;

/// A way to put a module into the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadPath {
    /// `finit_module` of a plain file. No user memory.
    Finit,
    /// `finit_module` of a file in the format that the kernel decompresses itself. No user memory.
    FinitCompressed,
    /// `init_module` of the image read or decoded piece by piece while the kernel copies it. User memory for the window and
    /// the decoder, whatever the image's length.
    Stream,
    /// `init_module` of a mapped plain file. Page cache only.
    Mmap,
    /// `init_module` of the image read or decoded into one region of exactly its size.
    Buffer,
}

impl LoadPath {
    /// All paths.
    pub const ALL: [LoadPath; 5] =
        [LoadPath::Finit, LoadPath::FinitCompressed, LoadPath::Stream, LoadPath::Mmap, LoadPath::Buffer];

    /// As `@path=` names it.
    pub fn name(self) -> &'static str {
        match self {
            LoadPath::Finit => "finit",
            LoadPath::FinitCompressed => "finit-compressed",
            LoadPath::Stream => "stream",
            LoadPath::Mmap => "mmap",
            LoadPath::Buffer => "buffer",
        }
    }

    /// The path that `name` names.
    pub fn from_name(name: &str) -> Option<LoadPath> {
        Self::ALL.into_iter().find(|path| path.name() == name)
    }
}

impl fmt::Display for LoadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
