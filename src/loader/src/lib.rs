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

#[cfg(feature = "explain")]
pub mod check;
pub mod cmdline;
pub mod decode;
pub mod elf;
pub mod errno;
pub mod explain;
pub mod format;
#[cfg(feature = "explain")]
pub mod kallsyms;
pub mod kernel;
#[cfg(feature = "explain")]
pub mod klog;
pub mod limits;
pub mod load;
pub mod load_path;
pub mod manifest;
pub mod name;
pub mod path;
pub mod pin;
pub mod report;
pub mod resolve;
pub mod root_device;
pub mod run;
pub mod source;
pub mod sys;
pub mod text;

pub use path::{Path, joined as path, spelled as path_of};
