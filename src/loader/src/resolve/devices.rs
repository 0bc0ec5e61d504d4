//! The devices that the kernel knows, by their aliases (`MODALIAS=` in sysfs): what a module is asked for by.

use crate::errno::Errno;
use crate::kernel::{Kernel, read_small};
use crate::limits::{INDEX_KEY_BYTES, UEVENT_BYTES};
use crate::report::shown;
use crate::resolve::pattern::{matches_pattern, normalize_alias};
use crate::{path, text};

/// A device with an alias, in sysfs.
#[derive(Clone, Copy, Debug)]
pub struct Device<'d> {
    /// Its alias, as the kernel writes it.
    pub alias: &'d str,
    /// Whether it has a driver.
    pub is_bound: bool,
}

/// Visits the aliases of all devices on these buses, words that are names in `/sys/bus` or `/sys/class`; of all where there is none.
/// What cannot be read is left out, and an error of the last such.
pub fn each<K: Kernel>(kernel: &K, buses: &str, visit: &mut dyn FnMut(Device)) -> Result<(), Errno> {
    let mut result = Ok(());
    let mut keep = |of_one: Result<(), Errno>| match of_one {
        // There need be no such bus, or not yet; a device may be gone by now, and not all that is in a class is one.
        Ok(()) | Err(Errno::ENOENT | Errno::ENODEV | Errno::ENOTDIR) => {}
        error => result = error,
    };
    for bus in buses.split_ascii_whitespace() {
        each_of(kernel, format_args!("/sys/bus/{bus}/devices"), visit, &mut keep);
        each_of(kernel, format_args!("/sys/class/{bus}"), visit, &mut keep);
    }
    if buses.is_empty() {
        let listed = kernel.list(c"/sys/bus", &mut |bus| {
            each_of(kernel, format_args!("/sys/bus/{bus}/devices"), visit, &mut keep);
        });
        keep(listed);
        let listed = kernel.list(c"/sys/class", &mut |class| {
            each_of(kernel, format_args!("/sys/class/{class}"), visit, &mut keep);
        });
        keep(listed);
    }
    result
}

fn each_of<K: Kernel>(
    kernel: &K, folder: core::fmt::Arguments, visit: &mut dyn FnMut(Device), keep: &mut dyn FnMut(Result<(), Errno>),
) {
    let Some(folder) = path::spelled(folder) else { return };
    let listed = kernel.list(&folder, &mut |device| {
        let mut buf = [0; UEVENT_BYTES];
        // Longer paths than ours are none of a bus.
        let Some(path) = path::spelled(format_args!("{}/{device}/uevent", shown(&folder))) else { return };
        let uevent = match read_small(kernel, &path, &mut buf) {
            Ok(uevent) => Some(uevent),
            // Write-only for some.
            Err(Errno::EACCES) => None,
            Err(errno) => {
                keep(Err(errno));
                None
            }
        };
        let lines = || text::fields(core::str::from_utf8(uevent.unwrap_or_default()).unwrap_or_default(), b'\n');
        let is_bound = lines().any(|line| line.starts_with("DRIVER="));
        for alias in lines().filter_map(|line| line.strip_prefix("MODALIAS=")).filter(|alias| !alias.is_empty()) {
            visit(Device { alias, is_bound });
        }
    });
    keep(listed);
}

/// Whether a device has an alias that `pattern` matches; `-` and `_` are equal, but within brackets.
pub fn exists<K: Kernel>(kernel: &K, pattern: &str) -> Result<bool, Errno> {
    let normal = |text: &str| {
        let mut normal = heapless::String::<INDEX_KEY_BYTES>::new();
        normalize_alias(text, &mut normal).ok().map(|()| normal)
    };
    let Some(pattern) = normal(pattern) else { return Ok(false) };
    let mut found = false;
    let read = each(kernel, "", &mut |device| {
        found |= normal(device.alias).is_some_and(|alias| matches_pattern(&pattern, &alias))
    });
    if found { Ok(true) } else { read.map(|()| false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::fake::Fake;

    #[test]
    fn devices_are_found_by_bus_and_by_class() {
        let kernel = Fake::default()
            .with_file("/sys/bus/pci/devices/0000:00:01.0/uevent", b"DRIVER=x\nPCI_ID=1\nMODALIAS=pci:v1d2\n")
            .with_file("/sys/bus/pci/devices/0000:00:02.0/uevent", b"PCI_ID=1\n")
            .with_file("/sys/bus/platform/devices/a/uevent", b"MODALIAS=of:Na-bT\nMODALIAS=acpi:A")
            .with_file("/sys/class/dmi/id/uevent", b"MODALIAS=dmi:x\n");
        let found = |buses| {
            let mut found = Vec::new();
            each(&kernel, buses, &mut |device| found.push(format!("{} {}", device.alias, device.is_bound))).unwrap();
            found
        };
        assert_eq!(found(""), ["pci:v1d2 true", "of:Na-bT false", "acpi:A false", "dmi:x false"]);
        assert_eq!(found("dmi pci none"), ["dmi:x false", "pci:v1d2 true"]);
        for (pattern, is_there) in
            [("pci:v1*", true), ("of:Na_b?", true), ("of:Na[-]bT", false), ("x", false), ("[", false)]
        {
            assert_eq!(exists(&kernel, pattern), Ok(is_there), "{pattern}");
        }
    }
}
