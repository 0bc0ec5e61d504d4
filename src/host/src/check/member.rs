//! The modules of a set, and what is known around them.

use modest_loader::elf::Machine;

use crate::kernel::{KernelSymbols, TreeSymbols};
use crate::module::info::ModuleInfo;

/// A module of a set.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its file, for messages.
    pub file: &'a str,
    /// What it tells.
    pub info: &'a ModuleInfo,
    /// Its parameters, as the kernel gets them.
    pub params: &'a str,
}

/// What is known of the kernel that a set is for.
#[derive(Clone, Copy, Default)]
pub struct Around<'a> {
    /// What the board is.
    pub machine: Option<Machine>,
    /// Its release.
    pub release: Option<&'a str>,
    /// What it exports.
    pub kernel: Option<&'a KernelSymbols>,
    /// What its modules export, those of the set and all others.
    pub tree: Option<&'a TreeSymbols>,
}
