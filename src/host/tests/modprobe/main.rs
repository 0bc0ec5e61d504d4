//! Holds what mkmodest would load for a name to what kmod's modprobe would, its indexes to those of depmod, and its images
//! to the trees that they are from.
//!
//! How much is tested, the environment may say: `MODEST_TEST_ALIASES` of each of Debian's kernels, and
//! `MODEST_TEST_TREES` at random; `MODEST_TEST_SEED` makes those of an earlier run again.

mod cmdline;
mod depmod;
mod kmod;
mod later;
mod random;
mod trees;

use std::env;

/// How many of a thing to test: the number in the environment variable, where there is one.
fn count(variable: &str, default: usize) -> usize {
    match env::var(variable) {
        Ok(number) => number.parse().unwrap_or_else(|_| panic!("{variable}={number}: expected a number")),
        Err(_) => default,
    }
}
