//! Whether the devices that a set drives have their suppliers before them.

use std::collections::{BTreeSet, HashMap};

use super::problem::{Kind, Problem};
use crate::device_tree::{Devices, Need, NodeId, Strength, in_words};

/// The modules of an image, by the names that the kernel has for them, and the devices that they are for.
#[derive(Clone, Copy)]
pub struct DeviceSet<'a> {
    /// The devices of the board.
    pub devices: &'a Devices,
    /// What the manifest loads, in order.
    pub loaded: &'a [String],
    /// What is there for later.
    pub later: &'a [String],
    /// The device that the root must come from.
    pub root: Option<NodeId>,
}

/// What a device lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What it needs.
    pub need: Need,
    /// The module of it that is missing or late.
    pub module: String,
    /// Whether that is there, but loaded too late.
    pub is_late: bool,
}

/// A module of a set, and the devices that it is there for.
struct Wanted {
    module: String,
    devices: Vec<NodeId>,
    /// Whether it is there for the sake of others' devices.
    supplies: bool,
}

impl DeviceSet<'_> {
    /// What is missing of the suppliers of all devices that the set's modules drive.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        for Wanted { module, devices, supplies } in self.wanted() {
            for device in &devices {
                // Where the root's device is named, the board does without the others.
                let is_meant = self.root.is_none_or(|root| self.is_on_the_way(*device, root));
                // What supplies others must be there before those, in whatever order.
                for lack in self.lacks(*device, &module).into_iter().filter(|lack| !(lack.is_late && supplies)) {
                    let problem = self.problem(*device, &module, &lack);
                    let must = lack.need.strength == Strength::Required && is_meant;
                    problems.push(if must { problem } else { problem.warning() });
                }
            }
        }
        problems
    }

    /// What must be loaded, in order, so that each device of the set has its suppliers before it: names of modules. Empty if
    /// all is as it should be.
    pub fn first(&self) -> Vec<String> {
        let mut first: Vec<String> = Vec::new();
        for Wanted { module, devices, supplies } in self.wanted() {
            for device in devices {
                if !self.lacks(device, &module).iter().any(|lack| !(lack.is_late && supplies)) {
                    continue;
                }
                for need in self.devices.needs(device) {
                    let driver = self.devices.driver(need.supplier);
                    let there = driver.modules().iter().filter(|name| self.has(name)).collect::<Vec<_>>();
                    let names = if there.is_empty() { driver.best().iter().collect() } else { there };
                    for name in names.into_iter().chain(&need.functions) {
                        if *name != module && !first.contains(name) {
                            first.push(name.clone());
                        }
                    }
                }
            }
        }
        first
    }

    /// What a device that `module` drives lacks, of what must be there first.
    pub fn lacks(&self, device: NodeId, module: &str) -> Vec<Lack> {
        let at = |name: &String| self.loaded.iter().position(|other| other == name);
        // What is for later may be loaded in any order, but not without.
        let own = self.loaded.iter().position(|name| name == module);
        let lack = |need: Need| {
            let driver = self.devices.driver(need.supplier);
            let ones = need.functions.iter().map(std::slice::from_ref);
            // Of those that match a device one must be there; of each function its own.
            let faults = [driver.modules()].into_iter().chain(ones).filter_map(|names| {
                let is_in_time = own.is_none_or(|own| names.iter().filter_map(at).any(|at| at <= own));
                let there = names.iter().find(|name| self.has(name));
                match there {
                    Some(name) => (!is_in_time).then(|| (name.clone(), true)),
                    None => Some((names.first()?.clone(), false)),
                }
            });
            let fault = faults.min_by_key(|(_, is_late)| *is_late);
            fault.map(|(module, is_late)| Lack { need, module, is_late })
        };
        self.devices.needs(device).into_iter().filter_map(lack).collect()
    }

    /// Whether something of the set or of the kernel drives a device, and its suppliers.
    pub fn serves(&self, device: NodeId) -> bool {
        let driver = self.devices.driver(device);
        let module = driver.modules().iter().find(|name| self.has(name));
        let is_required = |lack: &Lack| lack.need.strength == Strength::Required && !lack.is_late;
        let lacks = |module: &str| self.lacks(device, module).iter().any(is_required);
        driver.is_builtin() && !lacks("") || module.is_some_and(|module| !lacks(module))
    }

    /// Whether the image has a module.
    pub fn has(&self, name: &str) -> bool {
        self.all().any(|other| other == name)
    }

    /// Whether the image or the kernel has it.
    pub fn is_there(&self, name: &str) -> bool {
        self.has(name) || self.devices.drivers.is_builtin(name)
    }

    /// All modules of the image.
    pub fn all(&self) -> impl Iterator<Item = &String> {
        self.loaded.iter().chain(self.later)
    }

    /// Each module of the set with the devices that it is there for. One that supplies others of the set is there for those.
    fn wanted(&self) -> Vec<Wanted> {
        let all: Vec<_> = self.all().collect();
        let mut supplies: HashMap<String, BTreeSet<NodeId>> = HashMap::new();
        for module in &all {
            for device in self.devices.driven_by(module) {
                for need in self.devices.needs(device) {
                    for name in self.devices.driver(need.supplier).modules() {
                        if name != *module {
                            supplies.entry(name.clone()).or_default().insert(need.supplier);
                        }
                    }
                }
            }
        }
        let of = |module: &&String| match supplies.get(*module) {
            Some(devices) => {
                Wanted { module: (*module).clone(), devices: devices.iter().copied().collect(), supplies: true }
            }
            None => Wanted { module: (*module).clone(), devices: self.devices.driven_by(module), supplies: false },
        };
        all.iter().map(of).collect()
    }

    /// Whether `device` is the one that brings the root, or is needed by it.
    fn is_on_the_way(&self, device: NodeId, root: NodeId) -> bool {
        device == root || self.devices.needs(root).iter().any(|need| need.supplier == device)
    }

    fn problem(&self, device: NodeId, module: &str, lack: &Lack) -> Problem {
        let tree = &self.devices.tree;
        let (consumer, supplier) = (&tree[device].name, &tree[lack.need.supplier].name);
        let name = &lack.module;
        let what = what(&lack.need);
        let may = if lack.need.strength == Strength::Optional { "may get" } else { "gets" };
        let relation = match what.as_str() {
            "" => format!("is on the bus of {supplier}"),
            what => format!("{may} {what} from {supplier}"),
        };
        let fault = if lack.is_late { "is loaded after it" } else { "is not in the image" };
        let cause = format!("{consumer} ({module}) {relation}: {name} {fault}");
        let remedy = format!("list {name} before {module}, or write suppliers = true in the board file");
        Problem::new(Kind::Supplier, &self.devices.file, cause, remedy)
    }
}

/// What a device has from another, for people; nothing if it is no more than on its bus.
fn what(need: &Need) -> String {
    let mut words: Vec<_> = need.ways.iter().flatten().map(|property| in_words(property)).collect();
    words.sort();
    words.dedup();
    match words.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, more)) => format!("{} and {last}", more.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_tree::Drivers;
    use crate::device_tree::made;
    use crate::kernel::made::tree;

    const TEXT: &str = "gpio@2 { compatible = s:gpio; phandle = n:1; #gpio-cells = n:0 }
        r { compatible = s:fixed; phandle = n:2; gpio = n:1 }
        dma { compatible = s:dma; phandle = n:3; #dma-cells = n:0 }
        spi@1 { compatible = s:spi; mmc@9 { compatible = s:slot } }
        mmc@1 { compatible = s:mmc; cd-gpios = n:1; vmmc-supply = n:2; dmas = n:3 }";
    const ALIAS: &[u8] = b"alias of:N*T*Cmmc mmc\nalias of:N*T*Cgpio gpio_mxc\nalias of:N*T*Cspi spi_x\n\
        alias of:N*T*Cslot mmc_spi\nalias of:N*T*Cdma dma_x\n";

    fn told(text: &str, loaded: &[&str], later: &[&str]) -> (Vec<String>, Vec<String>) {
        let modinfo = b"fixed.alias=of:N*T*Cfixed\0";
        let files: &[(&str, &[u8])] =
            &[("modules.dep", b""), ("modules.alias", ALIAS), ("modules.builtin.modinfo", modinfo)];
        let (_tmp, kernel) = tree(files);
        let devices = Devices::new(made::tree(text), Drivers::read(&kernel, None).unwrap());
        let [loaded, later] =
            [loaded, later].map(|names| names.iter().map(|name| name.to_string()).collect::<Vec<_>>());
        let set = DeviceSet { devices: &devices, loaded: &loaded, later: &later, root: None };
        let told = set.problems().into_iter().map(|problem| {
            let level = if problem.is_problem() { "problem" } else { "warning" };
            format!("{level}: {}", problem.cause)
        });
        (told.collect(), set.first())
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn a_supplier_that_is_missing_or_late_is_named_with_what_it_brings() {
        let dma = "warning: mmc@1 (mmc) may get its DMA channel from dma: dma_x is not in the image";
        let gets = "mmc@1 (mmc) gets its card-detect GPIO and its vmmc-supply from gpio@2";
        let (problems, first) = told(TEXT, &["mmc"], &[]);
        assert_eq!(problems, [&format!("problem: {gets}: gpio_mxc is not in the image"), dma]);
        assert_eq!(first, names(&["gpio_mxc", "dma_x"]));
        assert_eq!(told(TEXT, &["mmc"], &["gpio_mxc"]).0[0], format!("problem: {gets}: gpio_mxc is loaded after it"));
        assert_eq!(told(TEXT, &["mmc", "gpio_mxc"], &[]).1, names(&["gpio_mxc", "dma_x"]));
        assert_eq!(told(TEXT, &["gpio_mxc", "dma_x", "mmc"], &[]), (vec![], vec![]));
        assert_eq!(told(TEXT, &[], &["mmc", "gpio_mxc", "dma_x"]), (vec![], vec![]));
    }

    #[test]
    fn the_bus_of_a_device_is_needed() {
        let says = "problem: mmc@9 (mmc_spi) is on the bus of spi@1: spi_x is not in the image";
        assert_eq!(told(TEXT, &["mmc_spi"], &[]), (names(&[says]), names(&["spi_x"])));
        assert_eq!(told(TEXT, &["spi_x", "mmc_spi"], &[]).0, names(&[]));
    }

    #[test]
    fn what_supplies_others_is_not_asked_what_else_it_could_drive() {
        let text = format!("{TEXT}\ngpio@4 {{ compatible = s:gpio; dmas = n:3 }}");
        assert_eq!(told(&text, &["gpio_mxc", "dma_x", "mmc"], &[]).0, names(&[]));
    }
}
