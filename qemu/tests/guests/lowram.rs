//! A machine with 16 MB, and a module of 3 MB in gzip: it goes through the window, in user memory that is a fraction of it,
//! or through the kernel's decoder.

use mkmodest::codec;
use modest_loader::format::Format;
use modest_qemu::{BIG_IS_WHOLE, Loader, Scenario, line, module_file, sha256};

/// Boots with just that module: the console until the machine ends.
fn load_big(kernel: &str, loader: Loader) -> String {
    Scenario::big(kernel, Format::Gzip, loader).unwrap().boot().unwrap().wait_for_end().unwrap()
}

#[test]
fn three_megabytes_in_gzip_load_by_stream() {
    let console = load_big("small", Loader::Modest(""));
    line(&console, "modest_big: loaded by stream").unwrap();
    assert!(console.contains(BIG_IS_WHOLE), "{console}");
}

/// The most memory of its own that loading may take, in KiB, by format: the dictionary of xz is what `mkmodest` and the kernel's
/// build ask for, the window of zstd what `mkmodest` does. It protects what is promised: a fraction of the module. So each bound
/// has a quarter of headroom for other compilers and kernels.
const MOST_KIB: [(Format, Pinned, u32); 7] = [
    (Format::Plain, Pinned::No, 96),
    (Format::Gzip, Pinned::No, 192),
    (Format::Xz, Pinned::No, 1024 + 256),
    (Format::Zstd, Pinned::No, 128 + 384),
    (Format::Plain, Pinned::Yes, 176),
    (Format::Plain, Pinned::Finit, 128),
    (Format::Gzip, Pinned::Yes, 224),
];

/// Whether modules have a digest in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pinned {
    No,
    Yes,
    /// And are loaded by `@path=finit`.
    Finit,
}

impl Pinned {
    /// The path that a file of this format is loaded by.
    fn path(self, format: Format) -> &'static str {
        if format == Format::Plain && self != Pinned::Yes { "finit" } else { "stream" }
    }

    fn attributes(self, image: &[u8]) -> String {
        let path = if self == Pinned::Finit { " @path=finit" } else { "" };
        if self == Pinned::No { String::new() } else { format!(" @sha256={}{path}", sha256(image)) }
    }
}

/// Loads a module of 6 KB, and after it one of 3 MB, in a format: for each what the loader had
/// of its own while it had most, which these kernels count to the page; it may be no more than was predicted, and no more than
/// `most_kib`.
fn memory_stays_below(board: &str, (format, pinned, most_kib): (Format, Pinned, u32)) {
    let names = ["modest_params", "modest_big"];
    let file = |name| format!("/m/{name}.ko{}", format.ending());
    // More than the board has, so that nothing is left out for lack of memory.
    let mut scenario = Scenario::with_manifest(board, None, "").unwrap().memory("64");
    let mut manifest = String::new();
    for name in names {
        let image = scenario.module(name).unwrap();
        manifest += &format!("{}{}\n", file(name), pinned.attributes(&image));
        scenario = scenario.file(&file(name), codec::encode(&image, format).unwrap());
    }
    scenario.options.verbatim_manifest = Some((manifest + "@exec /none\n").into());
    // While the kernel unpacks it, the archive is in memory too.
    scenario.options.compress = Format::Gzip;
    let console = scenario.append("modest.debug").boot().unwrap().wait_for("modest: stopped here").unwrap();
    assert!(console.contains(BIG_IS_WHOLE), "{console}");
    let path = pinned.path(format);
    for name in names {
        line(&console, &format!("{name}: loaded by {path}, ")).unwrap();
        let memory = line(&console, &format!("{name}: memory: ")).unwrap();
        let mut kib = memory.split(' ').filter_map(|word| word.parse::<u32>().ok());
        let (predicted, took) = (kib.next().unwrap(), kib.next().unwrap());
        println!("{board}, .ko{}, pinned: {pinned:?}: {memory}", format.ending());
        assert!(took <= most_kib && took <= predicted, "{board}: {memory}");
    }
}

#[test]
fn the_loaders_memory_does_not_grow_with_the_module_on_armv7() {
    MOST_KIB.into_iter().for_each(|most| memory_stays_below("lowram-armv7", most));
}

#[test]
fn the_loaders_memory_does_not_grow_with_the_module_on_riscv64() {
    MOST_KIB.into_iter().for_each(|most| memory_stays_below("lowram-riscv64", most));
}

/// Kernels for several processors count in batches; `modest peak` counts page by page, at each system call.
#[test]
fn the_loaders_memory_does_not_grow_with_the_module_on_aarch64() {
    let mut scenario = Scenario::with_manifest("qemu-aarch64", None, "@exec /next\n").unwrap();
    let modest = scenario.options.init.clone();
    scenario.options.init = modest.with_file_name("modest-gzip,bench");
    scenario = scenario.program("/modest", &modest).unwrap();
    let mut script = "mount -t proc p /proc; mount -t sysfs s /sys\n".to_string();
    let mut limits = Vec::new();
    for name in ["squashfs", "qed"] {
        let image = scenario.module(name).unwrap();
        for (format, pinned, most_kib) in MOST_KIB {
            let file = format!("/m/{name}.ko{}", format.ending());
            let path = if pinned == Pinned::No { format!(" @path={}", pinned.path(format)) } else { String::new() };
            let attributes = pinned.attributes(&image);
            scenario = scenario.file(&file, codec::encode(&image, format).unwrap());
            let manifest = format!("{file}.{pinned:?}");
            scenario = scenario.file(&manifest, format!("{file}{attributes}{path}\n"));
            let label = manifest.clone();
            script += &format!("echo {label} $(/init peak /modest load -q -m {manifest}) left=$(rmmod {name} 2>&1)\n");
            limits.push((label, most_kib));
        }
    }
    let script = script + "echo ALL-MEASURED\n";
    // Where the stack begins makes a page of difference.
    let scenario = scenario.append("norandmaps").script("/next", &script).unwrap();
    let console = scenario.boot().unwrap().wait_for("ALL-MEASURED").unwrap();
    for (label, most_kib) in limits {
        let told =
            console.lines().find(|line| line.starts_with(&format!("{label} "))).unwrap_or_else(|| panic!("{console}"));
        println!("{told}");
        assert!(told.contains(" status=0 ") && told.trim().ends_with("left="), "{told}");
        let kib = told.split_once("anonymous_kib=").unwrap().1.split(' ').next().unwrap();
        assert!(kib.parse::<u32>().unwrap() <= most_kib, "over {most_kib}: {told}");
    }
}

#[test]
fn a_lack_of_memory_is_told_and_pid_1_outlives_it() {
    for format in [Format::Plain, Format::Gzip] {
        let mut scenario = Scenario::big("small", format, Loader::Modest("")).unwrap().memory("12");
        // So little that the kernel cannot unpack an image with a larger one.
        scenario.options.init = scenario.options.init.with_file_name("modest-gzip");
        let console = scenario.boot().unwrap().wait_for_end().unwrap();
        assert!(console.contains("invoked oom-killer"), "{console}");
        line(&console, "modest_big: ENOMEM: ").unwrap();
        line(&console, "restarting, by @on-error reboot").unwrap();
    }
}

/// Three in a row, each too large: two are links, as three plain files do not fit.
fn three_too_large(format: Format, memory: &str) -> String {
    let mut scenario = Scenario::with_manifest("lowram-armv7", Some("small"), "").unwrap().memory(memory);
    // So little that the kernel cannot unpack an image with a larger one.
    scenario.options.init = scenario.options.init.with_file_name("modest-gzip");
    let file = |name| format!("{name}.ko{}", format.ending());
    let bytes = codec::encode(&scenario.module("modest_big").unwrap(), format).unwrap();
    let manifest = ["a", "b", "c"].map(|name| format!("/{}\n", file(name))).concat() + "@exec /none\n";
    scenario.options.verbatim_manifest = Some(manifest.into());
    let links = ["b", "c"].map(|name| format!("/{}", file(name)));
    scenario = scenario.file(&format!("/{}", file("a")), bytes);
    scenario = links.iter().fold(scenario, |scenario, link| scenario.link(link, &file("a")));
    scenario.boot().unwrap().wait_for("modest: stopped here").unwrap()
}

#[test]
fn each_lack_of_memory_costs_one_module() {
    for (format, memories) in [(Format::Gzip, ["11", "12"]), (Format::Plain, ["13", "14"])] {
        for memory in memories {
            let console = three_too_large(format, memory);
            for name in ["a", "b", "c"] {
                line(&console, &format!("{name}: ENOMEM: ")).unwrap();
            }
            line(&console, "0 loaded, 0 present, 0 skipped, 3 failed").unwrap();
            assert_eq!(console.matches("invoked oom-killer").count(), 3, "{memory}: {console}");
        }
    }
}

/// A machine that has enough for the first of many modules, which the kernel reads itself.
#[test]
fn what_is_available_is_asked_as_it_shrinks() {
    const MODULES: usize = 27;
    let mut scenario = Scenario::with_manifest("lowram-armv7", Some("small"), "").unwrap().memory("158");
    let image = scenario.module("modest_big").unwrap();
    let mut manifest = String::new();
    for number in 0..MODULES {
        // Its name has as many letters wherever it is in the image.
        let (name, mut image) = (format!("modest_b{number:02}"), image.clone());
        let at: Vec<_> = (0..image.len()).filter(|at| image[*at..].starts_with(b"modest_big")).collect();
        at.iter().for_each(|at| image[*at..*at + name.len()].copy_from_slice(name.as_bytes()));
        manifest += &format!("/{name}.ko\n");
        scenario = scenario.file(&format!("/{name}.ko"), image);
    }
    scenario.options.verbatim_manifest = Some((manifest + "@exec /none\n").into());
    // While the kernel unpacks it, the archive is in memory too.
    scenario.options.compress = Format::Gzip;
    let console = scenario.append("modest.debug").boot().unwrap().wait_for("modest: stopped here").unwrap();
    let count = |what: &str| console.lines().filter(|line| line.starts_with("modest: ") && line.contains(what)).count();
    let loaded = count(": loaded by finit, ");
    let failed = count(": ENOMEM: ") + count(": it needs ");
    println!("{loaded} loaded, {failed} not; killed: {}", console.matches("invoked oom-killer").count());
    line(&console, &format!("{loaded} loaded, 0 present, 0 skipped, {failed} failed")).unwrap();
    assert!(loaded > MODULES / 2 && failed > 1 && loaded + failed == MODULES, "{console}");
}

#[test]
fn without_userfaultfd_streaming_is_refused_and_others_serve() {
    let console = load_big("bare", Loader::Modest("@path=stream"));
    line(&console, "modest_big: @path=stream cannot load a gzip file on this kernel").unwrap();
    for (attributes, path) in [("", "finit-compressed"), ("@path=buffer", "buffer")] {
        let console = load_big("bare", Loader::Modest(attributes));
        line(&console, &format!("modest_big: loaded by {path}")).unwrap();
        assert!(console.contains(BIG_IS_WHOLE), "{console}");
    }
}

#[test]
fn where_modest_loads_it_busybox_runs_out_of_memory() {
    let busybox = Scenario::new("lowram-armv7", None).unwrap().kernel.busybox();
    let console = load_big("small", Loader::Insmod(&busybox));
    assert!(console.contains("Run /insmod as init process"), "{console}");
    assert!(console.contains("insmod invoked oom-killer"), "{console}");
    assert!(console.contains("Kernel panic - not syncing: System is deadlocked on memory"), "{console}");
    assert!(!console.contains("modest_big: 800 chips"), "{console}");
}

/// What it takes to find out what `ext4` needs, from the indexes of all of Debian's modules, beyond what a path does.
#[test]
fn resolving_a_name_takes_little_memory() {
    const MOST_KIB: u32 = 144;
    let mut scenario = Scenario::with_manifest("qemu-aarch64", None, "@exec /next\n").unwrap();
    let modest = scenario.options.init.clone();
    scenario.options.init = modest.with_file_name("modest-gzip,bench");
    let tree = scenario.kernel.tree.clone();
    for table in ["dep", "alias", "symbols", "builtin", "builtin.alias"] {
        let file = format!("modules.{table}.bin");
        scenario = scenario.file(&format!("/t/{file}"), std::fs::read(tree.dir.join(&file)).unwrap());
    }
    scenario = scenario.file("/t/modules.softdep", std::fs::read(tree.dir.join("modules.softdep")).unwrap());
    for name in ["ext4", "jbd2", "mbcache", "crc16", "crc32c_generic"] {
        let file = module_file(&tree, name).unwrap();
        scenario = scenario.file(&format!("/t/{file}"), std::fs::read(tree.dir.join(&file)).unwrap());
    }
    let ext4 = module_file(&tree, "ext4").unwrap();
    scenario = scenario.file("/path", format!("@root /t\n{ext4}\n")).file("/name", "@root /t\next4\n");
    let script = "mount -t proc p /proc\n/modest load -n -m /name\n\
        for what in path name; do echo $what $(/init peak /modest load -n -m /$what); done\necho ALL-MEASURED\n";
    let scenario = scenario.program("/modest", &modest).unwrap().append("norandmaps").script("/next", script).unwrap();
    let console = scenario.boot().unwrap().wait_for("ALL-MEASURED").unwrap();
    line(&console, "would be: 5 loaded, 0 present, 0 skipped, 0 failed").unwrap();
    let kib = |what: &str| {
        let told = console.lines().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("{console}"));
        println!("{told}");
        told.split_once("anonymous_kib=").unwrap().1.split(' ').next().unwrap().parse::<u32>().unwrap()
    };
    let (path, name) = (kib("path "), kib("name "));
    assert!(name - path <= MOST_KIB, "{name} KiB by name, {path} by path");
}

/// What the kernel has no room for as it unpacks the initramfs, it leaves as zeros: a tmpfs takes half of the memory.
#[test]
fn a_file_that_was_not_unpacked_whole_is_said_to_end_in_zeros() {
    let mut scenario = Scenario::with_manifest("lowram-armv7", Some("small"), "").unwrap().memory("32");
    let image = scenario.module("modest_big").unwrap();
    let names = ["a", "b", "c", "d", "e", "f"];
    let manifest = names.map(|name| format!("/m/{name}.ko\n")).concat() + "@exec /none\n";
    scenario.options.verbatim_manifest = Some(manifest.into());
    scenario.options.compress = Format::Gzip;
    for name in names {
        scenario = scenario.file(&format!("/m/{name}.ko"), image.clone());
    }
    let console = scenario.append("rootfstype=tmpfs").boot().unwrap().wait_for("modest: stopped here").unwrap();
    assert!(console.contains("Initramfs unpacking failed"), "{console}");
    let says = ": the file ends in zeros: it was not written whole";
    assert!(console.lines().any(|line| line.starts_with("modest: ") && line.contains(says)), "{console}");
    assert!(!console.contains("stripped"), "{console}");
}
