//! What kmod's `modprobe` would load for a name, as kmod itself tells it.

use std::path::Path;

use anyhow::{Result, bail};

/// The lines that `modprobe -d BASE -S RELEASE -C CONFIG -D NAME` prints (`insmod PATH OPTIONS `, `builtin NAME`,
/// `install CMD OPTIONS`), or the error.
///
/// `config` is a folder of `*.conf`; `cmdline` stands in for `/proc/cmdline`.
pub fn show_depends(
    _base: &Path, _release: &str, _config: Option<&Path>, _cmdline: &str, name: &str,
) -> Result<String> {
    bail!("{name}: not there yet")
}
