//! Devices that may bring a disk, and what is on the way to it.

use super::needs::{Devices, add_new};
use super::tree::NodeId;

/// A kind of disks.
#[derive(Debug)]
pub struct DiskKind {
    /// What the names of its devices begin with.
    pub dev: &'static str,
    /// The driver that makes a disk of it.
    pub disk: &'static str,
    /// Where the drivers of its controllers are, in paths of the kernel.
    pub controllers: &'static [&'static str],
}

/// The kinds that are known.
pub const DISK_KINDS: [DiskKind; 4] = [
    DiskKind { dev: "mmcblk", disk: "mmc_block", controllers: &["/mmc/host/"] },
    DiskKind {
        dev: "sd",
        disk: "sd_mod",
        controllers: &["/drivers/ata/", "/drivers/ufs/", "/scsi/ufs/", "/usb/storage/"],
    },
    DiskKind { dev: "vd", disk: "virtio_blk", controllers: &["/drivers/virtio/"] },
    DiskKind { dev: "nvme", disk: "nvme", controllers: &["/nvme/host/nvme"] },
];

/// Where the drivers of USB's host controllers are.
const USB_HOSTS: [&str; 6] = ["/usb/host/", "/usb/dwc2/", "/usb/dwc3/", "/usb/chipidea/", "/usb/musb/", "/usb/cdns3/"];

impl Devices {
    /// The kind of disks that a device brings by itself; that of USB disks for a host controller of USB.
    pub fn disk_kind(&self, device: NodeId) -> Option<&'static DiskKind> {
        let of = |kind: &&DiskKind| self.is_driven_from(device, kind.controllers);
        // One that a driver in the kernel has, whose name nobody knows.
        let named_mmc = || {
            let name = &self.tree[device].name;
            let is_mmc = ["mmc@", "sdhci@", "sdhc@", "sd@"].iter().any(|begin| name.starts_with(begin));
            is_mmc && self.driver(device).is_builtin()
        };
        let kind = DISK_KINDS.iter().find(of).or_else(|| named_mmc().then_some(&DISK_KINDS[0]));
        kind.or_else(|| self.is_usb_host(device).then_some(&DISK_KINDS[1]))
    }

    /// Whether a device is a host controller of USB.
    pub fn is_usb_host(&self, device: NodeId) -> bool {
        let named = || self.tree[device].name.starts_with("usb@") && self.driver(device).is_builtin();
        self.is_driven_from(device, &USB_HOSTS) || named()
    }

    fn is_driven_from(&self, device: NodeId, folders: &[&str]) -> bool {
        let is_in = |path: &str| folders.iter().any(|folder| path.contains(folder));
        self.driver(device).modules().iter().any(|name| self.drivers.path(name).is_some_and(is_in))
    }

    /// The modules that devices need to be driven, in order: of all of them first what supplies them, since one module may drive
    /// several.
    pub fn modules_for(&self, devices: &[NodeId]) -> Vec<String> {
        let needs = devices.iter().flat_map(|device| self.needs(*device));
        let suppliers = needs.flat_map(|need| [self.driver(need.supplier).best(), &need.functions].concat());
        let own = devices.iter().flat_map(|device| self.driver(*device).best().iter().cloned());
        unique(suppliers.chain(own))
    }

    /// The modules on the way to the disks that devices bring, in order, as far as they are modules of the tree.
    pub fn modules_to_disks(&self, devices: &[NodeId]) -> Vec<String> {
        let disks = devices.iter().flat_map(|device| {
            let kind = self.disk_kind(*device);
            let usb = kind.filter(|_| self.is_usb_host(*device)).map(|_| "usb_storage");
            usb.into_iter().chain(kind.map(|kind| kind.disk))
        });
        let mut modules = unique(self.modules_for(devices).into_iter().chain(disks.map(String::from)));
        modules.retain(|name| self.drivers.is_module(name));
        modules
    }

    /// The devices that bring disks: controllers of cards, eMMC, UFS and SATA, or where the tree has no such device, of USB.
    pub fn disks(&self) -> Vec<NodeId> {
        let all: Vec<_> = self.ids().filter(|id| self.disk_kind(*id).is_some()).collect();
        let own: Vec<_> = all.iter().copied().filter(|id| !self.is_usb_host(*id)).collect();
        if own.is_empty() { all } else { own }
    }
}

/// Each of the names once, where it comes first.
fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut found = Vec::new();
    add_new(&mut found, names);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_tree::{Drivers, made};
    use crate::kernel::made::tree;

    #[test]
    fn the_way_to_a_disk_begins_with_the_suppliers() {
        let dep = b"kernel/drivers/mmc/host/sdhci-x.ko:\nkernel/drivers/usb/dwc2/dwc2.ko:\nkernel/drivers/gpio/g.ko:\n\
            kernel/drivers/usb/storage/usb-storage.ko:\nkernel/drivers/scsi/sd_mod.ko:\nkernel/drivers/phy/phy.ko:\n";
        let alias = b"alias of:N*T*Csd sdhci_x\nalias of:N*T*Cusb dwc2\nalias of:N*T*Cg g\nalias of:N*T*Cphy phy\n";
        let (_tmp, kernel) = tree(&[("modules.dep", dep), ("modules.alias", alias)]);
        let text = "mmc@1 { compatible = s:sd; cd-gpios = n:1 }
            usb@2 { compatible = s:usb; phys = n:2 }
            g { compatible = s:g; phandle = n:1; #gpio-cells = n:0 }
            phy { compatible = s:phy; phandle = n:2; #phy-cells = n:0 }";
        let devices = Devices::new(made::tree(text), Drivers::read(&kernel, None).unwrap());
        let way = |name: &str| devices.modules_to_disks(&[devices.tree.find(name).unwrap()]).join(" ");
        // mmc_block is no module here.
        assert_eq!(way("mmc@1"), "g sdhci_x");
        assert_eq!(way("usb@2"), "phy dwc2 usb_storage sd_mod");
        assert_eq!(devices.disks(), [devices.tree.find("mmc@1").unwrap()]);
        // One module drives both, and one of them needs another before.
        let text = format!("mmc@0 {{ compatible = s:sd }}\n{text}");
        let devices = Devices::new(made::tree(&text), Drivers::read(&kernel, None).unwrap());
        assert_eq!(devices.modules_to_disks(&devices.disks()).join(" "), "g sdhci_x");
    }
}
