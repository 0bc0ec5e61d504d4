//! The modules that a device tree asks for, as the options of several commands choose them.

use anyhow::{Result, bail};

use crate::device_tree::{Devices, NodeId, add_new};
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
    let mut modules = devices.modules_to_disks(&wanted);
    if all {
        let mut of_all = devices.modules_for(&devices.ids().collect::<Vec<_>>());
        add_new(&mut of_all, modules);
        modules = of_all;
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
