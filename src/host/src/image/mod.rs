//! Images: from a board's modules to an initramfs, and back.

mod archive;
mod build;
mod contents;
mod firmware;
mod include;
mod init;
mod initramfs;
mod inspect;
mod options;
mod places;
pub mod plan;
mod several;

pub use build::{Image, build, check};
pub use initramfs::Initramfs;
pub use options::{Extra, Options, default_init};
pub use places::{INIT, MANIFEST};
