//! Holds what mkmodest would load for a name to what kmod's modprobe would.

mod cmdline;
mod kmod;
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
