//! Which module drives a device, or what of the kernel itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;

use anyhow::{Context, Result};
use modest_loader::name;
use modest_loader::resolve::index::Index;
use modest_loader::resolve::pattern::matches_pattern;

use super::cells::Cells;
use super::tree::{DeviceTree, NodeId};
use crate::kernel::{Tree, builtin_aliases};

/// What drives a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Driver {
    /// A driver in the kernel: the module that it would be, where that is known.
    Builtin(Option<String>),
    /// The modules that match, by the names that the kernel has for them. The first `best` of them match what the device is
    /// before all; the others are for what it is compatible with.
    Modules {
        #[allow(missing_docs)]
        names: Vec<String>,
        #[allow(missing_docs)]
        best: usize,
    },
    /// Nothing that is known. Where the kernel's tables could be read, there is no driver; otherwise it may be in the kernel.
    #[default]
    None,
}

/// The drivers of a kernel.
#[derive(Clone, Debug, Default)]
pub struct Drivers {
    modules: Table,
    builtin: Table,
    /// What drivers in the kernel are compatible with, where that could be read.
    in_kernel: Option<BTreeSet<String>>,
    /// The path of each, below the tree and for the kernel's own below `kernel`, without an ending.
    paths: BTreeMap<String, String>,
    builtin_names: BTreeMap<String, String>,
    cells: Cells,
}

/// Aliases, each with the names of its modules.
#[derive(Clone, Debug, Default)]
struct Table {
    /// Those that say nothing of name and type, by what they are compatible with.
    compatible: HashMap<String, Vec<String>>,
    /// Those of the buses for I2C and SPI, by the name of the chip.
    chips: HashMap<String, Vec<String>>,
    others: Vec<(String, String)>,
}

impl Drivers {
    /// Reads the indexes of a tree; `in_kernel` is what drivers in the kernel are compatible with, as
    /// [`crate::kernel::KernelSymbols::compatible`] finds it.
    pub fn read(tree: &Tree, in_kernel: Option<BTreeSet<String>>) -> Result<Drivers> {
        let mut drivers = Drivers { in_kernel, ..Drivers::default() };
        let aliases = aliases(tree)?;
        for (alias, module) in &aliases {
            drivers.modules.add(alias, module);
        }
        drivers.cells = Cells::of(tree, aliases.iter().map(|(alias, module)| (alias.as_str(), module.as_str())));
        for path in tree.indexed("modules.dep") {
            drivers.paths.insert(name::of(&path).to_string(), stem(&path).to_string());
        }
        for path in tree.indexed("modules.builtin") {
            drivers.builtin_names.insert(name::of(&path).to_string(), stem(&path).to_string());
        }
        // depmod's alone, if the text is missing.
        let file = tree.dir.join("modules.builtin.modinfo");
        let modinfo = fs::read(&file).unwrap_or_default();
        builtin_aliases(&modinfo).for_each(|(alias, module)| drivers.builtin.add(alias, module));
        Ok(drivers)
    }

    /// What drives a device.
    pub fn of(&self, tree: &DeviceTree, device: NodeId) -> Driver {
        let found = self.modules.matches(tree, device);
        let first = found.first().map(|(_, rank)| *rank);
        let own = self.builtin(tree, device).filter(|(_, rank)| first.is_none_or(|first| *rank < first));
        match (own, found.is_empty()) {
            (Some((name, _)), _) => Driver::Builtin(name),
            (None, true) => Driver::None,
            (None, false) => {
                let best = found.iter().take_while(|(_, rank)| Some(*rank) == first).count();
                Driver::Modules { names: found.into_iter().map(|(name, _)| name).collect(), best }
            }
        }
    }

    /// What of the kernel drives a device, and the place in `compatible` that it matches. Where a module matches the same, that
    /// counts: the kernel may have the text for another reason.
    fn builtin(&self, tree: &DeviceTree, device: NodeId) -> Option<(Option<String>, usize)> {
        if let Some((name, rank)) = self.builtin.matches(tree, device).into_iter().next() {
            return Some((Some(name), rank));
        }
        let in_kernel = self.in_kernel.as_ref()?;
        let rank = tree[device].compatible().position(|compatible| in_kernel.contains(compatible))?;
        Some((None, rank))
    }

    /// Whether a device without a driver that is known may have one in the kernel.
    pub fn may_be_builtin(&self) -> bool {
        self.in_kernel.is_none()
    }

    /// The modules of those functions of a chip that bring a property of another device, where modules drive the chip.
    pub fn functions(&self, driver: &Driver, property: &str) -> Vec<String> {
        let of = |module: &String| self.cells.bringing(module, property, |name| self.path(name));
        driver.best().iter().flat_map(of).collect()
    }

    /// Where a module or a part of the kernel comes from: its path in the kernel's build, `kernel/drivers/…`.
    pub fn path(&self, name: &str) -> Option<&str> {
        self.paths.get(name).or_else(|| self.builtin_names.get(name)).map(String::as_str)
    }

    /// Whether the kernel has it in itself.
    pub fn is_builtin(&self, name: &str) -> bool {
        self.builtin_names.contains_key(name)
    }

    /// The names of what would be modules and is in the kernel.
    pub fn builtin_modules(&self) -> impl Iterator<Item = &String> {
        self.builtin_names.keys()
    }

    /// Whether the tree has such a module.
    pub fn is_module(&self, name: &str) -> bool {
        self.paths.contains_key(name)
    }
}

impl Driver {
    /// The modules of which one must be there.
    pub fn modules(&self) -> &[String] {
        match self {
            Driver::Modules { names, .. } => names,
            _ => &[],
        }
    }

    /// Whether it is in the kernel.
    pub fn is_builtin(&self) -> bool {
        matches!(self, Driver::Builtin(_))
    }

    /// The modules that an image should have.
    pub fn best(&self) -> &[String] {
        match self {
            Driver::Modules { names, best } => &names[..*best],
            _ => &[],
        }
    }
}

impl Table {
    fn add(&mut self, alias: &str, module: &str) {
        let module = name::of(module).to_string();
        let of = |table: &mut HashMap<String, Vec<String>>, key: &str| {
            let modules = table.entry(normal(key)).or_default();
            if !modules.contains(&module) {
                modules.push(module.clone());
            }
        };
        if let Some(compatible) = alias.strip_prefix("of:N*T*C") {
            let plain = compatible.strip_suffix("C*").or(compatible.strip_suffix('*')).unwrap_or(compatible);
            if !plain.contains(['*', '?', '[']) {
                return of(&mut self.compatible, plain);
            }
        }
        if let Some(chip) = alias.strip_prefix("i2c:").or(alias.strip_prefix("spi:")) {
            return of(&mut self.chips, chip);
        }
        if alias.starts_with("of:") || alias.starts_with("amba:") {
            self.others.push((alias.into(), module));
        }
    }

    /// The modules for a device, each with the place of what it matches in `compatible`.
    fn matches(&self, tree: &DeviceTree, device: NodeId) -> Vec<(String, usize)> {
        let node = &tree[device];
        let mut ranked: Vec<(&String, usize)> = Vec::new();
        for (rank, compatible) in node.compatible().enumerate() {
            let names = self.compatible.get(&normal(compatible)).into_iter().flatten();
            ranked.extend(names.map(|name| (name, rank)));
        }
        let (modalias, amba) = (node.modalias().unwrap_or_default(), amba(tree, device));
        for (pattern, name) in &self.others {
            let is_amba = amba.as_deref().is_some_and(|amba| matches_pattern(pattern, amba));
            if is_amba || matches_pattern(pattern, &modalias) {
                ranked.push((name, 0));
            }
        }
        if ranked.is_empty() && is_chip(tree, device) {
            for (rank, compatible) in node.compatible().enumerate() {
                let chip = compatible.split_once(',').map_or(compatible, |(_, chip)| chip);
                ranked.extend(self.chips.get(&normal(chip)).into_iter().flatten().map(|name| (name, rank)));
            }
        }
        let mut found: Vec<(String, usize)> = Vec::new();
        for (name, rank) in ranked {
            if !found.iter().any(|(other, _)| other == name) {
                found.push((name.clone(), rank));
            }
        }
        found
    }
}

/// An alias as depmod's indexes have it: there is no difference between `-` and `_`.
fn normal(alias: &str) -> String {
    alias.replace('-', "_")
}

/// A path without what its file's name ends in.
fn stem(path: &str) -> &str {
    name::strip_ko(path).map_or(path, |(stem, _)| stem)
}

/// Whether a device is on a bus for I2C or SPI, whose drivers also go by the chip's name alone.
pub(crate) fn is_chip(tree: &DeviceTree, device: NodeId) -> bool {
    let bus = tree[device].parent.map(|bus| tree[bus].name.as_str()).unwrap_or_default();
    bus.starts_with("i2c") || bus.starts_with("spi")
}

/// The modalias of a device of Arm's AMBA bus. The kernel reads its number from the device; a tree may say it, and the
/// names of Arm's own cells have it in them.
fn amba(tree: &DeviceTree, device: NodeId) -> Option<String> {
    const DESIGNER_ARM: u32 = 0x41 << 12;
    let node = &tree[device];
    node.compatible().find(|compatible| *compatible == "arm,primecell")?;
    let cell = || {
        let number = node.compatible().find_map(|compatible| compatible.strip_prefix("arm,pl"))?;
        Some(DESIGNER_ARM | u32::from_str_radix(number, 16).ok()?)
    };
    node.number("arm,primecell-periphid").or_else(cell).map(|id| format!("amba:d{id:08X}"))
}

/// The aliases of a tree's modules, each with a module.
fn aliases(tree: &Tree) -> Result<Vec<(String, String)>> {
    let dir = tree.index_dir();
    if let Ok(text) = fs::read_to_string(dir.join("modules.alias")) {
        let lines = text.lines().filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("alias")).then_some(())?;
            Some((words.next()?.to_string(), words.next()?.to_string()))
        });
        return Ok(lines.collect());
    }
    let file = dir.join("modules.alias.bin");
    let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
    let mut found = Vec::new();
    let mut read = || -> Result<(), modest_loader::resolve::index::IndexError> {
        Index::new(&bytes)?.each(&mut |alias, module| found.push((alias.to_string(), module.to_string())))
    };
    read().map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device_tree::made;
    use crate::kernel::made::tree;

    const ALIAS: &[u8] =
        b"alias of:N*T*Cx,mmc-2 mmc_two\nalias of:N*T*Cx,mmc-2C* mmc_two\nalias of:N*T*Cx,mmcC* mmc-one\n\
        alias of:Nrtc*T*C* by_name\nalias i2c:chip chip_i2c\nalias amba:d0004[1-2]18[0-1]* mmci\nalias pci:v1 pci\n";
    const MODINFO: &[u8] = b"own.alias=of:N*T*Cx,own\0own.alias=of:N*T*Cx,ownC*\0own.file=drivers/own\0";

    #[test]
    fn a_device_is_driven_by_what_its_aliases_match() {
        let files: &[(&str, &[u8])] = &[
            ("modules.dep", b"kernel/drivers/mmc/host/mmc_two.ko.xz:\n"),
            ("modules.alias", ALIAS),
            ("modules.builtin", b"kernel/drivers/own.ko\n"),
            ("modules.builtin.modinfo", MODINFO),
        ];
        let (_tmp, kernel) = tree(files);
        let drivers = Drivers::read(&kernel, None).unwrap();
        let devices = made::tree(
            "mmc@1 { compatible = s:x,mmc-2|x,mmc }
            rtc@1 { compatible = s:any }
            i2c@1 { compatible = s:x; chip@1 { compatible = s:v,chip } }
            mci@1 { compatible = s:arm,pl180|arm,primecell }
            own@1 { compatible = s:x,own|x,mmc }
            none { compatible = s:v,chip }",
        );
        let of = |name| drivers.of(&devices, devices.find(name).unwrap());
        let modules =
            |names: &[&str], best| Driver::Modules { names: names.iter().map(|name| name.to_string()).collect(), best };
        assert_eq!(of("mmc@1"), modules(&["mmc_two", "mmc_one"], 1));
        assert_eq!(of("mmc@1").best(), ["mmc_two"]);
        assert_eq!(of("rtc@1"), modules(&["by_name"], 1));
        assert_eq!(of("chip@1"), modules(&["chip_i2c"], 1));
        assert_eq!(of("mci@1"), modules(&["mmci"], 1));
        assert_eq!(of("own@1"), Driver::Builtin(Some("own".into())));
        assert_eq!(of("none"), Driver::None);
        let drivers = Drivers::read(&kernel, Some(["v,chip".into(), "x,mmc".into()].into())).unwrap();
        let of = |name| drivers.of(&devices, devices.find(name).unwrap());
        assert_eq!((of("none"), of("mmc@1").modules().len()), (Driver::Builtin(None), 2));
        assert_eq!(drivers.path("mmc_two"), Some("kernel/drivers/mmc/host/mmc_two"));
        assert_eq!((drivers.path("own"), drivers.is_builtin("own")), (Some("kernel/drivers/own"), true));
    }

    #[test]
    fn indexes_without_their_texts_do() {
        let bin = modest_index_writer::binary_index([("of:N*T*Cx,mmcC*".to_string(), 0, "mmc".to_string())]).unwrap();
        let (_tmp, kernel) = tree(&[("modules.dep", b"k/mmc.ko:\n"), ("modules.alias.bin", &bin)]);
        let devices = made::tree("m { compatible = s:x,mmc }");
        let driver = Drivers::read(&kernel, None).unwrap().of(&devices, devices.find("m").unwrap());
        assert_eq!(driver.modules(), ["mmc"]);
    }
}
