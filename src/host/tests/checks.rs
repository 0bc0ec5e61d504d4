//! What is told of modules, held to Debian's kernels: nothing is wrong with what loads, and what is made wrong is told in
//! words.
//!
//! How many modules are read, `MODEST_TEST_MODULES` may say: of each board's kernel.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use elf::ElfBytes;
use elf::endian::AnyEndian;
use mkmodest::board::{self, Board};
use mkmodest::check::{self, Around, Member, Problem};
use mkmodest::codec::{decode, encode};
use mkmodest::image::Initramfs;
use mkmodest::image::{self, Options};
use mkmodest::kernel::files::module_files;
use mkmodest::kernel::{KernelPackage, Tree};
use mkmodest::kernel::{KernelSymbols, TreeSymbols};
use mkmodest::module::info::ModuleInfo;
use mkmodest::module::map::Map;
use modest_loader::format::Format;

fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn board(name: &str) -> Board {
    Board::read(&project().join(format!("boards/{name}.toml"))).unwrap()
}

fn kernel(name: &str, kernel: Option<&str>) -> KernelPackage {
    KernelPackage::find(&board(name), kernel).unwrap()
}

fn image_of(tree: &Tree, file: &str) -> Vec<u8> {
    decode(&std::fs::read(tree.dir.join(file)).unwrap()).unwrap()
}

/// Every so many of a kernel's modules, of all that boards have.
fn sample(of_each: usize) -> Vec<(String, Vec<u8>)> {
    let mut modules = Vec::new();
    for (board, name) in [
        ("qemu-aarch64", None),
        ("qemu-aarch64", Some("debian12")),
        ("qemu-armv7", None),
        ("qemu-armv7", Some("debian12")),
        ("qemu-riscv64", None),
        ("lowram-armv7", None),
    ] {
        let tree = kernel(board, name).tree;
        let files = module_files(&tree.dir).unwrap();
        let wanted = of_each.min(files.len());
        modules.extend((0..wanted).map(|i| {
            let file = &files[i * files.len() / wanted];
            (format!("{}/{file}", tree.release), image_of(&tree, file))
        }));
    }
    modules
}

fn count(default: usize) -> usize {
    let wanted = std::env::var("MODEST_TEST_MODULES");
    wanted.map_or(default, |wanted| wanted.parse().unwrap())
}

/// What another reader finds: needs, versions, exports with CRC and whether they are GPL-only, pairs of `.modinfo`.
type Read = (BTreeSet<String>, Vec<(String, u32)>, BTreeSet<(String, Option<u32>, bool)>, Vec<(String, String)>);

fn read_by_elf(image: &[u8]) -> Read {
    let elf = ElfBytes::<AnyEndian>::minimal_parse(image).unwrap();
    let data = |name: &str| {
        let header = elf.section_header_by_name(name).unwrap();
        header.map_or(&[][..], |header| elf.section_data(&header).unwrap().0)
    };
    let (headers, names) = elf.section_headers_with_strtab().unwrap();
    let (headers, names) = (headers.unwrap(), names.unwrap());
    let section_name = |number: u16| names.get(headers.get(number.into()).unwrap().sh_name as usize).unwrap();
    let (symbols, strings) = elf.symbol_table().unwrap().unwrap();
    let name_of = |symbol: &elf::symbol::Symbol| strings.get(symbol.st_name as usize).unwrap().to_string();
    let undefined = symbols.iter().filter(|s| s.is_undefined() && s.st_bind() != elf::abi::STB_WEAK && s.st_name != 0);
    let word = |bytes: &[u8]| u32::from_le_bytes(*bytes.first_chunk().unwrap());
    let long = if elf.ehdr.class == elf::file::Class::ELF64 { 8 } else { 4 };
    let versions = data("__versions").chunks(64).map(|version| {
        let name = version[long..].split(|b| *b == 0).next().unwrap();
        (str::from_utf8(name).unwrap().into(), word(version))
    });
    let exported = symbols.iter().filter(|s| !s.is_undefined() && name_of(s).starts_with("__ksymtab_"));
    let crcs: HashMap<_, _> = symbols
        .iter()
        .filter(|s| !s.is_undefined())
        .map(|s| (name_of(&s), s))
        .filter(|(name, _)| name.starts_with("__crc_"))
        .collect();
    let exports = exported.map(|symbol| {
        let name = name_of(&symbol)["__ksymtab_".len()..].to_string();
        let crc = crcs.get(&format!("__crc_{name}"));
        let crc = crc.map(|crc| match crc.st_shndx {
            elf::abi::SHN_ABS => crc.st_value as u32,
            number => {
                let header = headers.get(number.into()).unwrap();
                word(&elf.section_data(&header).unwrap().0[crc.st_value as usize..])
            }
        });
        (name, crc, section_name(symbol.st_shndx) == "__ksymtab_gpl")
    });
    let info = data(".modinfo").split(|b| *b == 0).filter_map(|pair| {
        let (key, value) = str::from_utf8(pair).ok()?.split_once('=')?;
        Some((key.into(), value.into()))
    });
    (undefined.map(|s| name_of(&s)).collect(), versions.collect(), exports.collect(), info.collect())
}

#[test]
fn modules_tell_what_another_reader_finds() {
    let (mut exporting, mut with_parameters) = (0, 0);
    let sample = sample(count(60));
    for (file, image) in &sample {
        let info = ModuleInfo::read(image);
        assert_eq!(info.fault, None, "{file}");
        let (needs, versions, exports, pairs) = read_by_elf(image);
        assert_eq!(info.needs.iter().cloned().collect::<BTreeSet<_>>(), needs, "{file}");
        assert_eq!(info.versions, versions, "{file}");
        let ours = info.exports.iter().map(|export| (export.name.clone(), export.crc, export.gpl_only));
        assert_eq!(ours.collect::<BTreeSet<_>>(), exports, "{file}");
        let values =
            |key: &str| pairs.iter().filter(|(k, _)| k == key).map(|(_, value)| value.clone()).collect::<Vec<_>>();
        assert_eq!(info.vermagic, values("vermagic").first().cloned(), "{file}");
        assert_eq!(info.license, values("license").first().cloned(), "{file}");
        assert_eq!((&info.firmware, &info.imports), (&values("firmware"), &values("import_ns")), "{file}");
        let typed = info.parameters.iter().filter_map(|p| Some(format!("{}:{}", p.name, p.kind.as_ref()?)));
        assert_eq!(typed.collect::<BTreeSet<_>>(), values("parmtype").into_iter().collect(), "{file}");
        assert_eq!(info.unnamed_parameters, 0, "{file}");
        assert_eq!(check::module(file, &info), [], "{file}");
        exporting += usize::from(!info.exports.is_empty());
        with_parameters += usize::from(!info.parameters.is_empty());
        let map = Map::of(image, &info).unwrap();
        let kept = map.groups.iter().filter(|group| group.name != "percpu").map(|group| group.bytes).sum::<u64>();
        assert_eq!(map.core_bytes + map.init_bytes, kept, "{file}");
        assert!(map.core_bytes > 0, "{file}");
    }
    assert!(sample.len() > 300 && exporting > 30 && with_parameters > 30, "{exporting} {with_parameters}");
}

/// The letters and values of nm(1), for symbols that it tells.
#[test]
fn letters_are_those_of_nm() {
    for (board, nm) in [
        ("qemu-aarch64", "aarch64-linux-gnu-nm"),
        ("qemu-armv7", "arm-linux-gnueabihf-nm"),
        ("qemu-riscv64", "riscv64-linux-gnu-nm"),
    ] {
        let Ok(_) = std::process::Command::new(nm).arg("--version").output() else {
            eprintln!("{nm} is not there");
            continue;
        };
        let tree = kernel(board, None).tree;
        let image = image_of(&tree, "kernel/fs/jbd2/jbd2.ko.xz");
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, &image).unwrap();
        let output = std::process::Command::new(nm).arg(file.path()).output().unwrap();
        let mut theirs: Vec<_> = str::from_utf8(&output.stdout)
            .unwrap()
            .lines()
            .filter_map(|line| {
                let mut words = line.split_whitespace().rev();
                let (name, letter) = (words.next()?, words.next()?);
                (!name.starts_with('$')).then(|| format!("{letter} {name}"))
            })
            .collect();
        let map = Map::of(&image, &ModuleInfo::read(&image)).unwrap();
        let mut ours: Vec<_> = map.symbols.iter().map(|symbol| format!("{} {}", symbol.letter, symbol.name)).collect();
        ours.sort();
        theirs.sort();
        assert!(ours.len() > 500);
        assert_eq!(ours, theirs, "{board}");
    }
}

#[test]
fn no_board_has_a_problem() {
    let mut checked = 0;
    for name in board::names(&project().join("boards")).unwrap() {
        let board = board(&name);
        for spec in &board.kernels {
            let kernel = KernelPackage::find(&board, Some(&spec.name)).unwrap();
            let (symbols, notes) = KernelSymbols::find(&kernel.tree, Some(&kernel));
            assert_eq!(notes, [""; 0], "{name}");
            let symbols = Some(Arc::new(symbols.unwrap()));
            let options = Options { symbols, ..Options::new("none".into()) };
            let report = image::check(&board, spec, &kernel.tree, &options).unwrap();
            assert!(report.modules.len() >= 3 && report.modules.iter().all(|module| module.info.machine.is_some()));
            assert_eq!(report.problems, [], "{name} {}", spec.name);
            checked += 1;
        }
    }
    assert!(checked >= 10);
}

/// The modules of ext4 on aarch64, and what is around them.
struct Set {
    kernel: KernelPackage,
    tree: TreeSymbols,
    modules: Vec<(String, Vec<u8>, String)>,
}

const CRC16: &str = "kernel/lib/crc16.ko.xz";
const MBCACHE: &str = "kernel/fs/mbcache.ko.xz";
const JBD2: &str = "kernel/fs/jbd2/jbd2.ko.xz";
const EXT4: &str = "kernel/fs/ext4/ext4.ko.xz";
const BLK: &str = "kernel/drivers/block/virtio_blk.ko.xz";

impl Set {
    fn new(files: &[&str]) -> Set {
        let kernel = kernel("qemu-aarch64", None);
        let tree = TreeSymbols::of(&kernel.tree);
        let modules = files.iter().map(|file| (file.to_string(), image_of(&kernel.tree, file), String::new()));
        Set { modules: modules.collect(), kernel, tree }
    }

    fn ext4() -> Set {
        Set::new(&[CRC16, MBCACHE, JBD2, EXT4, BLK])
    }

    fn image(&mut self, file: &str) -> &mut Vec<u8> {
        &mut self.modules.iter_mut().find(|(other, ..)| other == file).unwrap().1
    }

    /// Puts another text of the same length in place of each of that one.
    fn replace(&mut self, file: &str, from: &str, to: &str) {
        assert_eq!(from.len(), to.len());
        let image = self.image(file);
        let places: Vec<_> = memchr::memmem::find_iter(&image[..], from).collect();
        assert!(!places.is_empty());
        for at in places {
            image[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }

    fn says_with(&self, symbols: Option<&KernelSymbols>) -> Vec<String> {
        let info: Vec<_> = self.modules.iter().map(|(_, image, _)| ModuleInfo::read(image)).collect();
        let members = self.modules.iter().zip(&info);
        let members: Vec<_> = members.map(|((file, _, params), info)| Member { file, info, params }).collect();
        let around = Around {
            release: Some(&self.kernel.tree.release),
            kernel: symbols,
            tree: Some(&self.tree),
            ..Around::default()
        };
        check::set(&members, &[], around).iter().map(Problem::to_string).collect()
    }

    fn says(&self) -> Vec<String> {
        self.says_with(None)
    }
}

fn crc(info: &ModuleInfo, symbol: &str) -> String {
    format!("{:#010x}", info.version(symbol).unwrap())
}

#[test]
fn a_symbol_of_none_before_is_told_with_who_has_it() {
    let mut set = Set::ext4();
    assert_eq!(set.says(), [""; 0]);
    set.modules.remove(0);
    let lacks = "needs symbol crc16, which nothing loaded before exports; kernel/lib/crc16.ko.xz does";
    assert_eq!(set.says(), [format!("{EXT4}: {lacks}: list it before")]);
    let mut set = Set::ext4();
    set.modules.rotate_left(1);
    assert_eq!(set.says(), [format!("{EXT4}: {lacks}, which is loaded later: list it before")]);
    set.modules.retain(|(file, ..)| file == EXT4);
    let says = set.says();
    assert_eq!(says.len(), 3, "{says:?}");
    assert!(says.iter().any(|line| line.starts_with(&format!("{EXT4}: needs symbols jbd2__journal_restart, "))
        && line.contains(" more, which ")));
}

#[test]
fn a_symbol_that_the_kernel_lacks_is_told() {
    let mut set = Set::ext4();
    let kernel = KernelSymbols::read(&set.kernel.image()).unwrap();
    assert_eq!(set.says_with(Some(&kernel)), [""; 0]);
    set.replace(MBCACHE, "\0shrinker_alloc\0", "\0shrinker_qlloc\0");
    set.replace(MBCACHE, "\0kmalloc_caches\0", "\0kmalloc_cacheq\0");
    let says = set.says_with(Some(&kernel));
    let file = set.kernel.image().display().to_string();
    let end = format!(
        ", which neither the kernel ({file}) nor a module exports: build it for this kernel, or add the module that exports it"
    );
    assert_eq!(says[0], format!("{MBCACHE}: needs symbols kmalloc_cacheq, shrinker_qlloc{end}"));
    assert_eq!(set.says(), [""; 0]);
    // By a Module.symvers, CRCs and licenses of the kernel's are known too.
    let info = ModuleInfo::read(set.image(BLK));
    let tmp = tempfile::tempdir().unwrap();
    let symvers = tmp.path().join("Module.symvers");
    let line = |(name, crc): &(String, u32)| {
        let crc = if name == "module_layout" { crc ^ 1 } else { *crc };
        let kind = if name == "memmove" { "EXPORT_SYMBOL_GPL\tSPACE" } else { "EXPORT_SYMBOL\t" };
        format!("{crc:#010x}\t{name}\tvmlinux\t{kind}\n")
    };
    std::fs::write(&symvers, info.versions.iter().map(line).collect::<String>()).unwrap();
    set.modules.retain(|(file, ..)| file == BLK);
    set.replace(BLK, "\0license=GPL\0", "\0license=BSD\0");
    let kernel = KernelSymbols::read(&symvers).unwrap();
    let layout = info.version("module_layout").unwrap();
    assert_eq!(
        set.says_with(Some(&kernel)),
        [
            format!(
                "{BLK}: its license is BSD, and it uses memmove, which the kernel exports for GPL-compatible modules only: do \
                 without it, or state the license that the module has (MODULE_LICENSE)"
            ),
            format!(
                "{BLK}: it does not import the name space SPACE, in which the kernel exports memmove: add \
                 MODULE_IMPORT_NS(SPACE) to it"
            ),
            format!(
                "{BLK}: wants symbol module_layout with CRC {layout:#010x}; the kernel has it with {:#010x}: take all modules from \
                 one build",
                layout ^ 1
            ),
        ]
    );
}

#[test]
fn modules_of_other_builds_are_told() {
    let mut set = Set::ext4();
    let old = kernel("qemu-aarch64", Some("debian12")).tree;
    let image = image_of(&old, "kernel/fs/mbcache.ko");
    let (ours, theirs) = (ModuleInfo::read(set.image(MBCACHE)), ModuleInfo::read(&image));
    *set.image(MBCACHE) = image;
    let says = set.says();
    let vermagic = |info: &ModuleInfo| format!("{:?}", info.vermagic.clone().unwrap());
    let built = says.iter().find(|line| line.contains("built for")).unwrap();
    assert!(built.starts_with(&format!(
        "{MBCACHE}: built for {}; the other modules are for {}",
        vermagic(&theirs),
        vermagic(&ours)
    )));
    assert!(built.ends_with(": take all modules from one build"), "{built}");

    // Of the same vermagic, but another version of the kernel's structures.
    let mut set = Set::ext4();
    let wants = crc(&ours, "module_layout");
    let place = memchr::memmem::find(set.image(MBCACHE), b"module_layout\0").unwrap() - 8;
    let at = memchr::memmem::rfind(set.image(MBCACHE), b"\0module_layout\0").map_or(place, |at| at + 1 - 8);
    set.image(MBCACHE)[at] ^= 0xff;
    let has = crc(&ModuleInfo::read(set.image(MBCACHE)), "module_layout");
    assert_ne!(has, wants);
    assert_eq!(
        set.says(),
        [format!(
            "{MBCACHE}: wants symbol module_layout with CRC {has}; the other modules want {wants}: take all modules from one build"
        )]
    );

    // Another crc16 than that in the set.
    let mut set = Set::ext4();
    let ext4 = ModuleInfo::read(set.image(EXT4));
    let wants = crc(&ext4, "crc16");
    let at = memchr::memmem::find_iter(&set.image(EXT4)[..], b"crc16\0").collect::<Vec<_>>();
    let at = at.into_iter().find(|at| set.image(EXT4)[at - 8..at - 4] == ext4.version("crc16").unwrap().to_le_bytes());
    set.image(EXT4)[at.unwrap() - 8] ^= 0xff;
    let has = crc(&ModuleInfo::read(set.image(EXT4)), "crc16");
    assert_eq!(
        set.says(),
        [format!(
            "{EXT4}: wants symbol crc16 with CRC {has}; {CRC16} exports it with {wants}: take both from one build"
        )]
    );

    let mut set = Set::ext4();
    let riscv = kernel("qemu-riscv64", None).tree;
    *set.image(MBCACHE) = image_of(&riscv, MBCACHE);
    let says = set.says();
    let other = "built for RISC-V (64 bits); the other modules are for AArch64: take it from a kernel for AArch64";
    assert_eq!(says[0], format!("{MBCACHE}: {other}"));
}

#[test]
fn what_is_there_twice_is_told() {
    let mut set = Set::ext4();
    let again = ("extra/crc16.ko".to_string(), set.image(CRC16).clone(), String::new());
    set.modules.push(again);
    assert_eq!(set.says(), [format!("extra/crc16.ko: it is module crc16, and so is {CRC16}: leave one of them out")]);
    let image = &mut set.modules.last_mut().unwrap().1;
    let at = memchr::memmem::rfind(image, &[&b"crc16"[..], &[0; 40]].concat()).unwrap();
    image[at..at + 5].copy_from_slice(b"crc17");
    assert_eq!(
        set.says(),
        [format!("extra/crc16.ko: it exports symbol crc16, and so does {CRC16}: leave one of them out")]
    );
}

#[test]
fn licenses_and_name_spaces_are_held_to_exports() {
    const CORE: &str = "kernel/drivers/hwmon/pmbus/pmbus_core.ko.xz";
    const USER: &str = "kernel/drivers/hwmon/pmbus/ltc2978.ko.xz";
    let mut set = Set::new(&[CORE, USER]);
    assert_eq!(set.says(), [""; 0]);
    set.replace(USER, "\0import_ns=PMBUS\0", "\0import_ns=PMBUX\0");
    let says = set.says();
    assert_eq!(says.len(), 1);
    let start = format!("{USER}: it does not import the name space PMBUS, in which {CORE} exports ");
    let end = " more: add MODULE_IMPORT_NS(PMBUS) to it";
    assert!(says[0].starts_with(&start) && says[0].ends_with(end), "{says:?}");
    let mut set = Set::new(&[CORE, USER]);
    set.replace(USER, "\0license=GPL\0", "\0license=BSD\0");
    let says = set.says();
    assert!(says[0].starts_with(&format!("{USER}: its license is BSD, and it uses ")), "{says:?}");
    assert!(says[0].contains(&format!(", which {CORE} exports for GPL-compatible modules only")), "{says:?}");
}

#[test]
fn parameters_are_those_that_the_module_has() {
    let mut set = Set::ext4();
    let mut says = |params: &str| {
        set.modules.last_mut().unwrap().2 = params.into();
        set.says()
    };
    assert_eq!(says("queue-depth=64 poll_queues=0x2 async_probe dyndbg=+p num_request_queues=\"3\" -- x=1"), [""; 0]);
    assert_eq!(
        says("qdepth=64"),
        [format!("{BLK}: parameter `qdepth` unknown; it has `queue_depth` (uint): write `queue_depth=`")]
    );
    assert_eq!(
        says("xyz"),
        [format!(
            "{BLK}: parameter `xyz` unknown; it has `queue_depth` (uint), `poll_queues` (uint), `num_request_queues` (uint): write \
             one of these; if `xyz` is a module, write one module to a line"
        )]
    );
    let end = "write a number from 0 to 4294967295";
    for (params, shown) in [
        ("queue_depth=", "nothing"),
        ("queue_depth=-1", "`-1`"),
        ("queue_depth=many", "`many`"),
        ("queue_depth=08", "`08`"),
    ] {
        assert_eq!(says(params), [format!("{BLK}: parameter `queue_depth` (uint) cannot be {shown}: {end}")]);
    }
    let value = "parameter `queue_depth` (uint) has no value: write `queue_depth=VALUE`, a number from 0 to 4294967295";
    assert_eq!(says("queue_depth"), [format!("{BLK}: {value}")]);
}

#[test]
fn an_initramfs_is_held_to_its_manifest() {
    let board = board("qemu-aarch64");
    let kernel = kernel("qemu-aarch64", None);
    let tmp = tempfile::tempdir().unwrap();
    let init = tmp.path().join("init");
    std::fs::write(&init, "#!/bin/sh\n").unwrap();
    let mut options = Options::new(init);
    options.include = vec!["dummy".into()];
    let image = image::build(&board, &board.kernels[0], &kernel.tree, &options).unwrap();
    let symbols = KernelSymbols::read(&kernel.image()).unwrap();
    let report = Initramfs::read(&image.bytes).unwrap().check(Some(&symbols)).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.modules.len(), image.modules);
    // Compressed, and behind another, as firmware of a processor is.
    let dir = format!("/lib/modules/{}", kernel.tree.release);
    let manifest = "nonsense @x\nkernel/fs/ext4/ext4.ko.xz\nkernel/none.ko\ndummy numdummies=x\nnone\n";
    options.verbatim_manifest = Some(format!("@root {dir}\n{manifest}").into());
    let image = image::build(&board, &board.kernels[0], &kernel.tree, &options).unwrap().bytes;
    let early = &image::build(&board, &board.kernels[0], &kernel.tree, &options).unwrap().bytes;
    let whole = [&early[..], &[0; 512], &encode(&image, Format::Zstd).unwrap()].concat();
    let report = Initramfs::read(&whole).unwrap().check(None).unwrap();
    let says: Vec<_> = report.problems.iter().map(Problem::to_string).collect();
    let missing = "put it into the image, or leave it out of the manifest";
    let at = |line: usize| format!("/etc/modest.manifest:{line}");
    assert_eq!(says[1], format!("{}: there is no file {dir}/kernel/none.ko: {missing}", at(4)));
    assert!(says[0].starts_with(&format!("{}: unknown attribute @x; expected", at(2))), "{}", says[0]);
    assert_eq!(says[2], format!("{}: none: no module and no alias of that name: {missing}", at(6)));
    let lacks = "needs symbol crc16, which nothing loaded before exports";
    let crc16 = format!("{dir}/{EXT4}: {lacks}; {dir}/{CRC16} does, which is loaded later: list it before");
    assert!(says.contains(&crc16), "{says:#?}");
    assert!(
        says.iter().any(|line| line.contains("dummy.ko.xz: parameter `numdummies` (int) cannot be `x`")),
        "{says:#?}"
    );
    for wrong in [&whole[..whole.len() - 100], b"text", &early[..early.len() - 200]] {
        assert!(Initramfs::read(wrong).is_err());
    }
}

#[test]
fn json_is_what_lines_are() {
    let tree = kernel("qemu-aarch64", None).tree;
    let module = tree.dir.join("kernel/lib/crc16.ko.xz");
    let licence = project().join("LICENSE-MIT");
    let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_mkmodest"));
    let output = check.args(["check", "--json"]).args([&module, &licence]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let info = ModuleInfo::read(&image_of(&tree, "kernel/lib/crc16.ko.xz"));
    let told = &report["modules"][0];
    assert_eq!(told["file"], module.to_str().unwrap());
    assert_eq!((&told["name"], &told["machine"], &told["signed"]), (&"crc16".into(), &"AArch64".into(), &true.into()));
    assert_eq!(told["vermagic"].as_str(), info.vermagic.as_deref());
    let exports =
        told["exports"].as_array().unwrap().iter().map(|export| (export["name"].as_str(), export["crc"].as_u64()));
    let expected = info.exports.iter().map(|export| (Some(export.name.as_str()), export.crc.map(u64::from)));
    assert_eq!(exports.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    assert!(info.exports.iter().any(|export| export.name == "crc16"));
    let [problem] = &report["problems"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((&problem["level"], &problem["kind"]), (&"problem".into(), &"elf".into()));
    assert_eq!(problem["cause"], report["modules"][1]["fault"]);
    assert!(problem["cause"].as_str().unwrap().starts_with("the file is not a module: it begins with "), "{problem}");
}
