//! modest's loader: reads a manifest, finds and loads the kernel modules it names, and explains why one failed.
//!
//! No libc, no heap, and no unsafe code outside [`sys`]. One vocabulary: a **manifest** has lines, and each names an **entry**; an
//! entry is resolved to a **plan** of module files; a file holds a module's **image**, perhaps compressed; a **load path** puts it
//! into the kernel within the **budget**.
//!
//! The modules are layers, from the top down. Each uses only what is below it.

#![cfg_attr(not(test), no_std)]

// The run: from the lines of a manifest to jobs, to the failure policy.
pub mod run;

// Why a load failed: the file, the kernel's log and its symbols. And what keeps a kernel from taking a module.
pub mod explain;

// One module into the kernel: the choice of a path, and the calls of each.
pub mod load;

// From names, aliases and devices to files: depmod's indexes, modprobe.d, sysfs.
pub mod resolve;

// What people write: the manifest, the kernel command line, `root=`.
pub mod cmdline;
pub mod manifest;
pub mod root_device;

// Whether a file is a program that can run next.
pub mod program;

// A module's file and the image in it, decoded in fixed memory.
pub mod decode;

// What an image says of itself.
pub mod elf;

// The kernel by raw system calls.
pub mod sys;

// The kernel as the rest sees it: a trait, its types, a fake for tests, the lines of a file, `/proc` and `/sys`.
pub mod kernel;

// The ground: types and functions that know of no kernel and have no state.
pub mod errno;
pub mod format;
pub mod limits;
pub mod load_path;
pub mod name;
pub mod path;
pub mod pin;
pub mod report;
pub mod source;
pub mod text;

pub use path::{Path, joined as path, spelled as path_of};
