//! All device trees that come with the kernels are read, and what their boards need before a disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mkmodest::check::DeviceSet;
use mkmodest::device_tree::{DeviceTree, Devices, Drivers};
use mkmodest::disk::MARKER;
use mkmodest::kernel::modprobe::Database;
use mkmodest::kernel::{KernelPackage, KernelSymbols, Tree};
use modest_loader::name::{self, Name};
use modest_loader::resolve::plan::{Action, Blacklists};
use modest_qemu::Scenario;

/// A board whose kernel is read, how many trees come with that at least, and on how many of them the controller of an SD
/// card, an eMMC or a UFS disk that is best off needs a module that modprobe does not bring.
const KERNELS: [(&str, usize, usize); 3] =
    [("qemu-aarch64", 900, 500), ("qemu-armv7", 800, 150), ("qemu-riscv64", 30, 15)];

#[test]
fn all_device_trees_are_read() {
    for (board, at_least, supplied_at_least) in KERNELS {
        let board = mkmodest::board::Board::read(&modest_qemu::project().join(format!("boards/{board}.toml"))).unwrap();
        let kernel = KernelPackage::find(&board, None).unwrap();
        let (start, drivers) = (Instant::now(), Arc::new(drivers_of(&kernel)));
        let database = Database::read(&kernel.tree, &[], "", &mut |line| panic!("{line}")).unwrap();
        let pattern = format!("{}/dtb/**/*.dtb", kernel.dir.display());
        let (mut read, mut with_disk, mut supplied) = (0, 0, 0);
        for file in glob::glob(&pattern).unwrap() {
            let file = file.unwrap();
            let devices = Devices::new(DeviceTree::load(&file).unwrap(), drivers.clone());
            read += 1;
            let extra = fewest_extra(&devices, &kernel.tree, &database, &file);
            assert_eq!(missed_on_the_way(&devices), [""; 0], "{}", file.display());
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

/// The drivers of a kernel, those that it has in itself among them.
fn drivers_of(kernel: &KernelPackage) -> Drivers {
    let symbols = KernelSymbols::read(&kernel.image()).unwrap();
    Drivers::read(&kernel.tree, symbols.compatible()).unwrap()
}

/// The devices of a board's own tree.
fn devices_of(kernel: &KernelPackage) -> Devices {
    Devices::load(&kernel.device_tree().unwrap(), drivers_of(kernel)).unwrap()
}

/// What `mkmodest check` would miss of what `mkmodest board` would write.
fn missed_on_the_way(devices: &Devices) -> Vec<String> {
    let loaded = devices.modules_to_disks(&devices.disks());
    let set = DeviceSet { devices, loaded: &loaded, later: &[], root: None };
    set.problems().iter().filter(|problem| problem.is_problem()).map(ToString::to_string).collect()
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

#[test]
fn each_module_that_a_board_lists_is_missed_by_its_name() {
    assert_eq!(left_out(&["mcimx6ul-evk", "raspi3b-usb", "hifive-unleashed"]), 12);
}

#[test]
#[ignore = "of all boards: --include-ignored"]
fn each_module_that_any_board_lists_is_missed_by_its_name() {
    let boards = modest_qemu::boards().unwrap();
    assert!(left_out(&boards.iter().map(String::as_str).collect::<Vec<_>>()) >= 40);
}

/// Of boards that have a device tree, each module in turn is left out: the image is refused beforehand, and the problem names
/// the module. Returns their number.
fn left_out(boards: &[&str]) -> usize {
    // The watchdog is there to restart the board, not for its root.
    const NOT_FOR_THE_ROOT: [&str; 1] = ["bcm2835_wdt"];
    let (mut all, mut wrong) = (0, Vec::new());
    for board in boards {
        let mut scenario = Scenario::new(board, None).unwrap();
        if scenario.kernel.device_tree().is_none() {
            continue;
        }
        scenario.options.devices = Some(Arc::new(devices_of(&scenario.kernel)));
        scenario.options.add_suppliers = false;
        assert_eq!(problems(&scenario), [""; 0], "{board}");
        for at in 0..scenario.board.modules.len() {
            let module = scenario.board.modules.remove(at);
            let name = name::of(&module.line).to_string();
            if !NOT_FOR_THE_ROOT.contains(&name.as_str()) {
                all += 1;
                let told = problems(&scenario);
                if !told.iter().any(|problem| problem.contains(&name)) {
                    wrong.push(format!("{board} without {name}: {told:?}"));
                }
            }
            scenario.board.modules.insert(at, module);
        }
    }
    println!("{} of {all} named", all - wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    all
}

/// What is wrong with the image of a board.
fn problems(scenario: &Scenario) -> Vec<String> {
    let report =
        mkmodest::image::check(&scenario.board, &scenario.kernel.spec, &scenario.kernel.tree, &scenario.options);
    let problems = report.unwrap().problems.into_iter().filter(|problem| problem.is_problem());
    problems.map(|problem| problem.to_string()).collect()
}

/// `mkmodest board` writes what the boards have that it wrote: the modules on the way to the root.
#[test]
fn the_boards_that_were_written_are_what_mkmodest_board_writes() {
    let written = [
        "mcimx6ul-evk",
        "mcimx7d-sabre",
        "sabrelite",
        "vexpress-a9",
        "vexpress-a15",
        "cubieboard",
        "cubieboard-sata",
        "highbank",
        "raspi2b",
        "raspi2b-usb",
        "raspi3b-usb",
    ];
    for name in written {
        let scenario = Scenario::new(name, None).unwrap();
        let devices = devices_of(&scenario.kernel);
        let root = scenario.board.root_device.as_deref().map(|root| vec![devices.tree.find(root).unwrap()]);
        let mut modules = devices.modules_to_disks(&root.unwrap_or(devices.disks()));
        modules.push("ext4".into());
        let listed: Vec<_> = scenario.board.modules.iter().map(|module| module.line.clone()).collect();
        assert_eq!(listed, modules, "{name}");
    }
}

/// Boards whose files lack a supplier boot all the same, and no device waits: the image has it, and loads it first.
fn boots_with_what_is_added(board: &str, without: &str) {
    let mut scenario = Scenario::new(board, None).unwrap();
    scenario.options.devices = Some(Arc::new(devices_of(&scenario.kernel)));
    scenario.board.modules.retain(|module| name::of(&module.line).to_string() != without);
    let note = scenario.image().unwrap().notes.into_iter().find(|note| note.starts_with("suppliers go first"));
    assert!(note.as_ref().is_some_and(|note| note.ends_with(&format!(": {without}"))), "{note:?}");
    let console = scenario.boot().unwrap().wait_for(MARKER).unwrap();
    let first = console.lines().find(|line| line.starts_with("modest: ") && line.contains(": loaded by ")).unwrap();
    assert!(
        name::of(first.trim_start_matches("modest: ").split(':').next().unwrap()).to_string() == without,
        "{first}"
    );
    assert!(!console.contains("deferred probe"), "{console}");
}

#[test]
fn the_gpio_controller_of_a_card_is_added() {
    boots_with_what_is_added("mcimx6ul-evk", "gpio_mxc");
}

#[test]
fn the_phy_of_usb_is_added() {
    boots_with_what_is_added("raspi3b-usb", "phy_generic");
}

#[test]
fn the_spi_controller_of_a_card_is_added() {
    boots_with_what_is_added("hifive-unleashed", "spi_sifive");
}
