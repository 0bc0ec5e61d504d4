//! What a device needs before it can be probed, through all that its suppliers need.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::drivers::{Driver, Drivers, is_chip};
use super::links::Link;
use super::property::Strength;
use super::tree::{DeviceTree, NodeId};

/// The enabled devices of a tree, and what drives them.
#[derive(Clone, Debug)]
pub struct Devices {
    /// The name of its file, for messages; empty where no device tree was read.
    pub file: String,
    /// The tree.
    pub tree: DeviceTree,
    /// The kernel's drivers.
    pub drivers: Arc<Drivers>,
    of: BTreeMap<NodeId, Device>,
}

#[derive(Clone, Debug)]
struct Device {
    driver: Driver,
    links: Vec<Link>,
}

/// A device that another needs before it, and whose driver is a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// That device.
    pub supplier: NodeId,
    /// What the other has from it, maybe through further devices: the properties of its own; none if it is on its bus.
    pub ways: Vec<Option<String>>,
    /// The modules of its functions that bring that, besides its own driver.
    pub functions: Vec<String>,
    /// Whether it is waited for.
    pub strength: Strength,
}

/// A device that was reached on the way.
struct Reached {
    device: NodeId,
    functions: Vec<String>,
    strength: Strength,
}

impl Devices {
    /// The devices of a tree.
    pub fn new(tree: DeviceTree, drivers: impl Into<Arc<Drivers>>) -> Devices {
        let drivers = drivers.into();
        let is_device = |id: &NodeId| *id != tree.root() && tree[*id].has("compatible") && tree.is_enabled(*id);
        let device = |id| (id, Device { driver: drivers.of(&tree, id), links: tree.links(id) });
        let of = tree.ids().filter(is_device).map(device).collect();
        Devices { file: String::new(), tree, drivers, of }
    }

    /// The devices of a file.
    pub fn load(file: &Path, drivers: impl Into<Arc<Drivers>>) -> Result<Devices> {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Devices { file: name, ..Devices::new(DeviceTree::load(file)?, drivers) })
    }

    /// The drivers alone, where no device tree is known.
    pub fn without_tree(drivers: impl Into<Arc<Drivers>>) -> Devices {
        Devices::new(DeviceTree::default(), drivers)
    }

    /// The devices, in the order of the tree.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.of.keys().copied()
    }

    /// What drives a device.
    pub fn driver(&self, device: NodeId) -> &Driver {
        const NONE: &Driver = &Driver::None;
        self.of.get(&device).map_or(NONE, |device| &device.driver)
    }

    /// The devices that a module drives, or would.
    pub fn driven_by(&self, module: &str) -> Vec<NodeId> {
        let is_it = |device: &Device| device.driver.modules().iter().any(|name| name == module);
        self.of.iter().filter(|(_, device)| is_it(device)).map(|(id, _)| *id).collect()
    }

    /// What a device needs before it, each behind what it needs itself.
    pub fn needs(&self, device: NodeId) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        let Some(of) = self.of.get(&device) else { return needs };
        for link in &of.links {
            let mut reached = Vec::new();
            // The device itself is behind all: a circle ends there.
            let mut seen = HashMap::from([(device, Strength::Required)]);
            self.reach(link, link.strength, &mut seen, &mut reached);
            for Reached { device: supplier, functions, strength } in reached {
                let way = link.property.clone();
                match needs.iter_mut().find(|need| need.supplier == supplier) {
                    None => needs.push(Need { supplier, ways: vec![way], functions, strength }),
                    Some(need) => {
                        need.strength = need.strength.max(strength);
                        add_new(&mut need.functions, functions);
                        if !need.ways.contains(&way) {
                            need.ways.push(way);
                        }
                    }
                }
            }
        }
        needs
    }

    /// Whether a device waits for its suppliers. Clocks and interrupt controllers in the kernel come before all devices
    /// (`CLK_OF_DECLARE`, `IRQCHIP_DECLARE`), unless they are on a bus that itself comes later.
    fn waits(&self, id: NodeId, driver: &Driver) -> bool {
        let node = &self.tree[id];
        let is_early = node.has("#clock-cells") || node.has("interrupt-controller") && !node.has("gpio-controller");
        let waits_in_kernel = !is_early || is_chip(&self.tree, id);
        match driver {
            Driver::Modules { .. } => true,
            Driver::Builtin(_) => waits_in_kernel,
            Driver::None => waits_in_kernel && self.drivers.may_be_builtin(),
        }
    }

    /// Collects the supplier of a link and what it needs, as far as modules drive them, each behind what it needs itself.
    fn reach(&self, link: &Link, strength: Strength, seen: &mut HashMap<NodeId, Strength>, reached: &mut Vec<Reached>) {
        let id = link.supplier;
        let Some(device) = self.of.get(&id) else { return };
        let property = link.property.as_deref().unwrap_or_default();
        let functions = self.drivers.functions(&device.driver, property);
        let is_new = seen.get(&id).is_none_or(|before| *before < strength);
        if is_new {
            seen.insert(id, strength);
            for link in &device.links {
                if link.property.is_none() || self.waits(id, &device.driver) {
                    self.reach(link, strength.min(link.strength), seen, reached);
                }
            }
        }
        match reached.iter_mut().find(|other| other.device == id) {
            Some(before) => {
                before.strength = before.strength.max(strength);
                add_new(&mut before.functions, functions);
            }
            None if is_new && !device.driver.modules().is_empty() => {
                reached.push(Reached { device: id, functions, strength });
            }
            None => {}
        }
    }
}

/// Adds those that are not there.
pub(crate) fn add_new(names: &mut Vec<String>, more: impl IntoIterator<Item = String>) {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::device_tree::made;
    use crate::kernel::made::tree;

    #[test]
    fn needs_go_through_suppliers_each_behind_its_own() {
        let alias = b"alias of:N*T*Cmmc mmc\nalias of:N*T*Cgpio gpio\nalias of:N*T*Ci2c i2c\nalias of:N*T*Cdma dma\n";
        let modinfo = b"fixed.alias=of:N*T*Cfixed\0";
        let files: &[(&str, &[u8])] =
            &[("modules.dep", b""), ("modules.alias", alias), ("modules.builtin.modinfo", modinfo)];
        let (_tmp, kernel) = tree(files);
        let text = "i2c@1 { compatible = s:i2c; gpios = n:3; gpio@1 { compatible = s:gpio; phandle = n:1; #gpio-cells = n:0 } }
            r { compatible = s:fixed; phandle = n:2; gpio = n:1 }
            dma { compatible = s:dma; phandle = n:3; #dma-cells = n:0; #gpio-cells = n:0; clocks = n:4 }
            osc { compatible = s:unknown; phandle = n:4; clocks = n:1; #clock-cells = n:0 }
            mmc@1 { compatible = s:mmc; phandle = n:9; vmmc-supply = n:2; cd-gpios = n:1; dmas = n:3; clocks = n:4 }";
        let devices = Devices::new(made::tree(text), Drivers::read(&kernel, Some(BTreeSet::new())).unwrap());
        let mmc = devices.tree.find("mmc@1").unwrap();
        assert_eq!(devices.driven_by("mmc"), [mmc]);
        let needs: Vec<_> = devices.needs(mmc).into_iter().collect();
        let told: Vec<_> = needs
            .iter()
            .map(|need| {
                let ways: Vec<_> = need.ways.iter().map(|way| way.as_deref().unwrap_or("bus")).collect();
                (devices.tree[need.supplier].name.as_str(), ways, need.strength)
            })
            .collect();
        assert_eq!(
            told,
            [
                ("dma", vec!["vmmc-supply", "cd-gpios", "dmas"], Strength::Required),
                ("i2c@1", vec!["vmmc-supply", "cd-gpios"], Strength::Required),
                ("gpio@1", vec!["vmmc-supply", "cd-gpios"], Strength::Required),
            ]
        );
    }
}
