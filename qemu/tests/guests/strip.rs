//! Stripped modules: for the kernel they are what they were, and it loads them.

use std::collections::BTreeMap;
use std::fs;

use elf::ElfBytes;
use elf::abi::{
    SHF_ALLOC, SHF_LINK_ORDER, SHN_LORESERVE, SHT_NOBITS, SHT_REL, SHT_RELA, STB_LOCAL, STT_FUNC, STT_NOTYPE,
    STT_OBJECT,
};
use elf::endian::AnyEndian;
use mkmodest::board::Board;
use mkmodest::codec;
use mkmodest::disk::MARKER;
use mkmodest::kernel::{KernelPackage, Tree};
use mkmodest::module::strip::{Strip, strip};
use modest_qemu::{Scenario, boards, line, module_file, module_files, project, unsigned};

/// How many modules of each tree are looked at.
const SAMPLE: usize = 120;

/// A section that the kernel maps: all of its header but where its name and content are, and the content.
#[derive(Debug, PartialEq)]
struct Mapped<'i> {
    name: &'i str,
    header: [u64; 6],
    linked: Option<Place>,
    bytes: &'i [u8],
    relocations: Vec<(u64, u32, i64, Option<Symbol<'i>>)>,
}

/// A symbol, with all but its number.
#[derive(Clone, Debug, PartialEq)]
struct Symbol<'i> {
    name: &'i str,
    place: Place,
    kind: (u8, u8, u8),
    value: u64,
    size: u64,
}

/// A section by what does not change.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    /// A mapped section, counted among those.
    Mapped(usize),
    /// Nowhere, or a number that is no section's.
    Special(u16),
    Unmapped,
}

/// All that the kernel uses of a module.
#[derive(Debug, PartialEq)]
struct Linked<'i> {
    header: (u16, u16, u32, u64),
    mapped: Vec<Mapped<'i>>,
    /// Those that other modules, backtraces or probes refer to, in order.
    named: Vec<Symbol<'i>>,
    btf: Option<&'i [u8]>,
}

fn linked(image: &[u8]) -> Linked<'_> {
    let elf = ElfBytes::<AnyEndian>::minimal_parse(image).unwrap();
    let (headers, names) = elf.section_headers_with_strtab().unwrap();
    let headers: Vec<_> = headers.unwrap().iter().collect();
    let name = |at: u32| names.unwrap().get(at as usize).unwrap();
    let is_mapped = |at: usize| headers[at].sh_flags & u64::from(SHF_ALLOC) != 0;
    let place = |number: u16| match number as usize {
        0 => Place::Special(0),
        _ if number >= SHN_LORESERVE => Place::Special(number),
        at if is_mapped(at) => Place::Mapped((0..at).filter(|at| is_mapped(*at)).count()),
        _ => Place::Unmapped,
    };
    let places: Vec<_> = (0..headers.len()).map(|at| place(at as u16)).collect();
    let (table, strings) = elf.symbol_table().unwrap().unwrap();
    let symbols: Vec<_> = table.iter().collect();
    let symbol = |number: usize| {
        let symbol = &symbols[number];
        Symbol {
            name: strings.get(symbol.st_name as usize).unwrap(),
            place: places.get(symbol.st_shndx as usize).copied().unwrap_or(Place::Special(symbol.st_shndx)),
            kind: (symbol.st_bind(), symbol.st_symtype(), symbol.st_vis()),
            value: symbol.st_value,
            size: symbol.st_size,
        }
    };
    let mut relocations: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for header in &headers {
        let target = header.sh_info as usize;
        let named = |number: u32| (number != 0).then(|| symbol(number as usize));
        let of_target = match header.sh_type {
            SHT_REL | SHT_RELA if is_mapped(target) => relocations.entry(target).or_default(),
            _ => continue,
        };
        if header.sh_type == SHT_REL {
            let entries = elf.section_data_as_rels(header).unwrap();
            of_target.extend(entries.map(|r| (r.r_offset, r.r_type, 0, named(r.r_sym))));
        } else {
            let entries = elf.section_data_as_relas(header).unwrap();
            of_target.extend(entries.map(|r| (r.r_offset, r.r_type, r.r_addend, named(r.r_sym))));
        }
    }
    let content = |at: usize| match headers[at].sh_type {
        SHT_NOBITS => &[],
        _ => elf.section_data(&headers[at]).unwrap().0,
    };
    let mapped = |at: usize| {
        let h = &headers[at];
        Mapped {
            name: name(h.sh_name),
            header: [h.sh_type.into(), h.sh_flags, h.sh_addr, h.sh_size, h.sh_addralign.max(1), h.sh_entsize],
            linked: (h.sh_flags & u64::from(SHF_LINK_ORDER) != 0).then(|| places[h.sh_link as usize]),
            bytes: content(at),
            relocations: relocations.get(&at).cloned().unwrap_or_default(),
        }
    };
    let is_named = |symbol: &Symbol| match symbol.kind {
        (STB_LOCAL, STT_FUNC | STT_OBJECT, _) => true,
        (STB_LOCAL, STT_NOTYPE, _) => {
            !symbol.name.is_empty() && !["$", ".L", "L0"].iter().any(|begin| symbol.name.starts_with(begin))
        }
        (STB_LOCAL, ..) => false,
        _ => true,
    };
    Linked {
        header: (elf.ehdr.e_type, elf.ehdr.e_machine, elf.ehdr.e_flags, elf.ehdr.e_entry),
        mapped: (0..headers.len()).filter(|at| is_mapped(*at)).map(mapped).collect(),
        named: (1..symbols.len()).map(symbol).filter(is_named).collect(),
        btf: (0..headers.len()).find(|at| name(headers[*at].sh_name) == ".BTF").map(content),
    }
}

/// Checks every `nth` module of a tree, of which there are so many, against what it is when stripped, and tells the sum.
fn check(tree: &Tree, count: Option<usize>) {
    let mut files = module_files(tree).unwrap();
    files.sort();
    // Small kernels have fewer.
    let step = count.map_or(1, |count| (files.len() / count).max(1));
    let (mut modules, mut before, mut after, mut without_btf) = (0, 0, 0, 0);
    for file in files.iter().step_by(step) {
        let image = codec::decode(&fs::read(tree.dir.join(file)).unwrap()).unwrap();
        let image = unsigned(&image);
        let stripped = strip(image, Strip::Debug).unwrap_or_else(|refusal| panic!("{file}: {refusal}"));
        let mut expected = linked(image);
        assert!(linked(&stripped) == expected, "{file} of {}", tree.release);
        assert!(stripped.len() < image.len(), "{file}");
        assert!(strip(&stripped, Strip::Debug).unwrap() == stripped, "{file}: stripped twice");
        let btf = strip(image, Strip::Btf).unwrap();
        let has_ids = expected.mapped.iter().any(|section| section.name == ".BTF_ids");
        expected.btf = expected.btf.filter(|_| has_ids);
        assert!(linked(&btf) == expected, "{file} of {}", tree.release);
        modules += 1;
        before += image.len();
        after += stripped.len();
        without_btf += btf.len();
    }
    assert!(modules >= count.unwrap_or(1).min(files.len()));
    let [kib, less, less_btf] = [before, after, without_btf].map(|bytes| bytes / 1024);
    let percent = |bytes: usize| 100.0 * (before - bytes) as f64 / before as f64;
    println!(
        "stripped: {}: {modules} modules, {kib} KiB: {less} KiB (-{:.1} %), without BTF {less_btf} KiB (-{:.1} %)",
        tree.release,
        percent(after),
        percent(without_btf)
    );
}

/// Checks the trees of all kernels of all boards.
fn check_all(count: Option<usize>) {
    let mut trees = BTreeMap::new();
    for board in boards().unwrap() {
        let board = Board::read(&project().join("boards").join(format!("{board}.toml"))).unwrap();
        for kernel in &board.kernels {
            let tree = KernelPackage::find(&board, Some(&kernel.name)).unwrap().tree;
            trees.insert(tree.dir.clone(), tree);
        }
    }
    assert!(trees.len() >= 5, "{trees:?}");
    std::thread::scope(|scope| {
        trees.values().for_each(|tree| drop(scope.spawn(move || check(tree, count))));
    });
}

#[test]
fn stripped_modules_link_as_before() {
    check_all(Some(SAMPLE));
}

#[test]
#[ignore = "takes minutes; prints the figures of docs/strip.md"]
fn all_modules_link_as_before() {
    check_all(None);
}

/// The board's modules, stripped, load and lead to the root; the kernel takes unsigned ones and is tainted.
fn boots_stripped(kernel: &str) {
    let mut scenario = Scenario::new("qemu-aarch64", Some(kernel)).unwrap();
    let tmp = tempfile::tempdir().unwrap();
    let tree = tmp.path().join(&scenario.kernel.tree.release);
    fs::create_dir(&tree).unwrap();
    let from = &scenario.kernel.tree.dir;
    for index in ["modules.dep", "modules.builtin", "modules.alias", "modules.softdep"] {
        let text = fs::read_to_string(from.join(index)).unwrap();
        fs::write(tree.join(index), text.replace(".ko.xz", ".ko")).unwrap();
    }
    for name in ["virtio_mmio", "virtio_blk", "crc32c_generic", "ext4", "jbd2", "mbcache", "crc16"] {
        let file = module_file(&scenario.kernel.tree, name).unwrap();
        let file = tree.join(file.strip_suffix(".xz").unwrap_or(&file));
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, unsigned(&scenario.module(name).unwrap())).unwrap();
    }
    scenario.kernel.tree = Tree::find(&tree).unwrap();
    scenario.options.change.strip = Some(Strip::Btf);
    let console = scenario.boot().unwrap().wait_for(MARKER).unwrap();
    let summary = line(&console, "7 loaded, ").unwrap();
    assert!(summary.contains(" 0 failed,"), "{summary}");
}

#[test]
fn stripped_modules_boot() {
    boots_stripped("debian13");
}

#[test]
fn stripped_modules_boot_debian12() {
    boots_stripped("debian12");
}
