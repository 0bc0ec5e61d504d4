//! All device trees that come with the kernels are read, and what their boards need before a disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mkmodest::device_tree::{DeviceTree, Devices, Drivers};
use mkmodest::kernel::modprobe::Database;
use mkmodest::kernel::{KernelPackage, KernelSymbols, Tree};
use modest_loader::name::{self, Name};
use modest_loader::resolve::plan::{Action, Blacklists};

/// A board whose kernel is read, how many trees come with that at least, and on how many of them the controller of an SD
/// card, an eMMC or a UFS disk that is best off needs a module that modprobe does not bring.
const KERNELS: [(&str, usize, usize); 3] =
    [("qemu-aarch64", 900, 500), ("qemu-armv7", 800, 150), ("qemu-riscv64", 30, 15)];

#[test]
fn all_device_trees_are_read() {
    for (board, at_least, supplied_at_least) in KERNELS {
        let board = mkmodest::board::Board::read(&modest_qemu::project().join(format!("boards/{board}.toml"))).unwrap();
        let kernel = KernelPackage::find(&board, None).unwrap();
        let symbols = KernelSymbols::read(&kernel.image()).unwrap();
        let in_kernel = symbols.compatible();
        let (start, drivers) = (Instant::now(), Arc::new(Drivers::read(&kernel.tree, in_kernel).unwrap()));
        let database = Database::read(&kernel.tree, &[], "", &mut |line| panic!("{line}")).unwrap();
        let pattern = format!("{}/dtb/**/*.dtb", kernel.dir.display());
        let (mut read, mut with_disk, mut supplied) = (0, 0, 0);
        for file in glob::glob(&pattern).unwrap() {
            let file = file.unwrap();
            let devices = Devices::new(DeviceTree::load(&file).unwrap(), drivers.clone());
            read += 1;
            let extra = fewest_extra(&devices, &kernel.tree, &database, &file);
            with_disk += usize::from(extra.is_some());
            supplied += usize::from(extra.is_some_and(|extra| extra > 0));
        }
        println!(
            "{}: {read} device trees in {:.1} s, at most {} KiB in memory; of {with_disk} boards with a disk by a module, {supplied} need \
             a supplier that modprobe does not bring",
            kernel.tree.release,
            start.elapsed().as_secs_f32(),
            peak_kib(),
        );
        assert!(read >= at_least && supplied >= supplied_at_least, "{read} {supplied}");
    }
}

/// The number of modules that the best-off disk controller of a board needs and modprobe of its driver does not bring.
fn fewest_extra(devices: &Devices, tree: &Tree, database: &Database, file: &Path) -> Option<usize> {
    let is_disk = |name: &String| {
        let path = devices.drivers.path(name).unwrap_or_default();
        path.contains("/mmc/host/") || path.contains("/ufs/")
    };
    let extra = devices.ids().filter_map(|device| {
        let modules = devices.driver(device).best();
        modules.iter().any(is_disk).then_some(())?;
        let brought = brought(modules, tree, database, file);
        let needs = devices.needs(device);
        let lacks = needs
            .iter()
            .filter(|need| !devices.driver(need.supplier).modules().iter().any(|name| brought.contains(name)));
        Some(lacks.count())
    });
    extra.min()
}

/// What modprobe loads for modules.
fn brought(modules: &[String], tree: &Tree, database: &Database, file: &Path) -> BTreeSet<String> {
    let mut brought = BTreeSet::new();
    for module in modules {
        let planned = database.plan(Blacklists::Aliases, module, &mut |step, _| {
            if let Action::Load(file) = step.action {
                brought.insert(Name(name::of(file).0).to_string());
            }
            true
        });
        planned.unwrap_or_else(|error| panic!("{}: {module}: {error}, in {}", file.display(), tree.dir.display()));
    }
    brought
}

/// The most memory that this process has had at one time.
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
