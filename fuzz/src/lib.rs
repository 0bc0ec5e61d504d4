//! What is tried on the loader with arbitrary bytes: a function for each target, that panics if something is wrong.
//!
//! libFuzzer runs them (`scripts/fuzz`, or `cargo fuzz run TARGET`), and a test of `mkmodest` runs them over the corpora.
//! docs/fuzzing.md says what each asserts.

#![deny(unsafe_code)]
#![warn(missing_docs)]

mod codec;
mod elf;
mod kernel;
mod names;
mod program;
mod text;

pub use codec::{gzip, xz, zstd};
pub use elf::{causes, preflight, root};
#[doc(hidden)]
pub use names::indexed;
pub use names::{config, devices, index, tables};
pub use program::run;
pub use text::{cmdline, manifest};

/// A target: takes an input.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("manifest", manifest),
    ("cmdline", cmdline),
    ("gzip", gzip),
    ("xz", xz),
    ("zstd", zstd),
    ("index", index),
    ("tables", tables),
    ("config", config),
    ("devices", devices),
    ("run", run),
    ("preflight", preflight),
    ("causes", causes),
    ("root", root),
];

/// An input that is taken from its start. Where it is used up, all is 0.
struct Input<'i>(&'i [u8]);

impl<'i> Input<'i> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    /// A kernel whose reads are as the next three bytes say: how much one gives, and where it fails.
    fn kernel(&mut self) -> kernel::Memory {
        kernel::Memory::new(self.byte(), self.number())
    }

    /// What is left, in parts that have these bytes, which no text has, between them.
    fn parts(self) -> impl Iterator<Item = &'i [u8]> {
        let mut rest = Some(self.0);
        std::iter::from_fn(move || {
            let all = rest?;
            let at = all.windows(PART.len()).position(|window| window == PART);
            let (part, behind) = at.map_or((all, None), |at| (&all[..at], Some(&all[at + PART.len()..])));
            rest = behind;
            Some(part)
        })
    }
}

/// Between parts of an input.
const PART: &[u8] = b"\xff\xfe";

/// A text: what is not UTF-8 is no part of it.
fn utf8(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_else(|e| std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or_default())
}
