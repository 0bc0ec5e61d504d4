//! The modules that a device tree asks for, as the options of several commands choose them.

use anyhow::{Result, bail};

use crate::device_tree::{Devices, NodeId};
use crate::words::did_you_mean;

/// The modules, in order: those on the way to the disk of `root`, or of all controllers; or with `all` those of all devices.
pub fn modules(devices: &Devices, root: Option<&str>, all: bool) -> Result<Vec<String>> {
    let wanted = match root {
        Some(name) => vec![named(devices, name)?],
        None => devices.disks(),
    };
    if wanted.is_empty() && !all {
        bail!("{}: no device that brings a disk and that a module drives; --all takes all devices", devices.file);
    }
    let of_disks = wanted.iter().flat_map(|device| devices.modules_to_disk(*device));
    let others = devices.ids().filter(|_| all).flat_map(|device| devices.modules_for(device));
    let mut modules = Vec::new();
    for name in of_disks.chain(others) {
        if !modules.contains(&name) {
            modules.push(name);
        }
    }
    Ok(modules)
}

/// The device of that name, if the kernel has a driver for it.
fn named(devices: &Devices, name: &str) -> Result<NodeId> {
    let tree = &devices.tree;
    let Some(device) = tree.find(name) else {
        let names: Vec<_> = devices.ids().map(|id| tree[id].name.as_str()).collect();
        bail!("{}: no enabled node {name}{}", devices.file, did_you_mean(name, names))
    };
    if devices.driver(device).modules().is_empty() && !devices.driver(device).is_builtin() {
        let says = tree[device].modalias().unwrap_or("no compatible".into());
        bail!("{}: {name} ({says}): this kernel has no driver for it", devices.file);
    }
    Ok(device)
}
