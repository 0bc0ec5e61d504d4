//! `modest`: loads the kernel modules that a manifest names, as PID 1 of an initramfs or called by another init.
//!
//! Here are the entry and the choice of what to be. [`pid1`] has the duties of an init, [`switch_root`] the way to the real
//! root, [`applets`] what is called by hand, [`console`] where lines go, [`start`] what Rust takes for granted.

#![no_std]
#![no_main]

mod applets;
#[cfg(feature = "bench")]
mod bench;
mod console;
mod pid1;
mod start;
mod switch_root;

use modest_loader::sys::{self, StringArray};

/// The name that every line of output begins with.
const NAME: &str = "modest";

fn main(argv: StringArray, envp: StringArray) -> ! {
    if sys::getpid() == 1 { pid1::main(argv, envp) } else { sys::exit(applets::main(argv)) }
}
