//! The devices of a board: its device tree, what drives each of them, and what each needs before.
//!
//! Which modules an image has does not matter here; [`crate::check`] holds them to it.

mod cells;
mod disks;
mod drivers;
mod file;
mod links;
#[cfg(test)]
pub(crate) mod made;
mod needs;
mod property;
mod tree;

pub use disks::{DISK_KINDS, DiskKind};
pub use drivers::{Driver, Drivers};
pub use links::Link;
pub(crate) use needs::add_new;
pub use needs::{Devices, Need};
pub use property::{Strength, in_words};
pub use tree::{DeviceTree, Node, NodeId};
