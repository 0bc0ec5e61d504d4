//! The build host's side of modest: makes initramfs images whose init it is, and boots them in QEMU.
//!
//! What can be decided before the target boots is decided here, with the target's own code ([`modest_loader`]): the
//! manifest of an image is resolved, so that the target looks nothing up.
//!
//! The layers, from the top down; none imports one above it:
//! - [`commands`]: the command line, a file for each command, which `main` runs.
//! - [`guest`] boots a board in QEMU; [`disk`] makes the root that it hands over to.
//! - [`image`]: from a board's modules to an initramfs, and back.
//! - [`check`]: what a kernel would refuse of modules.
//! - [`device_tree`]: a board's devices, what drives each, and what each needs before.
//! - [`kernel`]: a board's kernel, its tree of modules, their indexes, and its symbols.
//! - [`board`]: what a board file says.
//! - [`module`]: what is in a module's file, and what is changed in it.
//! - The ground: [`codec`] compresses, `cores` works on all cores, `program` finds programs of the build host, `words`
//!   guesses what was meant.

pub mod board;
pub mod check;
pub mod codec;
pub mod commands;
mod cores;
pub mod device_tree;
pub mod disk;
pub mod guest;
pub mod image;
pub mod kernel;
pub mod module;
mod program;
mod words;
