//! The kernel by raw system calls: the only place of this library with unsafe code.
//!
//! One system call is one safe function with the kernel's name that takes slices, C strings and file descriptors and
//! returns the kernel's errno. What is decided from the answers does not belong here.

#![allow(unsafe_code)]

#[cfg_attr(target_arch = "arm", path = "arch/arm.rs")]
#[cfg_attr(target_arch = "aarch64", path = "arch/aarch64.rs")]
#[cfg_attr(target_arch = "riscv64", path = "arch/riscv64.rs")]
#[cfg_attr(target_arch = "x86_64", path = "arch/x86_64.rs")]
mod arch;

#[cfg(feature = "bench")]
pub mod bench;
mod calls;
mod child;
#[cfg(not(test))]
mod gate;
#[cfg(test)]
#[path = "injected.rs"]
pub(crate) mod gate;
mod linux;
mod paged;
mod stream;
mod worker;

#[cfg(not(any(target_arch = "arm", target_arch = "aarch64", target_arch = "riscv64", target_arch = "x86_64")))]
compile_error!("modest knows the system calls of arm, aarch64, riscv64 and x86_64");

pub use calls::*;
pub use linux::Linux;
pub use paged::Paged;
