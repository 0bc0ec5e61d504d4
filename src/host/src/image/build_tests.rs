use super::*;
use crate::board::tests::{MINIMAL, board};
use crate::codec::decode;
use crate::device_tree;
use crate::kernel::made::tree;
use crate::kernel::modprobe::Database;
use crate::module::made::module;
use crate::module::strip::{self, Strip};
use cpio::newc;
use modest_loader::format::Format;
use std::io::Read;

/// Path, mode, device and content.
type Listed = (String, u32, (u32, u32), Vec<u8>);

/// Everything in an archive.
fn entries(mut archive: &[u8]) -> Vec<Listed> {
    let mut all = Vec::new();
    loop {
        let mut reader = newc::Reader::new(archive).unwrap();
        let entry = reader.entry();
        if entry.is_trailer() {
            return all;
        }
        assert_eq!((entry.mtime(), entry.uid(), entry.gid(), entry.ino()), (0, 0, 0, all.len() as u32 + 1));
        let (name, mode, len) = (entry.name().to_string(), entry.mode(), entry.file_size());
        let device = (entry.rdev_major(), entry.rdev_minor());
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), len as usize);
        all.push((name, mode, device, bytes));
        archive = reader.finish().unwrap();
    }
}

/// Of virtio_blk, which the board gives it.
const DEPTH: &str = "parmtype=queue_depth:uint";

struct Fixture {
    tmp: tempfile::TempDir,
    tree: Tree,
    options: Options,
}

fn fixture() -> Fixture {
    let ext4 = module(&["firmware=fw/a.bin", "firmware=fw/b*.bin", "firmware=fw/none.bin"]);
    let blk = encode(&module(&["firmware=fw/a.bin", "vermagic=6.1.0 x", DEPTH]), Format::Xz).unwrap();
    let (tmp, tree) = tree(&[
        ("modules.dep", b"k/ext4.ko:\nk/virtio_blk.ko.xz: k/ext4.ko\n"),
        ("k/ext4.ko", &ext4),
        ("k/virtio_blk.ko.xz", &blk),
    ]);
    let firmware = tmp.path().join("firmware");
    fs::create_dir_all(firmware.join("fw")).unwrap();
    for name in ["a.bin.zst", "b1.bin", "b2.bin", "c.bin"] {
        fs::write(firmware.join("fw").join(name), name).unwrap();
    }
    let init = tmp.path().join("modest");
    fs::write(&init, "#!/bin/sh\n").unwrap();
    let options = Options { firmware: Some(firmware), ..Options::new(init) };
    Fixture { tmp, tree, options }
}

fn built(fixture: &Fixture) -> Image {
    let board = board(MINIMAL).unwrap();
    build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap()
}

#[test]
fn an_image_has_what_the_boot_needs_and_no_more() {
    let fixture = fixture();
    let image = built(&fixture);
    let entries = entries(&image.bytes);
    let listed: Vec<_> = entries.iter().map(|(name, mode, device, _)| (name.as_str(), *mode, *device)).collect();
    let dir = |name| (name, 0o40755, (0, 0));
    let file = |name| (name, 0o100644, (0, 0));
    assert_eq!(
        listed,
        [
            dir("dev"),
            ("dev/console", 0o20600, (5, 1)),
            ("dev/kmsg", 0o20644, (1, 11)),
            ("dev/null", 0o20666, (1, 3)),
            dir("etc"),
            file("etc/modest.manifest"),
            ("init", 0o100755, (0, 0)),
            dir("lib"),
            dir("lib/firmware"),
            dir("lib/firmware/fw"),
            file("lib/firmware/fw/a.bin.zst"),
            file("lib/firmware/fw/b1.bin"),
            file("lib/firmware/fw/b2.bin"),
            dir("lib/modules"),
            dir("lib/modules/6.1.0"),
            dir("lib/modules/6.1.0/k"),
            file("lib/modules/6.1.0/k/ext4.ko"),
            file("lib/modules/6.1.0/k/virtio_blk.ko.xz"),
            dir("proc"),
            dir("sys"),
        ]
    );
    let content = |path: &str| &entries.iter().find(|(name, ..)| name == path).unwrap().3;
    assert_eq!(content("lib/firmware/fw/b1.bin"), b"b1.bin");
    assert_eq!(content("lib/modules/6.1.0/k/ext4.ko"), &fs::read(fixture.tree.dir.join("k/ext4.ko")).unwrap());
    let ext4 = content("lib/modules/6.1.0/k/ext4.ko").len();
    let blk = decode(content("lib/modules/6.1.0/k/virtio_blk.ko.xz")).unwrap().len();
    assert_eq!(
        std::str::from_utf8(content("etc/modest.manifest")).unwrap(),
        format!(
            "# b, Linux 6.1.0\n@root /lib/modules/6.1.0\n@budget 524288\n@on-error stop\nk/ext4.ko @size={ext4}\n\
             k/virtio_blk.ko.xz @optional @size={blk} queue_depth=64\n@switch-root\n"
        )
    );
    assert_eq!((image.modules, image.modules_image_bytes), (2, (ext4 + blk) as u64));
    let missing = format!(
        "k/ext4.ko: may ask for firmware fw/none.bin, not in {}: put it there, or pass --force if the device has it already",
        fixture.options.firmware.as_ref().unwrap().display()
    );
    assert_eq!(image.notes, [missing]);
}

#[test]
fn a_tree_without_indexes_makes_the_same_image() {
    let mut fixture = fixture();
    let blk = module(&["depends=ext4", "vermagic=6.1.0 x", DEPTH]);
    fs::write(fixture.tree.dir.join("k/virtio_blk.ko.xz"), encode(&blk, Format::Xz).unwrap()).unwrap();
    fs::write(fixture.tree.dir.join("k/ext4.ko"), module(&["vermagic=6.1.0 x"])).unwrap();
    let image = built(&fixture);
    fs::remove_file(fixture.tree.dir.join("modules.dep")).unwrap();
    fixture.tree = Tree::find(&fixture.tree.dir).unwrap();
    let again = built(&fixture);
    assert_eq!(again.manifest, image.manifest);
    assert!(again.bytes == image.bytes);
}

#[test]
fn the_same_input_makes_the_same_bytes() {
    let mut fixture = fixture();
    fixture.options.change.format = Some(Format::Gzip);
    for format in [Format::Plain, Format::Gzip, Format::Xz, Format::Zstd] {
        fixture.options.compress = format;
        let image = built(&fixture);
        assert_eq!(Format::of(&image.bytes), format);
        let names: Vec<_> = entries(&decode(&image.bytes).unwrap()).into_iter().map(|(name, ..)| name).collect();
        assert!(names.contains(&"lib/modules/6.1.0/k/virtio_blk.ko.gz".into()), "{names:?}");
        assert!(image.manifest.contains("k/virtio_blk.ko.gz @optional"), "{}", image.manifest);
        // Nothing of a file's age or place may show.
        for file in ["k/ext4.ko", "k/virtio_blk.ko.xz"] {
            let path = fixture.tree.dir.join(file);
            let bytes = fs::read(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
        assert!(built(&fixture).bytes == image.bytes);
    }
}

#[test]
fn what_the_kernel_would_refuse_is_refused_but_by_force() {
    let mut fixture = fixture();
    let mut riscv = module(&["vermagic=6.1.0 x"]);
    riscv[18] = 243;
    fs::write(fixture.tree.dir.join("k/ext4.ko"), riscv).unwrap();
    let old = module(&["vermagic=5.0 x", "parmtype=q_depth:uint", "firmware=fw/none.bin", "name=virtio_blk"]);
    fs::write(fixture.tree.dir.join("k/virtio_blk.ko.xz"), encode(&old, Format::Xz).unwrap()).unwrap();
    let board = board(MINIMAL).unwrap();
    let dir = fixture.options.firmware.as_ref().unwrap().display().to_string();
    let problems = [
        "k/ext4.ko: built for RISC-V (64 bits); the board is AArch64: take it from a kernel for AArch64",
        "k/virtio_blk.ko.xz: built for Linux 5.0, not 6.1.0: take all modules from one build",
        "k/virtio_blk.ko.xz: parameter `queue_depth` unknown; it has `q_depth` (uint): write `q_depth=`",
        &format!(
            "k/virtio_blk.ko.xz: asks for firmware fw/none.bin, and none of it is in {dir}: put it there, or pass --force if \
             the device has it already"
        ),
    ];
    let error = build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap_err().to_string();
    let told = "modules that the kernel would refuse, or not run as asked; --force makes the image all the same:";
    assert_eq!(error.lines().collect::<Vec<_>>(), [&[told], &problems[..]].concat());
    let report = check(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap();
    assert_eq!(report.problems.iter().map(Problem::to_string).collect::<Vec<_>>(), problems);
    fixture.options.force = true;
    let image = built(&fixture);
    assert_eq!((image.notes, image.modules), (problems.map(String::from).into(), 2));
}

/// A tree with modules for later, and configuration for two of them.
fn fixture_for_later() -> Fixture {
    let net = module(&["alias=virtio:d1v*", "depends=failover", "softdep=post: crc", "vermagic=6.1.0 x"]);
    let weak = encode(&module(&["weakdep=md5", "firmware=fw/a.bin", "vermagic=6.1.0 x"]), Format::Xz).unwrap();
    let [failover, md5, ext4, other, blk] = [""; 5].map(|_| module(&["vermagic=6.1.0 x", DEPTH]));
    let (tmp, tree) = tree(&[
        ("modules.dep", b"k/net.ko.xz: k/failover.ko\nk/failover.ko:\nk/crc.ko.xz:\nk/md5.ko:\nk/ext4.ko:\nk/other.ko:\nk/virtio_blk.ko:"),
        ("modules.alias", b"alias virtio:d1v* net\n"),
        ("modules.softdep", b"softdep net post: crc\n"),
        ("modules.builtin", b"k/builtin.ko\n"),
        ("modules.builtin.modinfo", b"builtin.alias=virtio:d2*\0"),
        ("k/net.ko.xz", &encode(&net, Format::Xz).unwrap()),
        ("k/failover.ko", &failover),
        ("k/crc.ko.xz", &weak),
        ("k/md5.ko", &md5),
        ("k/ext4.ko", &ext4),
        ("k/other.ko", &other),
        ("k/virtio_blk.ko", &blk),
    ]);
    let [config, more, firmware, init] = ["config", "more", "firmware", "modest"].map(|name| tmp.path().join(name));
    for (dir, text) in [(&config, "options net a=1\n"), (&more, "options net a=2\n")] {
        fs::create_dir(dir).unwrap();
        fs::write(dir.join("net.conf"), text).unwrap();
    }
    fs::create_dir_all(firmware.join("fw")).unwrap();
    fs::write(firmware.join("fw/a.bin"), "").unwrap();
    fs::write(&init, "#!/bin/sh\n").unwrap();
    let config = vec![config, more];
    let options = Options { firmware: Some(firmware), config, ..Options::new(init) };
    Fixture { tmp, tree, options }
}

fn names(image: &Image) -> Vec<String> {
    let files = entries(&image.bytes).into_iter().filter(|(_, mode, ..)| mode & S_IFMT == S_IFREG);
    files.map(|(name, ..)| name.replace("lib/modules/6.1.0/", "")).collect()
}

/// The lines that modprobe would print on the target.
fn on_target(image: &Image, asked: &str) -> Result<String> {
    let target = tempfile::tempdir().unwrap();
    for (name, mode, _, bytes) in entries(&image.bytes) {
        match mode & S_IFMT {
            S_IFDIR => fs::create_dir(target.path().join(name)).unwrap(),
            S_IFREG => fs::write(target.path().join(name), bytes).unwrap(),
            _ => {}
        }
    }
    let tree = Tree::find(target.path()).unwrap();
    assert_eq!(tree.index_dir(), tree.dir);
    let config = target.path().join("etc/modprobe.d");
    let lines = Database::read(&tree, &[&config], "", &mut |line| panic!("{line}")).unwrap().show_depends(asked)?;
    Ok(lines.replace(target.path().to_str().unwrap(), ""))
}

#[test]
fn the_target_finds_what_is_included() {
    let mut fixture = fixture_for_later();
    let without = built(&fixture);
    let loaded = ["etc/modest.manifest", "init", "k/ext4.ko", "k/virtio_blk.ko"];
    assert_eq!((names(&without), without.included), (loaded.map(String::from).into(), 0));

    fixture.options.include = vec!["k/net.ko".into()];
    fixture.options.change.format = Some(Format::Gzip);
    let image = built(&fixture);
    assert_eq!(image.manifest, without.manifest.replace(".ko ", ".ko.gz "));
    assert_eq!((image.modules, image.included, &image.notes[..]), (6, 4, &[][..]));
    assert_eq!(
        names(&image),
        [
            "etc/modest.manifest",
            "etc/modprobe.d/net.conf",
            "init",
            "lib/firmware/fw/a.bin",
            "k/crc.ko.gz",
            "k/ext4.ko.gz",
            "k/failover.ko.gz",
            "k/md5.ko.gz",
            "k/net.ko.gz",
            "k/virtio_blk.ko.gz",
            "modules.alias.bin",
            "modules.builtin.alias.bin",
            "modules.builtin.bin",
            "modules.dep.bin",
            "modules.softdep",
            "modules.symbols.bin",
        ]
    );
    let dir = "/lib/modules/6.1.0/k";
    let net = format!("insmod {dir}/failover.ko.gz \ninsmod {dir}/net.ko.gz a=1 \ninsmod {dir}/crc.ko.gz \n");
    assert_eq!(on_target(&image, "virtio:d1v7").unwrap(), net);
    assert_eq!(on_target(&image, "virtio:d2").unwrap(), "builtin builtin\n");
    assert_eq!(on_target(&image, "ext4").unwrap(), format!("insmod {dir}/ext4.ko.gz \n"));
    assert!(on_target(&image, "other").is_err());

    // Those of the board come first; and the indexes that are made are as good.
    let mut board = board(MINIMAL).unwrap();
    board.include = std::mem::replace(&mut fixture.options.include, vec!["fail-over".into()]);
    let build = |fixture: &Fixture| build(&board, &board.kernels[0], &fixture.tree, &fixture.options);
    let error = format!("{:#}", build(&fixture).unwrap_err());
    assert!(error.starts_with("--include: fail-over: no module") && error.contains("mean failover?"), "{error}");
    fixture.options.include.clear();
    fs::remove_file(fixture.tree.dir.join("modules.dep")).unwrap();
    fixture.tree = Tree::find(&fixture.tree.dir).unwrap();
    assert!(build(&fixture).unwrap().bytes == image.bytes);
}

#[test]
fn a_manifest_that_looks_for_devices_brings_indexes() {
    let mut fixture = fixture_for_later();
    let manifest = |lines: &str| Some(("m".to_string(), format!("crc\n{lines}\next4").into_bytes()));
    let note = "@coldplug finds no more than the manifest loads: nothing is included";
    for (lines, include, notes) in
        [("@coldplug virtio", "", &[note][..]), ("@wait /dev/vda", "", &[]), ("@coldplug", "net", &[])]
    {
        fixture.options.manifest = manifest(lines);
        fixture.options.include = Some(include.to_string()).into_iter().filter(|name| !name.is_empty()).collect();
        let image = built(&fixture);
        assert!(image.manifest.contains(&format!("\n{lines}\n")), "{}", image.manifest);
        assert_eq!(image.notes, notes);
        // The weak dependency of what the manifest loads.
        assert!(names(&image).contains(&"k/md5.ko".into()));
        assert_eq!(on_target(&image, "virtio:d1v7").is_ok(), !include.is_empty());
    }
    fixture.options.manifest = manifest("");
    fixture.options.include.clear();
    assert!(!names(&built(&fixture)).contains(&"modules.dep.bin".into()));
    fixture.options.verbatim_manifest = Some(b"nonsense @x\n@wait /dev/vda\n".into());
    assert!(names(&built(&fixture)).contains(&"modules.dep.bin".into()));
    drop(fixture.tmp);
}

#[test]
fn stripped_modules_have_the_size_that_the_manifest_says() {
    let mut fixture = fixture();
    let whole = strip::tests::module(object::Architecture::Aarch64, "license=GPL\0vermagic=6.1.0 x\0", &[]);
    let signed = [&whole, strip::SIGNATURE_MARKER].concat();
    fs::write(fixture.tree.dir.join("k/ext4.ko"), signed).unwrap();
    fs::write(fixture.tree.dir.join("k/virtio_blk.ko.xz"), encode(&whole, Format::Xz).unwrap()).unwrap();
    fixture.options.change.strip = Some(Strip::Debug);
    // They have no more than stripping looks at.
    fixture.options.force = true;
    let image = built(&fixture);
    assert_eq!(image.notes.last().unwrap(), "1 of 2 modules are signed, and not stripped");
    let entries = entries(&image.bytes);
    let find = |path: &str| &entries.iter().find(|(name, ..)| name.ends_with(path)).unwrap().3;
    let stripped = strip::strip(&whole, Strip::Debug).unwrap();
    assert_eq!(decode(find("k/virtio_blk.ko.xz")).unwrap(), stripped);
    assert!(find("k/ext4.ko").starts_with(&whole));
    assert!(image.manifest.contains(&format!("@optional @size={} ", stripped.len())), "{}", image.manifest);
    assert_eq!(image.modules_saved_bytes, (whole.len() - stripped.len()) as u64);
    // A digest in the image is that of what is there; one that is given is that of what the tree has.
    let [is, was] = [&stripped, &whole].map(|image| crate::module::file::sha256(image));
    fixture.options.pin = true;
    fixture.options.change.format = Some(Format::Gzip);
    let image = built(&fixture);
    let entry = format!("k/virtio_blk.ko.gz @optional @size={} @sha256={is} ", stripped.len());
    assert!(image.manifest.contains(&entry), "{}", image.manifest);
    assert_eq!(image.manifest.lines().filter(|line| line.contains(" @sha256=")).count(), 2, "{}", image.manifest);
    fixture.options.pin = false;
    fixture.options.manifest = Some(("m".into(), format!("virtio_blk @sha256={was}\n").into()));
    let image = built(&fixture);
    assert!(image.manifest.contains(&format!(" @sha256={is}\n")), "{}", image.manifest);
    fixture.options.manifest = Some(("m".into(), format!("virtio_blk @sha256={is}\n").into()));
    let board = board(MINIMAL).unwrap();
    let error = build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap_err().to_string();
    assert_eq!(error, format!("k/virtio_blk.ko.xz: its SHA-256 is {was}, @sha256= says {is}"));
}

#[test]
fn tests_may_add_files_and_write_the_manifest_themselves() {
    let mut fixture = fixture();
    fixture.options.verbatim_manifest = Some(b"@exec /x/y".to_vec());
    fixture.options.extra = vec![
        Extra { path: "/x/y".into(), mode: 0o700, bytes: b"#!".to_vec() },
        Extra { path: "/x/link".into(), mode: 0o120777, bytes: b"y".to_vec() },
    ];
    let entries = entries(&built(&fixture).bytes);
    let find = |path: &str| entries.iter().find(|(name, ..)| name == path).unwrap();
    assert_eq!(find("etc/modest.manifest").3, b"@exec /x/y");
    assert_eq!((find("x/y").1, find("x/link").1, find("x/link").3.as_slice()), (0o100700, 0o120777, &b"y"[..]));
    let board = board(MINIMAL).unwrap();
    let mut refused = |path: &str| {
        fixture.options.extra = vec![Extra { path: path.into(), mode: 0o644, bytes: Vec::new() }];
        build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap_err().to_string()
    };
    assert_eq!(refused("x"), "x: expected an absolute path");
    assert_eq!(refused("/a/../x"), "/a/../x: expected no part that is . or ..");
    assert_eq!(refused("/init/x"), "/init/x: /init is a file, not a folder");
    drop(fixture.tmp);
}

#[test]
fn the_suppliers_of_a_device_tree_go_first() {
    let mut fixture = fixture();
    let files: &[(&str, &[u8])] = &[
        ("modules.dep", b"k/ext4.ko:\nk/virtio_blk.ko:\nk/gpio.ko: k/gpio-lib.ko\nk/gpio-lib.ko:\nk/dma.ko:\n"),
        ("modules.alias", b"alias of:N*T*Cdisk virtio_blk\nalias of:N*T*Cgpio gpio\nalias of:N*T*Cfs ext4\n"),
        ("k/ext4.ko", &module(&[])),
        ("k/virtio_blk.ko", &module(&[DEPTH])),
        ("k/gpio.ko", &module(&["depends=gpio-lib"])),
        ("k/gpio-lib.ko", &module(&[])),
    ];
    let (_tmp, kernel) = tree(files);
    let devices = device_tree::made::tree(
        "gpio@1 { compatible = s:gpio; phandle = n:1; #gpio-cells = n:0 }
        disk@2 { compatible = s:disk; reset-gpios = n:1 }",
    );
    let drivers = device_tree::Drivers::read(&kernel, None).unwrap();
    let mut devices = device_tree::Devices::new(devices, drivers);
    devices.file = "b.dtb".into();
    fixture.tree = kernel;
    fixture.options = Options { devices: Some(devices.into()), firmware: None, ..fixture.options };
    let image = built(&fixture);
    let order: Vec<_> = image.manifest.lines().filter_map(|line| line.strip_prefix("k/")?.split('.').next()).collect();
    assert_eq!(order, ["gpio-lib", "gpio", "ext4", "virtio_blk"]);
    assert_eq!(image.notes, ["suppliers go first, by b.dtb: gpio"]);
    // For a module that is there for later, they are so too.
    fixture.options.manifest = Some(("m".into(), b"ext4\n".into()));
    fixture.options.include = vec!["virtio_blk".into()];
    let image = built(&fixture);
    assert_eq!((image.modules, image.included), (4, 3));
    // Left out by choice, they are a problem.
    fixture.options.add_suppliers = false;
    let board = board(MINIMAL).unwrap();
    let error = build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap_err().to_string();
    let says = "b.dtb: disk@2 (virtio_blk) gets its reset GPIO from gpio@1: gpio is not in the image: list gpio before \
                virtio_blk, or write suppliers = true in the board file";
    assert!(error.ends_with(says), "{error}");
}

#[test]
fn firmware_is_what_the_device_tree_names_too_and_what_the_kernel_can_read() {
    let mut fixture = fixture();
    let alias = b"alias of:N*T*Cdisk virtio_blk\n";
    fs::write(fixture.tree.dir.join("modules.alias"), alias).unwrap();
    let drivers = device_tree::Drivers::read(&fixture.tree, None).unwrap();
    let devices = device_tree::made::tree("disk@2 { compatible = s:disk; firmware-name = s:fw/c.bin }");
    fixture.options.devices = Some(device_tree::Devices::new(devices, drivers).into());
    let image = built(&fixture);
    assert!(entries(&image.bytes).iter().any(|(name, ..)| name == "lib/firmware/fw/c.bin"));
    // fw/a.bin is there in zstd alone.
    let text = "CONFIG_MODULES=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_DEVTMPFS=y\nCONFIG_PROC_FS=y\nCONFIG_SYSFS=y\n";
    let config = crate::kernel::KernelConfig::parse(std::path::Path::new("config"), text);
    fixture.options.kernel_config = Some(config.into());
    fixture.options.compress = Format::Gzip;
    let board = board(MINIMAL).unwrap();
    let error = build(&board, &board.kernels[0], &fixture.tree, &fixture.options).unwrap_err().to_string();
    let firmware = "asks for firmware fw/a.bin, which is there as fw/a.bin.zst; this kernel lacks \
                    CONFIG_FW_LOADER_COMPRESS_ZSTD: decompress it";
    let image = "config: it cannot decompress the image: CONFIG_RD_GZIP is not set: build the kernel with CONFIG_RD_GZIP, or \
                 choose another --compress";
    assert!(error.contains(firmware) && error.contains(image), "{error}");
}
