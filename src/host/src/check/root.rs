//! Whether the root can appear: a controller that may bring it, the driver that makes it a disk, and its file system.
//!
//! What cannot be known is taken to be there.

use super::problem::{Kind, Problem};
use super::suppliers::DeviceSet;
use crate::device_tree::{DISK_KINDS, DiskKind, NodeId};

/// What the kernel's command line and the board say of the root.
#[derive(Clone, Copy, Debug)]
pub struct Root<'a> {
    /// The value of `root=`.
    pub word: &'a str,
    /// The value of `rootfstype=`.
    pub types: Option<&'a str>,
    /// `root-device` of the board file.
    pub device: Option<&'a str>,
    /// The board file, for messages.
    pub file: &'a str,
}

/// The file systems that a root on a disk may have.
const FILE_SYSTEMS: [&str; 13] = [
    "ext4", "ext2", "ext3", "btrfs", "xfs", "f2fs", "squashfs", "erofs", "vfat", "ubifs", "jffs2", "bcachefs", "ntfs3",
];

/// What keeps the root from appearing.
pub fn root(set: &DeviceSet, root: &Root) -> Vec<Problem> {
    let named = root.device.map(|name| (name, set.devices.tree.find(name)));
    let mut problems = Vec::new();
    // Without modules.builtin nobody knows what the kernel itself has.
    if set.devices.drivers.builtin_modules().next().is_none() {
        return problems;
    }
    if let Some((name, None)) = named
        && !set.devices.file.is_empty()
    {
        let cause = format!("root-device = \"{name}\": {} has no such enabled node", set.devices.file);
        let remedy = "name a node as mmc@2190000, by its path, or by an alias of /aliases";
        problems.push(Problem::new(Kind::Root, root.file, cause, remedy));
    }
    problems.extend(no_disk(set, root, named.and_then(|(_, id)| id)));
    problems.extend(no_file_system(set, root));
    problems
}

/// The problem of a root that no disk can bring.
fn no_disk(set: &DeviceSet, root: &Root, named: Option<NodeId>) -> Option<Problem> {
    let kinds = kinds(set, root.word, named)?;
    let mut lacks = Vec::new();
    for kind in kinds {
        let candidates = match named {
            Some(device) => vec![device],
            None => candidates(set, kind),
        };
        let brings = brings(set, kind, &candidates);
        if brings && set.is_there(kind.disk) {
            return None;
        }
        if brings {
            lacks.push(format!("{} makes a disk of what is found, and is not in the image", kind.disk));
        } else if kind.dev == "sd"
            && !set.is_there("usb_storage")
            && !set.is_there("uas")
            && usb_hosts(set).any(|id| set.serves(id))
        {
            lacks.push("usb_storage is for a USB disk, and is not in the image".into());
        }
        // What lacks no more than a supplier is reported as that.
        if candidates.iter().any(|id| is_driven(set, *id) && !set.serves(*id)) {
            return None;
        }
        if !brings {
            lacks.extend(candidates.iter().filter_map(|id| lack(set, *id)));
        }
    }
    lacks.sort();
    lacks.dedup();
    let cause = match &lacks[..] {
        [] => "nothing in the kernel or in the image drives a disk".into(),
        lacks => lacks.join("; "),
    };
    let cause = format!("root={} cannot appear: {cause}", root.word);
    Some(Problem::new(Kind::Root, root.file, cause, "list the drivers on the way to the root, the first one first"))
}

/// The kinds of disks that the root may be on; none if that cannot be known.
fn kinds(set: &DeviceSet, word: &str, named: Option<NodeId>) -> Option<Vec<&'static DiskKind>> {
    if let Some(device) = named {
        return set.devices.disk_kind(device).map(|kind| vec![kind]);
    }
    match word.strip_prefix("/dev/") {
        None => ["LABEL=", "UUID=", "PARTUUID=", "PARTLABEL="]
            .iter()
            .any(|known| word.starts_with(known))
            .then(|| DISK_KINDS.iter().collect()),
        Some(by) if by.starts_with("disk/by-") => Some(DISK_KINDS.iter().collect()),
        Some(name) => {
            let own = DISK_KINDS.iter().filter(|kind| name.strip_prefix(kind.dev).is_some_and(|rest| !rest.is_empty()));
            let own: Vec<_> = own.collect();
            (!own.is_empty()).then_some(own)
        }
    }
}

/// The devices of the tree that may bring a disk of that kind.
fn candidates(set: &DeviceSet, kind: &DiskKind) -> Vec<NodeId> {
    let of_kind = |id: &NodeId| set.devices.disk_kind(*id).is_some_and(|own| own.dev == kind.dev);
    set.devices.ids().filter(of_kind).collect()
}

/// Whether something brings a disk of that kind.
fn brings(set: &DeviceSet, kind: &DiskKind, candidates: &[NodeId]) -> bool {
    let drivers = &set.devices.drivers;
    let stores = set.is_there("usb_storage") || set.is_there("uas");
    let is_served = |id: &NodeId| set.serves(*id) && (!set.devices.is_usb_host(*id) || kind.dev != "sd" || stores);
    if candidates.iter().any(is_served) {
        return true;
    }
    // Where there is no tree, or what it tells of comes by PCI, the drivers alone are what is known.
    let is_of_kind = |name: &String| {
        let path = drivers.path(name).unwrap_or_default();
        *name != kind.disk && kind.controllers.iter().any(|folder| path.contains(folder))
            || kind.disk == "nvme" && name == "nvme"
    };
    let has_tree = !set.devices.file.is_empty();
    let by_pci =
        |name: &String| !has_tree || has_pci(set) && (name.contains("pci") || name == "ahci" || name == "nvme");
    let is_usb_storage = |name: &String| drivers.path(name).is_some_and(|path| path.contains("/usb/storage/"));
    let usb_by_pci = || set.is_there("xhci_pci") || set.is_there("ehci_pci");
    let can = |name: &String| {
        is_of_kind(name) && by_pci(name) || is_usb_storage(name) && kind.dev == "sd" && has_pci(set) && usb_by_pci()
    };
    set.all().any(can) || drivers.builtin_modules().any(can)
}

/// Whether the tree has a PCI bus whose controller is driven; without a tree there may be one.
fn has_pci(set: &DeviceSet) -> bool {
    let is_pci = |id: &NodeId| set.devices.tree[*id].text("device_type") == Some("pci");
    set.devices.file.is_empty() || set.devices.ids().filter(is_pci).any(|id| set.serves(id))
}

fn usb_hosts<'a>(set: &'a DeviceSet) -> impl Iterator<Item = NodeId> + 'a {
    set.devices.ids().filter(|id| set.devices.is_usb_host(*id))
}

/// What keeps a device from being driven, for people.
fn lack(set: &DeviceSet, device: NodeId) -> Option<String> {
    let node = &set.devices.tree[device].name;
    let module = set.devices.driver(device).best().first()?;
    (!is_driven(set, device)).then(|| format!("{node} needs {module}, which is not in the image"))
}

/// Whether the kernel or the image has a driver of a device.
fn is_driven(set: &DeviceSet, device: NodeId) -> bool {
    let driver = set.devices.driver(device);
    driver.is_builtin() || driver.modules().iter().any(|name| set.has(name))
}

/// The problem of a root whose file system nothing has.
fn no_file_system(set: &DeviceSet, root: &Root) -> Option<Problem> {
    let drivers = &set.devices.drivers;
    let (wanted, says): (Vec<&str>, _) = match root.types {
        Some(types) => (types.split(',').collect(), format!("rootfstype={types}")),
        None => (FILE_SYSTEMS.to_vec(), "no file system for a disk".into()),
    };
    // ext4 has the other two; what is no module of the tree is a name of something else.
    let of = |name: &str| {
        if matches!(name, "ext2" | "ext3") && !set.is_there(name) { "ext4".into() } else { name.replace('-', "_") }
    };
    let can_be_known = wanted.iter().any(|name| drivers.is_module(&of(name)));
    if !can_be_known || wanted.iter().any(|name| set.is_there(&of(name))) {
        return None;
    }
    let of_named = wanted.iter().map(|name| of(name)).find(|name| drivers.is_module(name));
    let module = root.types.and(of_named).unwrap_or_else(|| "the one of the root, ext4 say,".into());
    let cause = format!("root={} cannot be mounted: {says}: neither the kernel nor the image has it", root.word);
    Some(Problem::new(Kind::Root, root.file, cause, format!("list {module}", module = module.trim_end_matches(','))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_tree::{Devices, Drivers, made};
    use crate::kernel::made::tree;

    const DEP: &[u8] = b"kernel/drivers/mmc/host/sdhci-x.ko:\nkernel/fs/ext4/ext4.ko:\nkernel/drivers/scsi/sd_mod.ko:\n\
        kernel/drivers/usb/dwc2/dwc2.ko:\nkernel/drivers/usb/storage/usb-storage.ko:\nkernel/drivers/mmc/core/mmc_block.ko:\n\
        kernel/drivers/block/virtio_blk.ko:\nkernel/drivers/virtio/virtio_mmio.ko:\nkernel/fs/btrfs/btrfs.ko:\n";
    const ALIAS: &[u8] = b"alias of:N*T*Csd sdhci_x\nalias of:N*T*Cusb dwc2\n";
    const TREE: &str = "mmc@1 { compatible = s:sd }
        usb@2 { compatible = s:usb }
        aliases { mmc0 = s:/mmc@1 }";

    fn told(text: Option<&str>, word: &str, loaded: &[&str], device: Option<&str>, types: Option<&str>) -> String {
        let builtin: &[u8] = b"kernel/lib/other.ko\n";
        let (_tmp, kernel) = tree(&[("modules.dep", DEP), ("modules.alias", ALIAS), ("modules.builtin", builtin)]);
        let drivers = Drivers::read(&kernel, Some(Default::default())).unwrap();
        let devices = match text {
            Some(text) => {
                let mut devices = Devices::new(made::tree(text), drivers);
                devices.file = "b.dtb".into();
                devices
            }
            None => Devices::without_tree(drivers),
        };
        let loaded: Vec<_> = loaded.iter().map(|name| name.to_string()).collect();
        let set = DeviceSet { devices: &devices, loaded: &loaded, later: &[], root: None };
        let told = root(&set, &Root { word, types, device, file: "b.toml" });
        told.iter().map(|problem| problem.cause.as_str()).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_root_needs_a_controller_a_disk_and_a_file_system() {
        let mmc = |loaded: &[&str]| told(Some(TREE), "/dev/mmcblk0p1", loaded, None, None);
        assert_eq!(mmc(&["sdhci_x", "mmc_block", "ext4"]), "");
        let says = "root=/dev/mmcblk0p1 cannot appear: ";
        assert_eq!(mmc(&["mmc_block", "ext4"]), format!("{says}mmc@1 needs sdhci_x, which is not in the image"));
        let disk = "mmc_block makes a disk of what is found, and is not in the image";
        assert_eq!(mmc(&["sdhci_x", "ext4"]), format!("{says}{disk}"));
        let says =
            "root=/dev/mmcblk0p1 cannot be mounted: no file system for a disk: neither the kernel nor the image has it";
        assert_eq!(mmc(&["sdhci_x", "mmc_block"]), says);
    }

    #[test]
    fn a_root_by_its_label_may_come_by_any_way() {
        let any = |loaded: &[&str]| told(Some(TREE), "LABEL=r", loaded, None, None);
        assert_eq!(any(&["dwc2", "usb_storage", "sd_mod", "ext4"]), "");
        assert_eq!(any(&["sdhci_x", "mmc_block", "ext4"]), "");
        let says = any(&["usb_storage", "sd_mod", "ext4"]);
        assert!(says.contains("usb@2 needs dwc2, which is not in the image"), "{says}");
        let says = any(&["dwc2", "sd_mod", "ext4"]);
        assert!(says.contains("usb_storage is for a USB disk, and is not in the image"), "{says}");
        let says = any(&["dwc2", "usb_storage", "ext4"]);
        assert!(says.contains("sd_mod makes a disk of what is found"), "{says}");
        assert_eq!(told(Some(TREE), "ubi0:root", &["ext4"], None, None), "");
    }

    #[test]
    fn the_device_of_the_root_may_be_named() {
        let named = |device, loaded: &[&str]| told(Some(TREE), "LABEL=r", loaded, Some(device), None);
        let usb = ["dwc2", "usb_storage", "sd_mod", "ext4"];
        let says = "root=LABEL=r cannot appear: mmc@1 needs sdhci_x, which is not in the image";
        assert_eq!((named("mmc0", &usb), named("usb@2", &usb)), (says.into(), String::new()));
        assert_eq!(named("mmc@7", &usb), "root-device = \"mmc@7\": b.dtb has no such enabled node");
    }

    #[test]
    fn without_a_tree_the_drivers_are_what_is_known() {
        let virtio = |loaded: &[&str]| told(None, "/dev/vda", loaded, None, None);
        assert_eq!(virtio(&["virtio_mmio", "virtio_blk", "ext4"]), "");
        assert_eq!(
            virtio(&["virtio_blk", "ext4"]),
            "root=/dev/vda cannot appear: nothing in the kernel or in the image drives a disk"
        );
        let says = virtio(&["virtio_mmio", "ext4"]);
        assert!(says.ends_with("virtio_blk makes a disk of what is found, and is not in the image"), "{says}");
        let typed = told(None, "/dev/vda", &["virtio_mmio", "virtio_blk", "ext4"], None, Some("btrfs"));
        let says = "root=/dev/vda cannot be mounted: rootfstype=btrfs: neither the kernel nor the image has it";
        assert_eq!(typed, says);
    }
}
