//! What a node names as its suppliers, and what it is on.

use super::property::{Form, Strength, form};
use super::tree::{DeviceTree, NodeId};

/// What one device needs of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The property that says so; none if the device is on the other's bus.
    pub property: Option<String>,
    /// The other device.
    pub supplier: NodeId,
    /// Whether it is waited for.
    pub strength: Strength,
}

/// Buses whose devices the kernel makes itself (`of_default_bus_match_table` of drivers/of/platform.c).
const MADE_BY_CORE: [&str; 4] = ["simple-bus", "simple-mfd", "isa", "arm,amba-bus"];

impl DeviceTree {
    /// The device that a node is, or a part of: the nearest with `compatible`; none at the root.
    pub fn device(&self, id: NodeId) -> Option<NodeId> {
        self.up(id).find(|id| self[*id].has("compatible")).filter(|id| *id != self.root())
    }

    /// The suppliers of a device and the bus that it is on, as far as they are enabled. Each is a device of its own.
    pub fn links(&self, device: NodeId) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        let later: Vec<_> = self.plain(device, "post-init-providers").collect();
        for (name, _) in self[device].properties() {
            let Some((form, strength)) = form(name) else { continue };
            for node in self.suppliers(device, name, form) {
                let supplier = self.device(node).filter(|supplier| *supplier != device && self.is_enabled(node));
                // What is in the device itself waits for the device, not it for them.
                let supplier = supplier.filter(|supplier| !self.up(*supplier).any(|up| up == device));
                let Some(supplier) = supplier.filter(|_| !later.contains(&node)) else { continue };
                let link = Link { property: Some(name.into()), supplier, strength };
                if !links.contains(&link) {
                    links.push(link);
                }
            }
        }
        links.extend(self.bus(device));
        links
    }

    /// The bus that a device is on, if a driver must make the device there.
    fn bus(&self, device: NodeId) -> Option<Link> {
        let supplier = self.device(self[device].parent?)?;
        let by_core = self[supplier].compatible().any(|compatible| MADE_BY_CORE.contains(&compatible));
        (!by_core).then_some(Link { property: None, supplier, strength: Strength::Required })
    }

    fn suppliers(&self, device: NodeId, name: &str, form: Form) -> Vec<NodeId> {
        let hog = || matches!(name, "gpio" | "gpios") && self[device].has("gpio-hog");
        match form {
            Form::Cells(cells) if !hog() => self.with_cells(device, name, cells, None),
            Form::Cells(_) => Vec::new(),
            Form::CellsOrNone(cells) => self.with_cells(device, name, cells, Some(0)),
            Form::Plain => self.plain(device, name).collect(),
            Form::Map => {
                let words = self[device].numbers(name);
                words.chunks_exact(4).filter_map(|entry| self.phandle(entry[1])).collect()
            }
            // Where both are there, `interrupts` is what the kernel does not read (`of_irq_parse_one`).
            Form::Interrupts if self[device].has("interrupts-extended") => Vec::new(),
            Form::Interrupts => self.interrupt_parents(device),
            Form::InterruptMap => self.interrupt_map(device),
        }
    }

    fn plain(&self, device: NodeId, name: &str) -> impl Iterator<Item = NodeId> {
        self[device].numbers(name).into_iter().filter_map(|phandle| self.phandle(phandle))
    }

    /// The phandles of a list in which each has numbers behind it; a phandle of 0 is a hole.
    fn with_cells(&self, device: NodeId, name: &str, cells: &str, default: Option<u32>) -> Vec<NodeId> {
        let (mut found, words) = (Vec::new(), self[device].numbers(name));
        let mut at = 0;
        while let Some(phandle) = words.get(at) {
            at += 1;
            if *phandle == 0 {
                continue;
            }
            let Some(node) = self.phandle(*phandle) else { break };
            let Some(count) = self[node].number(cells).or(default) else { break };
            at = at.saturating_add(count as usize);
            found.push(node);
        }
        found
    }

    /// The controllers that a device's interrupts go to (`of_irq_find_parent`, `of_irq_parse_raw` of drivers/of/irq.c).
    fn interrupt_parents(&self, device: NodeId) -> Vec<NodeId> {
        let (mut at, mut parent) = (device, None);
        // Each step goes up or to a phandle; a circle ends with the count.
        for _ in self.ids() {
            let next = match self[at].number("interrupt-parent") {
                Some(phandle) => self.phandle(phandle),
                None => self[at].parent,
            };
            let Some(next) = next else { break };
            if self[next].has("#interrupt-cells") {
                parent = Some(next);
                break;
            }
            at = next;
        }
        match parent {
            Some(nexus) if !self[nexus].has("interrupt-controller") && self[nexus].has("interrupt-map") => {
                self.interrupt_map(nexus)
            }
            parent => parent.into_iter().collect(),
        }
    }

    /// The controllers that an `interrupt-map` leads to.
    fn interrupt_map(&self, nexus: NodeId) -> Vec<NodeId> {
        let Some(interrupt) = self[nexus].number("#interrupt-cells") else { return Vec::new() };
        let address = self.up(nexus).find_map(|id| self[id].number("#address-cells")).unwrap_or(0);
        let (mut found, words) = (Vec::new(), self[nexus].numbers("interrupt-map"));
        let mut at = (address as usize).saturating_add(interrupt as usize);
        while let Some(parent) = words.get(at).and_then(|phandle| self.phandle(*phandle)) {
            let behind = ["#address-cells", "#interrupt-cells"].map(|cells| self[parent].number(cells).unwrap_or(0));
            let step = 1u64 + [behind[0], behind[1], address, interrupt].map(u64::from).iter().sum::<u64>();
            if !found.contains(&parent) {
                found.push(parent);
            }
            at = at.saturating_add(step as usize);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_tree::made::tree;

    /// The links of the node `x`, each as property, supplier and whether it is waited for.
    fn links(text: &str) -> Vec<(String, String, bool)> {
        let tree = tree(text);
        let device = tree.find("x").unwrap();
        let links = tree.links(device).into_iter();
        links
            .map(|link| {
                let property = link.property.unwrap_or("bus".into());
                (property, tree[link.supplier].name.clone(), link.strength == Strength::Required)
            })
            .collect()
    }

    fn link(property: &str, supplier: &str, required: bool) -> (String, String, bool) {
        (property.into(), supplier.into(), required)
    }

    #[test]
    fn lists_of_phandles_are_read_with_their_cells() {
        let text = "g { compatible = s:g; phandle = n:1; #gpio-cells = n:2 }
            c { compatible = s:c; phandle = n:2; #clock-cells = n:0 }
            d { compatible = s:d; phandle = n:3; #dma-cells = n:1 }
            off { compatible = s:o; phandle = n:4; status = s:disabled }
            x { compatible = s:x; cd-gpios = n:1,9,9; cs-gpios = n:0,1,2,0; clocks = n:2,2; dmas = n:3,5
                vmmc-supply = n:4; vqmmc-supply = n:77; a,nr-gpios = n:1 }";
        assert_eq!(
            links(text),
            [
                link("cd-gpios", "g", true),
                link("cs-gpios", "g", true),
                link("clocks", "c", true),
                link("dmas", "d", false)
            ]
        );
    }

    #[test]
    fn a_supplier_within_a_device_is_the_device() {
        let text = "pmic { compatible = s:pmic; regulators { r { phandle = n:1 } } }
            x { compatible = s:x; vmmc-supply = n:1; own-supply = n:2; inner { compatible = s:i; phandle = n:2 } }";
        assert_eq!(links(text), [link("vmmc-supply", "pmic", true)]);
    }

    #[test]
    fn what_is_to_come_later_is_not_waited_for() {
        let text = "p { compatible = s:p; phandle = n:1; #phy-cells = n:0 }
            x { compatible = s:x; phys = n:1; post-init-providers = n:1 }";
        assert_eq!(links(text), []);
    }

    #[test]
    fn interrupts_lead_to_their_controller_through_maps() {
        let text = "interrupt-parent = n:1
            gic { compatible = s:gic; phandle = n:1; #interrupt-cells = n:3; #address-cells = n:0; interrupt-controller }
            i { compatible = s:i; phandle = n:2; #interrupt-cells = n:1; interrupt-controller }
            nexus { compatible = s:simple-bus; #address-cells = n:1; #interrupt-cells = n:1; interrupt-parent = n:1
                interrupt-map = n:0,0,1,8,8,8,0,1,2,7
                x { compatible = s:x; interrupts = n:1 } }";
        assert_eq!(links(text), [link("interrupts", "gic", true), link("interrupts", "i", true)]);
        let direct = "i { compatible = s:i; phandle = n:2; #interrupt-cells = n:1; interrupt-controller }
            x { compatible = s:x; interrupt-parent = n:2; interrupts = n:1 }";
        assert_eq!(links(direct), [link("interrupts", "i", true)]);
    }

    #[test]
    fn a_bus_that_a_driver_makes_devices_on_is_needed() {
        assert_eq!(links("spi { compatible = s:spi; x { compatible = s:x } }"), [link("bus", "spi", true)]);
        assert_eq!(links("soc { compatible = s:vendor,soc|simple-bus; x { compatible = s:x } }"), []);
    }
}
