//! `modest`: loads the kernel modules that a manifest names, as PID 1 of an initramfs or called by another init.
//!
//! This file chooses what to be. From the top down: [`start`] is the entry from the kernel and what Rust takes for
//! granted; [`pid1`] has the duties of an init, [`switch_root`] the way to the real root, [`applets`] what people and
//! other inits call, [`check`] and [`bench`] two of those that a build may leave out, [`panic`] what a fault of this
//! program does; [`hand_over`] has the ways out of PID 1, [`settings`] what the kernel command line says of this
//! program, [`exit`] the exit codes, [`console`] where lines go.

#![no_std]
#![no_main]

mod applets;
#[cfg_attr(not(feature = "bench"), path = "absent/bench.rs")]
mod bench;
#[cfg_attr(not(feature = "explain"), path = "absent/check.rs")]
mod check;
mod console;
mod exit;
mod hand_over;
mod panic;
mod pid1;
mod settings;
mod start;
mod switch_root;

use modest_loader::sys::{self, StringArray};

fn main(argv: StringArray, envp: StringArray) -> ! {
    // In a container an applet may be PID 1: it mounts nothing, and ends.
    if sys::getpid() == 1 && !applets::are_asked_for(argv) {
        pid1::main(argv, envp)
    }
    sys::exit(applets::main(argv))
}
