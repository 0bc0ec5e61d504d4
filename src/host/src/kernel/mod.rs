//! A kernel on the build host: its files, its modules as a tree, what depmod and modprobe make of them, and its symbols.

mod aliases;
mod builtin;
mod config;
pub mod config_files;
pub mod depmod;
mod exporters;
pub mod files;
#[cfg(test)]
pub(crate) mod made;
mod match_table;
pub mod modprobe;
mod order;
mod package;
mod symbols;
mod tree;

pub(crate) use builtin::builtin_aliases;
pub use builtin::{builtin_alias_bin, builtin_bin, builtin_files};
pub use config::KernelConfig;
pub use exporters::TreeSymbols;
pub use package::{KernelPackage, cache};
pub use symbols::KernelSymbols;
pub use tree::Tree;
